//! For a moment two pods can be seen with one address: a deletion that comes late, an address that was given away soon.

#![allow(clippy::unwrap_used)] // a test

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::compile;
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

fn pod(name: &str, labels: Value, address: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "x", "labels": labels, "uid": name},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address},
    }))
    .unwrap()
}

fn policy(name: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "x"}, "spec": spec})).unwrap()
}

#[test]
fn two_pods_with_one_address_are_peers_only_where_both_would_be() {
    let by = |app: &str| json!([{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]);
    let selects = |role: &str| json!({"matchLabels": {"role": role}});
    let mut cluster = Cluster::default();
    cluster.apply(&pod("first", json!({"role": "first"}), "10.0.0.1"));
    cluster.apply(&pod("both", json!({"role": "both"}), "10.0.0.2"));
    cluster.apply(&policy(
        "first",
        json!({"podSelector": selects("first"), "ingress": by("first")}),
    ));
    cluster.apply(&policy(
        "both",
        json!({"podSelector": selects("both"), "ingress": by("shared")}),
    ));
    let (first, second) = (
        pod("a", json!({"app": "first"}), "10.0.0.9"),
        pod("b", json!({"app": "second"}), "10.0.0.9"),
    );
    let allowed = |cluster: &Cluster, to: &str| {
        let rules = compile(cluster, "node");
        let ingress = rules.endpoints[&Key::new("x", to)].ingress;
        let class = rules.class_of("10.0.0.9".parse().unwrap());
        rules.opens(ingress, class, Transport::Port(Protocol::Tcp, 80))
    };
    cluster.apply(&first);
    assert!(allowed(&cluster, "first"));
    cluster.apply(&second);
    assert!(!allowed(&cluster, "first"), "one of the two is no peer");
    cluster.delete(&second);
    assert!(allowed(&cluster, "first"));

    cluster.apply(&pod("a", json!({"app": "shared"}), "10.0.0.9"));
    cluster.apply(&pod("b", json!({"app": "shared"}), "10.0.0.9"));
    assert!(allowed(&cluster, "both"), "both are peers");
}
