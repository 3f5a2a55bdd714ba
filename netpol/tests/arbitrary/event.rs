//! What can happen to a cluster, one thing after another: everything is taken from few names, so that it happens to the same
//! objects again and again.

use std::collections::BTreeMap;

use super::*;
use k8s_openapi::api::core::v1::Service;
use ringfence_netpol::cluster::{Key, Observed};

/// One change, as a watch tells it.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few of them at a time")]
pub enum Event {
    Namespace(core::Namespace),
    NoNamespace(&'static str),
    Pod(core::Pod),
    NoPod(Key),
    Policy(NetworkPolicy),
    NoPolicy(Key),
    Service(Service),
    NoService(Key),
    /// The pods were listed anew.
    Pods(Vec<core::Pod>),
    Policies(Vec<NetworkPolicy>),
}

impl Event {
    pub fn apply(&self, cluster: &mut Cluster) {
        fn list<K: Observed>(objects: &[K]) -> BTreeMap<Key, K::Entry> {
            let entries = objects.iter().map(|object| (object.key(), object.observe()));
            entries.collect()
        }
        match self {
            Self::Namespace(object) => cluster.apply(object),
            Self::NoNamespace(name) => cluster.namespaces.delete(&Key::cluster(*name)),
            Self::Pod(object) => cluster.apply(object),
            Self::NoPod(key) => cluster.pods.delete(key),
            Self::Policy(object) => cluster.apply(object),
            Self::NoPolicy(key) => cluster.policies.delete(key),
            Self::Service(object) => cluster.apply(object),
            Self::NoService(key) => cluster.services.delete(key),
            Self::Pods(objects) => cluster.reset::<core::Pod>(list(objects)),
            Self::Policies(objects) => cluster.reset::<NetworkPolicy>(list(objects)),
        };
    }
}

pub fn event() -> impl Strategy<Value = Event> {
    let key = |of: &'static str| {
        (select(&NAMESPACES[..]), 0..4_usize).prop_map(move |(ns, n)| Key::new(ns, format!("{of}{n}")))
    };
    prop_oneof![
        2 => select(&NAMESPACES[..]).prop_flat_map(namespace).prop_map(Event::Namespace),
        1 => select(&NAMESPACES[..]).prop_map(Event::NoNamespace),
        6 => named_pod().prop_map(Event::Pod),
        2 => key("pod").prop_map(Event::NoPod),
        6 => named_policy().prop_map(Event::Policy),
        3 => key("p").prop_map(Event::NoPolicy),
        1 => named_service().prop_map(Event::Service),
        1 => key("s").prop_map(Event::NoService),
        1 => prop::collection::vec(named_pod(), 0..6).prop_map(Event::Pods),
        1 => prop::collection::vec(named_policy(), 0..4).prop_map(Event::Policies),
    ]
}

/// A pod under one of few names, at one of few addresses: two may claim the same.
fn named_pod() -> impl Strategy<Value = core::Pod> {
    (0..4_usize, 0..6_usize, prop::bool::weighted(0.9), pod_parts()).prop_map(
        |(name, address, addressed, parts)| {
            let mut pod = pod(address, parts);
            pod.metadata.name = Some(format!("pod{name}"));
            if !addressed {
                pod.status.get_or_insert_default().pod_ips = None;
            }
            pod
        },
    )
}

fn named_policy() -> impl Strategy<Value = NetworkPolicy> {
    (0..4_usize, policy()).prop_map(|(name, (namespace, spec))| {
        object("NetworkPolicy", namespace, &format!("p{name}"), "spec", spec)
    })
}

fn named_service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::btree_set(select(&PORTS[..]), 0..3);
    (select(&NAMESPACES[..]), 0..4_usize, 0..3_usize, ports).prop_map(|(namespace, name, ip, ports)| {
        let ports: Vec<Value> = ports.into_iter().map(|port| json!({"port": port})).collect();
        let spec = json!({"clusterIP": format!("10.96.0.{ip}"), "ports": ports});
        object("Service", namespace, &format!("s{name}"), "spec", spec)
    })
}
