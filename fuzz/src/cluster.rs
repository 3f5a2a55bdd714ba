//! Small random clusters in which everything meets everything: few labels, few names, few addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Observed};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::draw::{Draw, NAMESPACES, PORT_NAMES, PORTS, PROTOCOLS, labels, selector};

pub const NODES: [&str; 2] = ["one", "two"];

/// The objects of a cluster.
#[derive(Debug)]
pub struct Objects {
    pub namespaces: Vec<core::Namespace>,
    pub pods: Vec<core::Pod>,
    pub policies: Vec<NetworkPolicy>,
}

/// An object of any of the kinds.
#[derive(Debug, Clone, Copy)]
pub enum Object<'a> {
    Namespace(&'a core::Namespace),
    Pod(&'a core::Pod),
    Policy(&'a NetworkPolicy),
}

impl Objects {
    pub fn draw(draw: &mut Draw<'_>) -> Self {
        let namespaces = NAMESPACES.iter().filter_map(|name| {
            // One that is not known (yet) has pods all the same.
            draw.unless_one_in(12, |draw| {
                let mut labels = labels(draw);
                labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
                typed(json!({"metadata": {"name": name, "labels": labels}}))
            })
        });
        let namespaces = namespaces.collect();
        let count = 1 + draw.up_to(6);
        let pods = (0..count).map(|index| pod(draw, index)).collect();
        let count = draw.up_to(5);
        let policies = (0..count).map(|index| policy(draw, index)).collect();
        Self {
            namespaces,
            pods,
            policies,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Object<'_>> {
        let namespaces = self.namespaces.iter().map(Object::Namespace);
        let pods = self.pods.iter().map(Object::Pod);
        namespaces
            .chain(pods)
            .chain(self.policies.iter().map(Object::Policy))
    }

    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        self.iter().for_each(|object| object.apply(&mut cluster));
        cluster
    }
}

impl Object<'_> {
    pub fn apply(self, cluster: &mut Cluster) {
        fn apply<K: Observed>(cluster: &mut Cluster, object: &K) {
            cluster.apply(object);
        }
        match self {
            Self::Namespace(object) => apply(cluster, object),
            Self::Pod(object) => apply(cluster, object),
            Self::Policy(object) => apply(cluster, object),
        }
    }

    pub fn delete(self, cluster: &mut Cluster) {
        match self {
            Self::Namespace(object) => cluster.delete(object),
            Self::Pod(object) => cluster.delete(object),
            Self::Policy(object) => cluster.delete(object),
        };
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("what is drawn is an object of its kind")
}

fn pod(draw: &mut Draw<'_>, index: usize) -> core::Pod {
    let (v4, v6) = (
        json!({"ip": format!("10.0.{}.{index}", index % 2)}),
        json!({"ip": format!("2001:db8::{index}")}),
    );
    let addresses = match draw.up_to(5) {
        0 => json!([v4]),
        1 => json!([v6]),
        _ => json!([v4, v6]),
    };
    let phase = draw.of(&[
        "Running",
        "Running",
        "Running",
        "Pending",
        "Succeeded",
        "Failed",
        "Unknown",
    ]);
    let port = |draw: &mut Draw<'_>| {
        let (name, number) = (
            draw.unless_one_in(4, |draw| draw.of(&PORT_NAMES)),
            draw.of(&PORTS),
        );
        json!({"name": name, "protocol": draw.unless_one_in(4, |draw| draw.of(&PROTOCOLS)), "containerPort": number})
    };
    let container = json!({"name": "c", "ports": draw.list(2, port)});
    let init = json!({"name": "i", "restartPolicy": draw.unless_one_in(2, |_| "Always"), "ports": draw.list(1, port)});
    typed(json!({
        "metadata": {
            "name": format!("pod{index}"), "namespace": draw.of(&NAMESPACES), "uid": format!("u{index}"), "labels": labels(draw),
            "deletionTimestamp": draw.one_in(8).then_some("2024-01-01T00:00:00Z"),
        },
        "spec": {"nodeName": draw.of(&NODES), "hostNetwork": draw.one_in(10), "containers": [container], "initContainers": [init]},
        "status": {"phase": phase, "podIPs": addresses},
    }))
}

/// A policy that an API server takes.
pub fn policy(draw: &mut Draw<'_>, index: usize) -> NetworkPolicy {
    let types = draw.of(&[
        json!(null),
        json!([]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
        json!(["Egress", "Ingress"]),
        json!(["Egress", "Egress"]),
    ]);
    let rules =
        |draw: &mut Draw<'_>, peers| draw.unless_one_in(3, |draw| draw.list(3, |draw| rule(draw, peers)));
    let spec = json!({
        "podSelector": draw.unless_one_in(12, selector),
        "policyTypes": types,
        "ingress": rules(draw, "from"),
        "egress": rules(draw, "to"),
    });
    let namespace = draw.of(&NAMESPACES);
    typed(json!({"metadata": {"name": format!("p{index}"), "namespace": namespace}, "spec": spec}))
}

fn rule(draw: &mut Draw<'_>, peers: &str) -> Value {
    let drawn = draw.unless_one_in(4, |draw| draw.list(3, peer));
    json!({peers: drawn, "ports": draw.unless_one_in(3, |draw| draw.list(3, port))})
}

fn peer(draw: &mut Draw<'_>) -> Value {
    match draw.up_to(4) {
        0 => json!({"podSelector": selector(draw)}),
        1 => json!({"namespaceSelector": selector(draw)}),
        2 => json!({"namespaceSelector": selector(draw), "podSelector": selector(draw)}),
        _ => json!({"ipBlock": block(draw)}),
    }
}

/// A block about the addresses that pods have, with any prefix length, and what of it is excepted.
fn block(draw: &mut Draw<'_>) -> Value {
    let near = |draw: &mut Draw<'_>| u128::from(draw.byte() % 2) << 8 | u128::from(draw.byte() % 8);
    let (base, bits, lengths) = if draw.one_in(3) {
        (
            (0x2001_0db8_u128 << 96) | near(draw),
            128,
            &[0, 32, 64, 125, 126, 127, 128][..],
        )
    } else {
        (
            (10 << 24) | near(draw),
            32,
            &[0, 8, 16, 23, 24, 29, 30, 31, 32][..],
        )
    };
    let hosts = |length: usize| u128::MAX.checked_shr((128 - bits + length) as u32).unwrap_or(0);
    let net = |address: u128, length: usize| match (bits, address & !hosts(length)) {
        (32, network) => format!("{}/{length}", Ipv4Addr::from(network as u32)),
        (_, network) => format!("{}/{length}", Ipv6Addr::from(network)),
    };
    let length = draw.of(lengths);
    let longer: Vec<usize> = lengths.iter().copied().filter(|other| *other > length).collect();
    let excepts = draw.list(if longer.is_empty() { 0 } else { 2 }, |draw| {
        let address = base ^ (near(draw) & hosts(length));
        net(address, draw.of(&longer))
    });
    json!({"cidr": net(base, length), "except": excepts})
}

fn port(draw: &mut Draw<'_>) -> Value {
    let protocol = draw.unless_one_in(4, |draw| draw.of(&PROTOCOLS));
    match draw.up_to(4) {
        0 => json!({"protocol": protocol}),
        1 | 2 => json!({"protocol": protocol, "port": draw.of(&PORT_NAMES)}),
        _ => {
            let first = draw.of(&PORTS);
            let last = first.saturating_add(draw.of(&[0, 1, 28, 65_000]));
            json!({"protocol": protocol, "port": first, "endPort": draw.unless_one_in(2, |_| last)})
        }
    }
}
