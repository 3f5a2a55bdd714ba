//! Explanations agree with the evaluator, and what they propose does what they say.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

mod arbitrary;

use proptest::prelude::*;
use ringfence_netpol::cluster::{Key, Observed};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::explain::{explain, mends};
use ringfence_netpol::port::Transport;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

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
            for mend in mends(&explanation, (from, to), transport, stored) {
                mended.apply(&mend);
            }
            let (from, to) = (Endpoint::of(&mended, a).unwrap(), Endpoint::of(&mended, b).unwrap());
            prop_assert!(evaluate(&mended, from, to, transport).allowed(), "{} -> {} {}: {:#?}", a, b, transport, explanation);
        }
    }
}
