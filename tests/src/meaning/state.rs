//! The cluster of a case: as events to one that is watched, and as manifests for the command line.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key, NAMESPACE_NAME, Observed};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The node that pods are on that name no other.
pub const NODE: &str = "node";

/// A pod as a case writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Pod {
    labels: BTreeMap<String, String>,
    /// Name → number, or `PROTOCOL/number`.
    ports: BTreeMap<String, PortOfPod>,
    address: Option<String>,
    phase: Option<String>,
    host_network: bool,
    terminating: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum PortOfPod {
    Number(u16),
    Text(String),
}

/// The objects that are there, by kind and name.
#[derive(Debug, Default)]
pub struct State {
    objects: BTreeMap<(&'static str, String), Value>,
    /// Every pod's own address, which it keeps.
    addresses: BTreeMap<String, String>,
}

/// How a kind's objects reach a cluster.
pub(super) trait Change: Observed + DeserializeOwned {}
impl<K: Observed + DeserializeOwned> Change for K {}

/// `NAMESPACE/NAME` as a key.
pub(super) fn key(text: &str) -> anyhow::Result<Key> {
    let (namespace, name) = text
        .split_once('/')
        .with_context(|| format!("{text} is no namespace/name"))?;
    Ok(Key::new(namespace, name))
}

impl State {
    pub fn namespace(
        &mut self,
        name: &str,
        labels: Option<&BTreeMap<String, String>>,
        cluster: &mut Cluster,
    ) -> anyhow::Result<()> {
        let object = labels.map(|labels| {
            let mut labels = labels.clone();
            labels.insert(NAMESPACE_NAME.to_owned(), name.to_owned());
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        });
        self.change::<core::Namespace>("Namespace", name, object, cluster)
    }

    pub fn pod(&mut self, name: &str, pod: Option<&Pod>, cluster: &mut Cluster) -> anyhow::Result<()> {
        let key = key(name)?;
        let next = format!("10.244.0.{}", self.addresses.len() + 1);
        let own = self.addresses.entry(name.to_owned()).or_insert(next).clone();
        let object = pod.map(|pod| {
            let ports: Vec<Value> = pod.ports.iter().map(|(name, port)| port.container_port(name)).collect();
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": key.name, "namespace": key.namespace, "labels": pod.labels, "uid": name,
                    "deletionTimestamp": pod.terminating.then_some("2024-01-01T00:00:00Z"),
                },
                "spec": {"nodeName": NODE, "hostNetwork": pod.host_network, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": pod.phase.as_deref().unwrap_or("Running"), "podIP": pod.address.as_ref().unwrap_or(&own)},
            })
        });
        self.change::<core::Pod>("Pod", name, object, cluster)
    }

    pub fn policy(&mut self, name: &str, spec: Option<&Value>, cluster: &mut Cluster) -> anyhow::Result<()> {
        let key = key(name)?;
        let object = spec.map(|spec| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": key.name, "namespace": key.namespace}, "spec": spec,
            })
        });
        self.change::<NetworkPolicy>("NetworkPolicy", name, object, cluster)
    }

    /// Services are for the command line alone: to the others a packet comes with its real destination.
    pub fn service(&mut self, name: &str, spec: Option<&Value>) -> anyhow::Result<()> {
        let key = key(name)?;
        if let Some(spec) = spec {
            let metadata = json!({"name": key.name, "namespace": key.namespace});
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
            self.objects.insert(("Service", name.to_owned()), object);
        }
        Ok(())
    }

    fn change<K: Change>(
        &mut self,
        kind: &'static str,
        name: &str,
        object: Option<Value>,
        cluster: &mut Cluster,
    ) -> anyhow::Result<()> {
        let at = (kind, name.to_owned());
        let read = |value: &Value| {
            serde_json::from_value::<K>(value.clone()).with_context(|| format!("{kind} {name}"))
        };
        match object {
            Some(object) => {
                cluster.apply(&read(&object)?);
                self.objects.insert(at, object);
            }
            None => {
                let gone = self
                    .objects
                    .remove(&at)
                    .with_context(|| format!("there is no {kind} {name} to delete"))?;
                cluster.delete(&read(&gone)?);
            }
        }
        Ok(())
    }

    /// The cluster, built at once.
    ///
    /// # Errors
    /// If an object is not what its kind says.
    pub fn cluster(&self) -> anyhow::Result<Cluster> {
        fn apply<K: Change>(cluster: &mut Cluster, object: &Value) -> anyhow::Result<()> {
            cluster.apply(&serde_json::from_value::<K>(object.clone())?);
            Ok(())
        }
        let mut cluster = Cluster::default();
        for ((kind, _), object) in self.objects.iter().rev() {
            match *kind {
                "Namespace" => apply::<core::Namespace>(&mut cluster, object)?,
                "Pod" => apply::<core::Pod>(&mut cluster, object)?,
                "NetworkPolicy" => apply::<NetworkPolicy>(&mut cluster, object)?,
                _ => {}
            }
        }
        Ok(cluster)
    }

    /// The same as manifests.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.objects.values()
    }
}

impl PortOfPod {
    fn container_port(&self, name: &str) -> Value {
        let (protocol, number) = match self {
            Self::Number(number) => ("TCP", number.to_string()),
            Self::Text(text) => text
                .split_once('/')
                .map_or(("TCP", text.clone()), |(p, n)| (p, n.to_owned())),
        };
        let number: u16 = number.parse().unwrap_or_default();
        json!({"name": name, "protocol": protocol, "containerPort": number})
    }
}
