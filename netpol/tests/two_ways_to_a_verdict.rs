//! The naive evaluator and the compiled rules must agree, whatever the cluster, and the compiled rules must not
//! depend on how the cluster came to be what it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // a test, which may ask the environment

mod arbitrary;

use std::collections::BTreeMap;

use arbitrary::{NODES, Objects, objects, outside_address, transport};
use proptest::prelude::*;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{NodeRules, compile, verdict};
use ringfence_netpol::evaluate::{Endpoint, evaluate};

/// How many random clusters; `PROPTEST_CASES` asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(2_000),
        ..ProptestConfig::default()
    }
}

fn compile_all(cluster: &Cluster) -> BTreeMap<&'static str, NodeRules> {
    NODES.map(|node| (node, compile(cluster, node))).into()
}

fn pods(cluster: &Cluster) -> Vec<(&Key, Endpoint<'_>)> {
    cluster
        .pods
        .iter()
        .filter_map(|(key, _)| Some((key, Endpoint::of(cluster, key)?)))
        .collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_compiled_verdict_is_the_evaluators(
        objects in objects(),
        transports in prop::collection::vec(transport(), 1..6),
        outside in prop::collection::vec(outside_address(), 0..3),
    ) {
        let cluster = objects.cluster();
        let nodes = compile_all(&cluster);
        let pods = pods(&cluster);
        let mut endpoints: Vec<Endpoint<'_>> = pods.iter().map(|(_, endpoint)| *endpoint).collect();
        endpoints.extend(outside.into_iter().map(Endpoint::Address));
        for &from in &endpoints {
            for &to in &endpoints {
                if from == to { continue; } // a pod to itself never asks the rules
                for &transport in &transports {
                    prop_assert_eq!(
                        verdict(|node| nodes.get(node), from, to, transport),
                        evaluate(&cluster, from, to, transport),
                        "{:?} -> {:?} {}", from, to, transport
                    );
                }
            }
        }
    }

    #[test]
    fn the_order_and_repetition_of_events_change_nothing(objects in objects(), order in any::<prop::sample::Index>()) {
        let Objects { namespaces, pods, policies } = &objects;
        let mut cluster = Cluster::default();
        // Policies before what they select, pods from the other end, everything twice, and one that comes and goes.
        policies.iter().rev().for_each(|object| { cluster.apply(object); });
        let (late, early) = pods.split_at(order.index(pods.len()));
        early.iter().chain(late).for_each(|object| { cluster.apply(object); });
        namespaces.iter().for_each(|object| { cluster.apply(object); });
        let fleeting = &pods[order.index(pods.len())];
        cluster.delete(fleeting);
        let _ = compile(&cluster, NODES[0]);
        cluster.apply(fleeting);
        policies.iter().chain(policies).for_each(|object| { cluster.apply(object); });
        prop_assert_eq!(compile_all(&cluster), compile_all(&objects.cluster()));
    }

    #[test]
    fn a_policy_more_on_pods_already_isolated_never_removes_an_allow(objects in objects(), transport in transport()) {
        let mut fewer = objects.clone();
        let Some(added) = fewer.policies.pop() else { return Ok(()) };
        let (before, after) = (fewer.cluster(), objects.cluster());
        let isolated: Vec<Key> = compile_all(&before).values()
            .flat_map(|rules| rules.endpoints.iter())
            .filter(|(_, endpoint)| endpoint.ingress.is_some() && endpoint.egress.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for (from_key, from) in pods(&after) {
            for (to_key, to) in pods(&after) {
                let both = isolated.contains(from_key) && isolated.contains(to_key);
                if both && evaluate(&before, from, to, transport).allowed() {
                    prop_assert!(evaluate(&after, from, to, transport).allowed(), "{:?} cut {} -> {}", added, from_key, to_key);
                }
            }
        }
    }
}
