//! Random clusters, small enough that everything meets everything: few labels, few names, few addresses.

#![allow(dead_code, reason = "every test takes what it needs")]

pub mod event;

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::sample::select;
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

pub const NODES: [&str; 2] = ["one", "two"];
const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 2] = ["a", "b"];
const PORT_NAMES: [&str; 2] = ["web", "dns"];
const PORTS: [u16; 4] = [53, 80, 81, 8080];

/// The objects of a cluster, as an API server would hand them out.
#[derive(Debug, Clone)]
pub struct Objects {
    pub namespaces: Vec<core::Namespace>,
    pub pods: Vec<core::Pod>,
    pub policies: Vec<NetworkPolicy>,
}

impl Objects {
    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for object in &self.namespaces {
            cluster.apply(object);
        }
        for object in &self.pods {
            cluster.apply(object);
        }
        for object in &self.policies {
            cluster.apply(object);
        }
        cluster
    }
}

pub fn objects() -> impl Strategy<Value = Objects> {
    let namespaces = NAMESPACES.map(namespace);
    let pods = prop::collection::vec(pod_parts(), 1..8).prop_map(|parts| {
        let numbered = parts.into_iter().enumerate();
        numbered.map(|(index, parts)| pod(index, parts)).collect()
    });
    let policies = prop::collection::vec(policy(), 0..6).prop_map(|specs| {
        let numbered = specs.into_iter().enumerate();
        numbered
            .map(|(index, (namespace, spec))| {
                object("NetworkPolicy", namespace, &format!("p{index}"), "spec", spec)
            })
            .collect()
    });
    (namespaces, pods, policies).prop_map(|(namespaces, pods, policies)| Objects {
        namespaces: namespaces.to_vec(),
        pods,
        policies,
    })
}

pub fn transport() -> impl Strategy<Value = Transport> {
    let port = (
        select(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp][..]),
        select(&[1, 53, 80, 81, 82, 8080, 65535][..]),
    );
    prop_oneof![8 => port.prop_map(|(protocol, port)| Transport::Port(protocol, port)), 1 => Just(Transport::Portless)]
}

/// Addresses in and around the blocks that [`policy`] uses.
pub fn outside_address() -> impl Strategy<Value = IpAddr> {
    select(
        &[
            "10.0.9.9",
            "10.1.0.1",
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "2001:db8::99",
            "2001:db9::1",
        ][..],
    )
    .prop_map(|text| text.parse().expect("an address"))
}

fn object<T: serde::de::DeserializeOwned>(
    kind: &str,
    namespace: &str,
    name: &str,
    field: &str,
    value: Value,
) -> T {
    let metadata = json!({"name": name, "namespace": namespace});
    let object = json!({"kind": kind, "metadata": metadata, field: value});
    serde_json::from_value(object).expect("an object of that kind")
}

fn labels() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..=2)
        .prop_map(|labels| json!(labels))
}

fn namespace(name: &'static str) -> impl Strategy<Value = core::Namespace> {
    labels().prop_map(move |mut labels| {
        labels["kubernetes.io/metadata.name"] = json!(name);
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a namespace")
    })
}

type PodParts = (&'static str, &'static str, Value, &'static str, bool, Value);

fn pod_parts() -> impl Strategy<Value = PodParts> {
    let phase = prop_oneof![8 => Just("Running"), 1 => Just("Succeeded"), 1 => Just("Pending")];
    let ports = prop::collection::btree_map((select(&PORT_NAMES[..]), protocol()), select(&PORTS[..]), 0..3).prop_map(|ports| {
        let port = |((name, protocol), number)| json!({"name": name, "protocol": protocol, "containerPort": number});
        Value::Array(ports.into_iter().map(port).collect())
    });
    (
        select(&NAMESPACES[..]),
        select(&NODES[..]),
        labels(),
        phase,
        prop::bool::weighted(0.1),
        ports,
    )
}

fn pod(index: usize, (namespace, node, labels, phase, host_network, ports): PodParts) -> core::Pod {
    let addresses =
        json!([{"ip": format!("10.0.{}.{index}", index % 2)}, {"ip": format!("2001:db8::{index}")}]);
    serde_json::from_value(json!({
        "metadata": {"name": format!("pod{index}"), "namespace": namespace, "labels": labels, "uid": format!("u{index}")},
        "spec": {"nodeName": node, "hostNetwork": host_network, "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": phase, "podIPs": addresses},
    }))
    .expect("a pod")
}

fn policy() -> impl Strategy<Value = (&'static str, Value)> {
    let types = select(vec![
        json!(null),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    let rules = |peers: &'static str| prop::option::of(prop::collection::vec(rule(peers), 0..3));
    (
        select(&NAMESPACES[..]),
        selector(),
        types,
        rules("from"),
        rules("to"),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            let spec =
                json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress});
            (namespace, spec)
        })
}

fn rule(peers_field: &'static str) -> impl Strategy<Value = Value> {
    let peers = prop::option::of(prop_oneof![
        5 => prop::collection::vec(peer(), 0..3),
        1 => many_blocks(),
    ]);
    let ports = prop::option::of(prop::collection::vec(port(), 0..3));
    (peers, ports).prop_map(move |(peers, ports)| json!({peers_field: peers, "ports": ports}))
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector())
            .prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
        block().prop_map(|block| json!({"ipBlock": block})),
    ]
}

fn block() -> impl Strategy<Value = Value> {
    select(blocks())
}

/// So many that they count as one peer.
fn many_blocks() -> impl Strategy<Value = Vec<Value>> {
    let mut all = blocks();
    all.extend(
        (0..16).map(|host| json!({"cidr": format!("10.0.{}.{}/{}", host % 2, host & !7, 29 + host % 4)})),
    );
    let some = prop::sample::subsequence(all, 6..=14).prop_shuffle();
    some.prop_map(|blocks| {
        blocks
            .into_iter()
            .map(|block| json!({"ipBlock": block}))
            .collect()
    })
}

fn blocks() -> Vec<Value> {
    vec![
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}),
        json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24", "10.0.1.2/31"]}),
        json!({"cidr": "10.0.0.0/16"}),
        json!({"cidr": "10.0.1.3/32"}),
        json!({"cidr": "::/0", "except": ["2001:db8::/32"]}),
        json!({"cidr": "2001:db8::/64", "except": ["2001:db8::2/127"]}),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let number = (protocol(), select(&PORTS[..]), prop::option::of(0..3i32)).prop_map(|(protocol, port, more)| {
        json!({"protocol": protocol, "port": port, "endPort": more.map(|more| i32::from(port) + more)})
    });
    let name = (protocol(), select(&PORT_NAMES[..]))
        .prop_map(|(protocol, name)| json!({"protocol": protocol, "port": name}));
    prop_oneof![3 => number, 2 => name, 1 => protocol().prop_map(|protocol| json!({"protocol": protocol}))]
}

fn protocol() -> impl Strategy<Value = &'static str> {
    select(&["TCP", "UDP", "SCTP"][..])
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = (
        select(&KEYS[..]),
        select(&["In", "NotIn", "Exists", "DoesNotExist"][..]),
        prop::sample::subsequence(&VALUES[..], 1..=2),
    )
        .prop_map(|(key, operator, values)| match operator {
            "In" | "NotIn" => json!({"key": key, "operator": operator, "values": values}),
            _ => json!({"key": key, "operator": operator}),
        });
    prop_oneof![
        1 => Just(json!({})),
        2 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => (labels(), prop::collection::vec(expression, 1..3))
            .prop_map(|(labels, expressions)| json!({"matchLabels": labels, "matchExpressions": expressions})),
    ]
}
