//! A compiler that follows a cluster must be, after every event, where compiling from scratch would have it, and what it says of the
//! way there must lead who listens to the same place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // a test, which may ask the environment

mod arbitrary;

use std::collections::BTreeMap;

use arbitrary::event::{Event, event};
use arbitrary::{NODES, objects};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use ringfence_netpol::cluster::{Cluster, Key, Pod};
use ringfence_netpol::compile::delta::{ANYONE, ClassId, PODS, PortSetId, RulesetId};
use ringfence_netpol::compile::{Compiler, Delta, NodeRules, compile};

/// How many random histories; `PROPTEST_CASES` asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(400),
        ..ProptestConfig::default()
    }
}

/// Who hears of the changes only: all of the rules as the difference from none, but for the decisions, which are beside it.
#[derive(Debug, Default)]
struct Mirror(Delta, BTreeMap<(RulesetId, ClassId), PortSetId>);

impl Mirror {
    fn take(&mut self, delta: &Delta) -> TestCaseResult {
        prop_assert!(delta.granted.is_sorted() && delta.revoked.is_sorted());
        for pair in &delta.revoked {
            prop_assert!(self.1.remove(pair).is_some(), "there was no such decision");
        }
        // What a ruleset had goes with it.
        self.1
            .retain(|(ruleset, _), _| delta.rulesets_gone.binary_search(ruleset).is_err());
        for (pair, set) in &delta.granted {
            prop_assert!(self.1.insert(*pair, *set).is_none(), "a decision changed");
        }
        merge(&mut self.0.port_sets, &delta.port_sets)?;
        merge(&mut self.0.endpoints, &delta.endpoints)?;
        merge(&mut self.0.addresses, &delta.addresses)?;
        merge(&mut self.0.prefixes, &delta.prefixes)?;
        for (port, there) in &delta.services {
            let before = match there {
                true => self.0.services.insert(*port, true),
                false => self.0.services.remove(port),
            };
            prop_assert_ne!(
                before,
                (*there).then_some(true),
                "a Service's port that is as it was is no change"
            );
        }
        self.names_nothing_that_is_gone(delta)
    }

    fn everything(&self) -> Delta {
        let decisions = self.1.iter();
        Delta {
            granted: decisions.map(|(pair, set)| (*pair, *set)).collect(),
            ..self.0.clone()
        }
    }

    /// Opens to every address and prefix what these rules open to it.
    fn says_what_they_say(&self, rules: &NodeRules) -> TestCaseResult {
        let theirs = |ruleset: u32, class: u32| {
            let ports = rules.decisions.get(&(ruleset, class));
            ports.or_else(|| rules.decisions.get(&(ruleset, ANYONE)))
        };
        let own = |ruleset: RulesetId, class: ClassId, any: ClassId| {
            let set = self
                .1
                .get(&(ruleset, class))
                .or_else(|| self.1.get(&(ruleset, any)))?;
            self.0.port_sets[set].as_ref()
        };
        for (key, endpoint) in &self.0.endpoints {
            let (endpoint, canonical) = (endpoint.as_ref().unwrap(), &rules.endpoints[key]);
            let rulesets = [
                (endpoint.ingress, canonical.ingress),
                (endpoint.egress, canonical.egress),
            ];
            for (ruleset, canonical) in rulesets {
                prop_assert_eq!(ruleset.is_some(), canonical.is_some());
                let (Some(ruleset), Some(canonical)) = (ruleset, canonical) else {
                    continue;
                };
                for (address, class) in &self.0.addresses {
                    let class = own(ruleset, class.unwrap(), PODS).cloned().unwrap_or_default();
                    let expected = theirs(canonical, rules.class_of(*address));
                    prop_assert_eq!(class, expected.cloned().unwrap_or_default(), "{}", address);
                }
                for (prefix, class) in &self.0.prefixes {
                    let class = own(ruleset, class.unwrap(), ANYONE).cloned();
                    let expected = theirs(canonical, rules.blocks[prefix]);
                    prop_assert_eq!(class, expected.cloned(), "{}", prefix);
                }
            }
        }
        Ok(())
    }

    fn names_nothing_that_is_gone(&self, delta: &Delta) -> TestCaseResult {
        let endpoints = || self.0.endpoints.values().flatten();
        for ruleset in &delta.rulesets_gone {
            prop_assert!(endpoints().all(|e| e.ingress != Some(*ruleset) && e.egress != Some(*ruleset)));
            prop_assert!(self.1.keys().all(|(named, _)| named != ruleset));
        }
        for class in &delta.classes_gone {
            let places = self.0.addresses.values().chain(self.0.prefixes.values());
            prop_assert!(places.flatten().all(|named| named != class));
            prop_assert!(self.1.keys().all(|(_, named)| named != class));
        }
        prop_assert!(
            self.1.values().all(|set| self.0.port_sets.contains_key(set)),
            "a set of ports is named that nobody told of"
        );
        Ok(())
    }
}

fn merge<K: Ord + Clone, V: PartialEq + Clone + std::fmt::Debug>(
    state: &mut BTreeMap<K, Option<V>>,
    changes: &BTreeMap<K, Option<V>>,
) -> TestCaseResult {
    for (key, value) in changes {
        let before = match value {
            Some(_) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
        prop_assert_ne!(&before.flatten(), value, "what is as it was is no change");
    }
    Ok(())
}

/// Follows events, of which some come together; checks after each update.
fn follow(
    compiler: &mut Compiler,
    node: &str,
    cluster: &mut Cluster,
    steps: &[Vec<Event>],
) -> TestCaseResult {
    let mut mirror = Mirror::default();
    mirror.take(&compiler.snapshot())?;
    for events in steps {
        events.iter().for_each(|event| event.apply(cluster));
        mirror.take(&compiler.update(cluster))?;
        prop_assert_eq!(&mirror.everything(), &compiler.snapshot());
        let rules = compile(cluster, node);
        mirror.says_what_they_say(&rules)?;
        prop_assert_eq!(compiler.rules(), rules);
        prop_assert!(compiler.update(cluster).is_empty(), "nothing happened in between");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn after_every_event_the_rules_are_those_from_scratch(
        objects in objects(),
        steps in prop::collection::vec(prop::collection::vec(event(), 1..4), 1..12),
    ) {
        let mut cluster = objects.cluster();
        let mut compiler = Compiler::new(NODES[0]);
        compiler.update(&cluster);
        prop_assert_eq!(compiler.rules(), compile(&cluster, NODES[0]));
        follow(&mut compiler, NODES[0], &mut cluster, &steps)?;
    }

    #[test]
    fn a_cluster_is_followed_from_its_first_object_and_to_its_last(
        steps in prop::collection::vec(prop::collection::vec(event(), 1..2), 1..30),
    ) {
        let mut cluster = Cluster::default();
        let mut compiler = Compiler::new(NODES[1]);
        follow(&mut compiler, NODES[1], &mut cluster, &steps)?;
        let everything_goes: Vec<Event> = [
            cluster.policies.keys().cloned().map(Event::NoPolicy).collect::<Vec<_>>(),
            cluster.pods.keys().cloned().map(Event::NoPod).collect(),
            cluster.services.keys().cloned().map(Event::NoService).collect(),
        ].concat();
        let steps: Vec<Vec<Event>> = everything_goes.into_iter().map(|event| vec![event]).collect();
        follow(&mut compiler, NODES[1], &mut cluster, &steps)?;
        prop_assert!(compiler.snapshot().is_empty());
    }

    #[test]
    fn the_same_event_twice_is_one(objects in objects(), events in prop::collection::vec(event(), 1..8)) {
        let mut cluster = objects.cluster();
        let mut compiler = Compiler::new(NODES[0]);
        compiler.update(&cluster);
        for event in events {
            event.apply(&mut cluster);
            compiler.update(&cluster);
            event.apply(&mut cluster);
            prop_assert!(compiler.update(&cluster).is_empty());
        }
    }
}

#[test]
fn who_was_away_for_more_than_is_remembered_catches_up() {
    let mut cluster = Cluster::default();
    let mut compiler = Compiler::new("one");
    let pod = |n: u16| Pod {
        node: Some("one".to_owned()),
        uid: n.to_string(),
        addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + u32::from(n)).into()],
        ..Pod::default()
    };
    for n in 0..3000 {
        cluster.pods.apply(Key::new("x", format!("early-{n}")), pod(n));
    }
    assert_eq!(compiler.update(&cluster).endpoints.len(), 3000);
    for n in 0..3000 {
        cluster.pods.delete(&Key::new("x", format!("early-{n}")));
        cluster.pods.apply(Key::new("x", format!("late-{n}")), pod(n));
    }
    assert_eq!(compiler.update(&cluster).endpoints.len(), 6000);
    assert_eq!(compiler.rules(), compile(&cluster, "one"));
}
