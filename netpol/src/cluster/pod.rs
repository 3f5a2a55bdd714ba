//! Pods as they are watched.
//!
//! A Pod is some ten kilobytes of JSON, of which a few hundred bytes matter here. A cluster has very many, and each of them changes several
//! times as it starts, so the rest is never built: not the volumes and probes, not the conditions, not who manages which field.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Deserializer};

use super::observe::{SCRAPE, SCRAPED_PORT, scraping};
use super::{Cluster, ContainerPort, Mesh, Observed, Owner, Phase, Pod, Shared, Store};
use crate::port::Protocol;
use crate::selector::Labels;

/// A Pod of the API, of which only that is read which [`Pod`] is made of.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PodObject {
    #[serde(deserialize_with = "meta")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Spec>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    restart_policy: Option<String>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    container_port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    ip: Option<String>,
    #[serde(rename = "podIPs")]
    ips: Option<Vec<Ip>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Ip {
    #[serde(default)]
    ip: String,
}

/// Of the metadata what is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<Time>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "prometheus.io/scrape")]
    scrape: Option<String>,
    #[serde(rename = "prometheus.io/port")]
    port: Option<String>,
}

fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Meta::deserialize(deserializer)?;
    let annotations = meta.annotations.map(|annotations| {
        let scrape = annotations.scrape.map(|value| (SCRAPE.to_owned(), value));
        let port = annotations.port.map(|value| (SCRAPED_PORT.to_owned(), value));
        scrape.into_iter().chain(port).collect()
    });
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        annotations,
        owner_references: meta.owner_references,
        deletion_timestamp: meta.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

impl Observed for PodObject {
    type Entry = Pod;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Pod {
        let spec = self.spec.as_ref();
        let status = self.status.as_ref();
        let listed = status.and_then(|status| status.ips.as_deref());
        let listed = listed.into_iter().flatten();
        let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.ip.parse().ok()).collect();
        if addresses.is_empty() {
            let single = status.and_then(|status| status.ip.as_deref());
            addresses.extend(single.and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.shrink_to_fit();
        let containers = spec.and_then(|spec| spec.containers.as_deref());
        let sidecars = spec.and_then(|spec| spec.init_containers.as_deref());
        let sidecars = sidecars.unwrap_or_default().iter();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = containers.unwrap_or_default().iter().chain(sidecars);
        let ports = containers
            .clone()
            .flat_map(|container| container.ports.iter().flatten());
        let mut ports: Vec<ContainerPort> = ports.filter_map(container_port).collect();
        ports.shrink_to_fit();
        Pod {
            uid: self.uid().unwrap_or_default(),
            labels: Arc::new(self.labels().clone()),
            owner: Owner::of(&self.metadata),
            node: spec
                .and_then(|spec| spec.node_name.clone())
                .filter(|name| !name.is_empty()),
            addresses,
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            terminating: self.metadata.deletion_timestamp.is_some(),
            scraping: scraping(self.annotations()),
            mesh: containers.clone().find_map(mesh),
            ports,
        }
    }

    fn share(pod: Pod, shared: &mut Shared) -> Pod {
        Pod {
            labels: shared.labels(pod.labels),
            ..pod
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Pod> {
        &mut cluster.pods
    }
}

fn mesh(container: &Container) -> Option<Mesh> {
    match container.name.as_str() {
        "istio-proxy" => Some(Mesh::Istio),
        "linkerd-proxy" => Some(Mesh::Linkerd),
        _ => None,
    }
}

fn container_port(port: &Port) -> Option<ContainerPort> {
    Some(ContainerPort {
        name: port.name.clone(),
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        number: u16::try_from(port.container_port).ok()?,
    })
}

/// For who has all of a Pod.
impl From<&core::Pod> for PodObject {
    fn from(pod: &core::Pod) -> Self {
        Self {
            metadata: pod.metadata.clone(),
            spec: pod.spec.as_ref().map(Spec::from),
            status: pod.status.as_ref().map(Status::from),
        }
    }
}

impl From<&core::PodSpec> for Spec {
    fn from(spec: &core::PodSpec) -> Self {
        let containers = |list: &[core::Container]| list.iter().map(Container::from).collect();
        Self {
            node_name: spec.node_name.clone(),
            host_network: spec.host_network,
            containers: Some(containers(&spec.containers)),
            init_containers: spec.init_containers.as_deref().map(containers),
        }
    }
}

impl From<&core::Container> for Container {
    fn from(container: &core::Container) -> Self {
        let port = |port: &core::ContainerPort| Port {
            name: port.name.clone(),
            protocol: port.protocol.clone(),
            container_port: port.container_port,
        };
        Self {
            name: container.name.clone(),
            restart_policy: container.restart_policy.clone(),
            ports: container
                .ports
                .as_ref()
                .map(|ports| ports.iter().map(port).collect()),
        }
    }
}

impl From<&core::PodStatus> for Status {
    fn from(status: &core::PodStatus) -> Self {
        let ip = |ip: &core::PodIP| Ip { ip: ip.ip.clone() };
        Self {
            phase: status.phase.clone(),
            ip: status.pod_ip.clone(),
            ips: status.pod_ips.as_ref().map(|ips| ips.iter().map(ip).collect()),
        }
    }
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = <core::Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        core::Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        core::Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        core::Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        core::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn both(pod: Value) -> (Pod, Pod) {
        let whole: core::Pod = serde_json::from_value(pod.clone()).unwrap();
        let trimmed: PodObject = serde_json::from_value(pod).unwrap();
        assert_eq!(Observed::key(&trimmed), Observed::key(&whole));
        assert_eq!(trimmed.resource_version(), whole.resource_version());
        (trimmed.observe(), whole.observe())
    }

    #[test]
    fn what_is_read_of_a_pod_is_all_that_is_kept_of_it() {
        let (trimmed, whole) = both(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"},
                "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9100", "other": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}],
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            },
            "spec": {
                "nodeName": "one", "hostNetwork": true, "volumes": [{"name": "v", "emptyDir": {}}],
                "initContainers": [
                    {"name": "linkerd-proxy", "restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 4191}]},
                    {"name": "init", "ports": [{"containerPort": 1}]},
                ],
                "containers": [{"name": "main", "image": "i", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "odd"}]}],
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "conditions": []},
        }));
        assert_eq!(trimmed, whole);
        assert_eq!(
            trimmed.scraping,
            Some(super::super::Scraping { port: Some(9100) })
        );
        assert_eq!((trimmed.mesh, trimmed.ports.len()), (Some(Mesh::Linkerd), 2));
        assert!(trimmed.terminating && trimmed.host_network && trimmed.owner.is_some());
        assert_eq!((trimmed.addresses.len(), trimmed.phase), (2, Phase::Running));
    }

    #[test]
    fn what_a_pod_lacks_is_no_error() {
        for pod in [
            json!({"metadata": {}}),
            json!({"metadata": {"name": "x", "labels": null, "annotations": null}, "spec": null, "status": null}),
            json!({"metadata": {"name": "x"}, "spec": {"containers": null}, "status": {"podIP": "10.0.0.1", "podIPs": null}}),
            json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "ports": null}]}, "status": {}}),
        ] {
            let (trimmed, whole) = both(pod);
            assert_eq!(trimmed, whole);
        }
    }
}
