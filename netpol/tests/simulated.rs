//! What a change of one policy is said to do is the difference between the connections of the whole cluster before and after.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::event::event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use ringfence_netpol::cluster::{Cluster, Observed};
use ringfence_netpol::connections::{Connections, End, Options};
use ringfence_netpol::port::{PortSet, Protocol, Transport};
use ringfence_netpol::simulation::{Bounds, Change, Effect, Outline, simulate};

type Pair = (String, String);

fn connections(cluster: &Cluster) -> BTreeMap<Pair, PortSet> {
    let connections = Connections::of(cluster, Options::default());
    let between = connections.iter().filter_map(|row| match (row.from, row.to) {
        (End::Workload(from), End::Workload(to)) => Some(((from.to_string(), to.to_string()), row.ports)),
        _ => None,
    });
    between.collect()
}

/// The pairs with something that is open in `a` and not in `b`.
fn beyond(a: &BTreeMap<Pair, PortSet>, b: &BTreeMap<Pair, PortSet>) -> BTreeSet<Pair> {
    let more = |pair: &Pair, ports: &PortSet| {
        let other = b.get(pair).cloned().unwrap_or_default();
        ports.union(&other) != other
    };
    a.iter()
        .filter(|(pair, ports)| more(pair, ports))
        .map(|(pair, _)| pair.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_a_change_opens_and_cuts_is_the_difference_of_all_connections(
        objects in arbitrary::objects(),
        which in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        kind in 0..3,
    ) {
        prop_assume!(!objects.policies.is_empty());
        let with = objects.cluster();
        let object = which.get(&objects.policies);
        let key = object.key();
        let mut without = with.clone();
        without.policies.delete(&key);
        let policy = with.policies.get(&key).unwrap().clone();
        // Created, deleted, or turned into what another policy of the same namespace says.
        let (before, after, old, new) = match kind {
            0 => (&without, &with, None, Some(policy)),
            1 => (&with, &without, Some(policy), None),
            _ => {
                let mut turned = other.get(&objects.policies).observe();
                prop_assume!(turned.key.namespace == key.namespace);
                turned.key = key.clone();
                without.policies.apply(key.clone(), turned.clone());
                (&with, &without, Some(policy), Some(turned))
            }
        };
        let bounds = Bounds { pairs: usize::MAX, pods: usize::MAX, counted: usize::MAX, told: usize::MAX };
        let change = Change { key: &key, before: old.as_ref(), after: new.as_ref() };
        let effect = simulate(before, &Outline::of(before), change, bounds);
        let (before, after) = (connections(before), connections(after));
        let pairs = |tally: &ringfence_netpol::simulation::Tally| -> BTreeSet<Pair> {
            assert_eq!(tally.count, tally.first.len());
            tally.first.iter().map(|one| (one.from.clone(), one.to.clone())).collect()
        };
        prop_assert_eq!(pairs(&effect.opened), beyond(&after, &before));
        prop_assert_eq!(pairs(&effect.cut), beyond(&before, &after));
        prop_assert_eq!(effect.opened.count, pairs(&effect.opened).len(), "each is told once");
        prop_assert_eq!(effect.cut.count, pairs(&effect.cut).len(), "each is told once");
        prop_assert!(!effect.incomplete);
        for one in effect.opened.first.iter().chain(&effect.cut.first) {
            let pair = (one.from.clone(), one.to.clone());
            let of = |all: &BTreeMap<Pair, PortSet>| all.get(&pair).cloned().unwrap_or_default();
            let changed = |transport| of(&before).contains(transport) != of(&after).contains(transport);
            for port in [1, 53, 80, 81, 82, 8080, 65535] {
                let transport = Transport::Port(Protocol::Tcp, port);
                if one.ports.contains(transport) {
                    prop_assert!(changed(transport), "{:?} {}", one, transport);
                }
            }
            prop_assert!(!one.ports.to_string().is_empty());
        }
    }
}

/// The change of a policy that is there, or of one that is not, to what another says.
fn changed(cluster: &Cluster, object: &NetworkPolicy, bounds: Bounds, outline: &Outline) -> Effect {
    let (key, after) = (object.key(), object.observe());
    let change = Change {
        key: &key,
        before: cluster.policies.get(&key),
        after: Some(&after),
    };
    simulate(cluster, outline, change, bounds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_outline_that_followed_the_cluster_is_as_good_as_a_new_one(
        objects in arbitrary::objects(),
        events in prop::collection::vec(event(), 1..12),
    ) {
        prop_assume!(!objects.policies.is_empty());
        let mut cluster = objects.cluster();
        let mut followed = Outline::of(&cluster);
        for event in &events {
            event.apply(&mut cluster);
            followed.follow(&cluster);
            prop_assert!(followed.holds(&cluster));
            for object in &objects.policies {
                let of = |outline: &Outline| changed(&cluster, object, Bounds::default(), outline);
                prop_assert_eq!(of(&followed), of(&Outline::of(&cluster)));
            }
        }
    }

    #[test]
    fn what_is_not_all_is_said_to_be_not_all(objects in arbitrary::objects(), pairs in 0..6_usize, counted in 1..6_usize) {
        let cluster = objects.cluster();
        let outline = Outline::of(&cluster);
        for object in &objects.policies {
            let mut turned = object.clone();
            turned.metadata.name = Some("new".to_owned());
            let all = changed(&cluster, &turned, Bounds { counted: usize::MAX, ..Bounds::default() }, &outline);
            let some = changed(&cluster, &turned, Bounds { pairs, counted, ..Bounds::default() }, &outline);
            prop_assert!(!all.incomplete);
            prop_assert!(some.opened.count <= all.opened.count && some.cut.count <= all.cut.count);
            if !some.incomplete {
                prop_assert_eq!(some, all);
            }
        }
    }
}
