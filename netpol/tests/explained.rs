//! Explanations agree with the evaluator, and what they propose does what they say.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

mod arbitrary;

use proptest::prelude::*;
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::explain::{explain, mends};
use ringfence_netpol::policy::Direction;
use ringfence_netpol::port::{Protocol, Transport};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_explanation_agrees_with_the_evaluator_and_its_mends_allow(
        objects in arbitrary::objects(),
        transport in arbitrary::transport(),
    ) {
        let cluster = objects.cluster();
        let keys: Vec<_> = cluster.pods.iter().filter(|(_, pod)| pod.is_governed()).map(|(key, _)| key.clone()).collect();
        for (a, b) in keys.iter().flat_map(|a| keys.iter().map(move |b| (a, b))) {
            let (from, to) = (Endpoint::of(&cluster, a).unwrap(), Endpoint::of(&cluster, b).unwrap());
            let verdict = evaluate(&cluster, from, to, transport);
            let explanation = explain(&cluster, from, to, transport);
            prop_assert_eq!((explanation.egress.allowed(), explanation.ingress.allowed()), (verdict.egress, verdict.ingress));
            if transport == Transport::Portless {
                continue;
            }
            let mut mended = cluster.clone();
            let stored = |key: &Key| objects.policies.iter().find(|policy| policy.key() == *key).cloned();
            let mends = mends(&cluster, &explanation, (from, to), transport, stored);
            for mend in &mends {
                mended.apply(mend);
            }
            let (mended_from, mended_to) = (Endpoint::of(&mended, a).unwrap(), Endpoint::of(&mended, b).unwrap());
            prop_assert!(evaluate(&mended, mended_from, mended_to, transport).allowed(), "{} -> {} {}: {:#?}", a, b, transport, explanation);
            if mends.is_empty() {
                continue;
            }
            // Nothing is lost by it, and nothing is opened but this port between pods like these.
            let alike = |key: &Key, meant: &Key, direction| {
                let labels = &cluster.pods.get(meant).unwrap().labels;
                let has = |key: &Key| {
                    let pod = cluster.pods.get(key).unwrap();
                    labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
                };
                // Where some with its labels are not isolated, those of an isolating policy are taken instead.
                let isolated = |key: &Key| {
                    let pod = cluster.pods.get(key).unwrap();
                    let mut policies = cluster.policies.in_namespace(&key.namespace);
                    policies.any(|(_, policy)| policy.rules(direction).is_some() && policy.pods.matches(&pod.labels))
                };
                let mut namespace = keys.iter().filter(|key| key.namespace == meant.namespace);
                key.namespace == meant.namespace && (has(key) || namespace.any(|key| has(key) && !isolated(key)))
            };
            for other in [transport, Transport::Portless, Transport::Port(Protocol::Tcp, 80), Transport::Port(Protocol::Udp, 53), Transport::Port(Protocol::Tcp, 8080)] {
                for (c, d) in keys.iter().flat_map(|c| keys.iter().map(move |d| (c, d))) {
                    let verdict = |cluster: &Cluster| {
                        evaluate(cluster, Endpoint::of(cluster, c).unwrap(), Endpoint::of(cluster, d).unwrap(), other).allowed()
                    };
                    match (verdict(&cluster), verdict(&mended)) {
                        (true, after) => prop_assert!(after, "{} -> {} {} is lost by {:#?}", c, d, other, mends),
                        (false, true) => prop_assert!(
                            other == transport && alike(c, a, Direction::Egress) && alike(d, b, Direction::Ingress),
                            "{} -> {} {} is opened by a mend for {} -> {} {}: {:#?}", c, d, other, a, b, transport, mends
                        ),
                        (false, false) => {}
                    }
                }
            }
        }
    }
}
