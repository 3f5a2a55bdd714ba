//! The connections of a whole cluster are those that the evaluator allows, pair by pair.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

mod arbitrary;

use std::net::IpAddr;

use proptest::prelude::*;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::connections::{Connections, End, Options};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::port::Transport;

/// Whether the connections hold one from and to ends that these functions recognise.
fn holds(
    connections: &Connections,
    from: impl Fn(End<'_>) -> bool,
    to: impl Fn(End<'_>) -> bool,
    transport: Transport,
) -> bool {
    let mut matching = connections
        .iter()
        .filter(|c| from(c.from) && to(c.to) && c.ports.contains(transport));
    matching.next().is_some()
}

fn is_pod(key: &Key) -> impl Fn(End<'_>) -> bool {
    move |end| matches!(end, End::Workload(w) if w.namespace == key.namespace && w.name == key.name)
}

fn is_address(address: IpAddr) -> impl Fn(End<'_>) -> bool {
    move |end| matches!(end, End::Outside(range) if (range.first..=range.last).contains(&address))
}

fn governed(cluster: &Cluster) -> Vec<Key> {
    let pods = cluster.pods.iter().filter(|(_, pod)| pod.is_governed());
    pods.map(|(key, _)| key.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_connections_are_those_that_the_evaluator_allows(
        objects in arbitrary::objects(),
        transport in arbitrary::transport(),
        address in arbitrary::outside_address(),
    ) {
        let cluster = objects.cluster();
        let connections = Connections::of(&cluster, Options { blocks_match_pods: true, ipv6: true });
        let outside = Endpoint::Address(address);
        for a in governed(&cluster) {
            let endpoint = Endpoint::of(&cluster, &a).unwrap();
            for b in governed(&cluster) {
                if a == b {
                    continue;
                }
                let expected = evaluate(&cluster, endpoint, Endpoint::of(&cluster, &b).unwrap(), transport).allowed();
                prop_assert_eq!(holds(&connections, is_pod(&a), is_pod(&b), transport), expected, "{} -> {}", a, b);
            }
            let expected = evaluate(&cluster, endpoint, outside, transport).allowed();
            prop_assert_eq!(holds(&connections, is_pod(&a), is_address(address), transport), expected, "{} -> {}", a, address);
            let expected = evaluate(&cluster, outside, endpoint, transport).allowed();
            prop_assert_eq!(holds(&connections, is_address(address), is_pod(&a), transport), expected, "{} -> {}", address, a);
        }
    }
}
