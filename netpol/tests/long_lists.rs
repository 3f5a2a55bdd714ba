//! Rules with as many address blocks as people keep lists of.

#![allow(clippy::unwrap_used)] // a test

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{Compiler, compile};
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::json;

const MANY: u32 = 10_000;

fn listed(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + 7 * number)
}

fn lets_in(blocks: u32) -> NetworkPolicy {
    let from: Vec<_> = (0..blocks)
        .map(|number| json!({"ipBlock": {"cidr": format!("{}/32", listed(number))}}))
        .collect();
    let spec = json!({"podSelector": {}, "ingress": [{"from": from, "ports": [{"port": 443}]}]});
    serde_json::from_value(json!({"metadata": {"name": "list", "namespace": "x"}, "spec": spec})).unwrap()
}

fn pod(number: u32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "x", "uid": number.to_string(), "labels": {"n": number.to_string()}},
        "spec": {"nodeName": "node", "containers": []},
        "status": {"phase": "Running", "podIP": format!("10.0.0.{number}")},
    }))
    .unwrap()
}

#[test]
fn ten_thousand_blocks_of_a_rule_are_one_class_and_one_more_of_them_is_one_change() {
    let mut cluster = Cluster::default();
    for number in 1..=50 {
        cluster.apply(&pod(number));
    }
    cluster.apply(&lets_in(MANY));
    let rules = compile(&cluster, "node");
    assert_eq!(
        (rules.blocks.len(), rules.classes.len(), rules.decisions.len()),
        (MANY as usize, 2, 1)
    );
    let ingress = rules.endpoints[&Key::new("x", "pod-1")].ingress;
    let opens = |address: Ipv4Addr| {
        let class = rules.class_of(IpAddr::V4(address));
        rules.opens(ingress, class, Transport::Port(Protocol::Tcp, 443))
    };
    assert!(opens(listed(0)) && opens(listed(MANY - 1)));
    assert!(!opens(listed(MANY)) && !opens(Ipv4Addr::new(11, 0, 0, 1)));

    let mut compiler = Compiler::new("node");
    compiler.update(&cluster);
    cluster.apply(&lets_in(MANY + 1));
    let delta = compiler.update(&cluster);
    let addresses: Vec<String> = delta.prefixes.keys().map(ToString::to_string).collect();
    assert!(
        addresses == [format!("{}/32", listed(MANY))],
        "{} prefixes",
        addresses.len()
    );
    // The one that went did so with its ruleset.
    assert_eq!(
        (
            delta.granted.len(),
            delta.rulesets_gone.len(),
            delta.revoked.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(compiler.rules(), compile(&cluster, "node"));
}
