//! From Kubernetes's objects to ours: one implementation of [`Observed`] a kind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{
    BackendPort, Cluster, EndpointPort, EndpointSlice, Ingress, IngressBackend, IngressClass, Key, Namespace,
    Node, Pod, PodObject, Scraping, Service, ServicePort, Shared, Store, TargetPort,
};
use crate::api::{LabelStandard, NamespaceBaseline};
use crate::baseline::object::{PolicyObject, PolicyRecord};
use crate::policy::Policy;
use crate::port::Protocol;
use crate::selector::{Labels, Selector};

/// A kind of Kubernetes object that [`Cluster`] keeps.
pub trait Observed {
    /// What is kept of it.
    type Entry: PartialEq;

    fn meta(&self) -> &ObjectMeta;

    /// What is kept of this object.
    fn observe(&self) -> Self::Entry;

    /// The same, where what is kept of several objects alike is kept once.
    fn share(entry: Self::Entry, _: &mut Shared) -> Self::Entry {
        entry
    }

    /// Where it is kept.
    fn store(cluster: &mut Cluster) -> &mut Store<Self::Entry>;

    /// Whether what stands under a key is of this kind, where several kinds share a store.
    fn owns(_: &Key) -> bool {
        true
    }

    fn key(&self) -> Key {
        let meta = self.meta();
        Key::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl Cluster {
    /// Takes an added or modified object; whether anything that matters changed.
    pub fn apply<K: Observed>(&mut self, object: &K) -> bool {
        let entry = K::share(object.observe(), &mut self.shared);
        K::store(self).apply(object.key(), entry)
    }

    /// Takes a deletion; whether the object was known.
    pub fn delete<K: Observed>(&mut self, object: &K) -> bool {
        K::store(self).delete(&object.key())
    }

    /// Takes the result of a new list of a kind; whether anything that matters changed.
    pub fn reset<K: Observed>(&mut self, entries: impl IntoIterator<Item = (Key, K::Entry)>) -> bool {
        let mut shared = std::mem::take(&mut self.shared);
        let entries = entries
            .into_iter()
            .map(|(key, entry)| (key, K::share(entry, &mut shared)));
        let changed = K::store(self).reset_within(entries, K::owns);
        self.shared = shared;
        changed
    }
}

impl Observed for core::Namespace {
    type Entry = Namespace;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Namespace {
        /// The whole object once more, which nobody here asks for.
        const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
        let mut annotations = self.annotations().clone();
        annotations.remove(LAST_APPLIED);
        Namespace {
            labels: self.labels().clone(),
            annotations,
            terminating: self.metadata.deletion_timestamp.is_some(),
            created: self
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0.as_second()),
            implied: false,
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Namespace> {
        &mut cluster.namespaces
    }
}

impl Observed for core::Pod {
    type Entry = Pod;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Pod {
        PodObject::from(self).observe()
    }

    fn share(pod: Pod, shared: &mut Shared) -> Pod {
        PodObject::share(pod, shared)
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Pod> {
        &mut cluster.pods
    }
}

/// The convention of the Prometheus community's scrape configuration.
pub(super) fn scraping(annotations: &Labels) -> Option<Scraping> {
    let get = |key: &str| annotations.get(key).map(String::as_str);
    (get(SCRAPE) == Some("true")).then(|| Scraping {
        port: get(SCRAPED_PORT).and_then(|port| port.parse().ok()),
    })
}

/// That metrics are to be fetched.
pub(super) const SCRAPE: &str = "prometheus.io/scrape";
/// From which port.
pub(super) const SCRAPED_PORT: &str = "prometheus.io/port";

impl Observed for networking::NetworkPolicy {
    type Entry = Policy;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Policy {
        Policy::parse(self)
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Policy> {
        &mut cluster.policies
    }
}

impl Observed for PolicyObject {
    type Entry = PolicyRecord;

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn observe(&self) -> PolicyRecord {
        PolicyRecord::of(&self.0)
    }

    fn store(cluster: &mut Cluster) -> &mut Store<PolicyRecord> {
        &mut cluster.policy_records
    }
}

impl Observed for core::Service {
    type Entry = Service;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Service {
        let spec = self.spec.clone().unwrap_or_default();
        let cluster_ips = addresses(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        let balancer = self
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref());
        let balancer = balancer
            .flat_map(|balancer| balancer.ingress.iter().flatten())
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| ingress.ip.as_ref());
        let outer_ips = addresses(spec.external_ips.iter().flatten().chain(balancer));
        Service {
            labels: self.labels().clone(),
            selector: spec.selector.filter(|s| !s.is_empty()).map(Selector::from_iter),
            // A node translates for a headless Service nothing.
            outer_ips: if cluster_ips.is_empty() {
                Vec::new()
            } else {
                outer_ips
            },
            cluster_ips,
            ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
            scraping: scraping(self.annotations()),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Service> {
        &mut cluster.services
    }
}

/// Those that are addresses: "None" and "" are the API's words for headless.
fn addresses<'a>(written: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = written.filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok()?;
    Some(ServicePort {
        name: port.name.clone(),
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        port: number,
        target: match &port.target_port {
            None => TargetPort::Number(number),
            Some(IntOrString::Int(target)) => TargetPort::Number(u16::try_from(*target).ok()?),
            Some(IntOrString::String(name)) => TargetPort::Name(name.clone()),
        },
    })
}

impl Observed for networking::Ingress {
    type Entry = Ingress;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Ingress {
        /// The annotation that named the class before `ingressClassName` did; controllers still honour it.
        const CLASS: &str = "kubernetes.io/ingress.class";
        let spec = self.spec.clone().unwrap_or_default();
        let paths = spec
            .rules
            .iter()
            .flatten()
            .filter_map(|rule| rule.http.as_ref())
            .flat_map(|http| &http.paths);
        let mut backends: Vec<IngressBackend> = paths
            .map(|path| &path.backend)
            .chain(spec.default_backend.as_ref())
            .filter_map(|backend| backend.service.as_ref())
            .filter_map(ingress_backend)
            .collect();
        backends.sort_unstable();
        backends.dedup();
        Ingress {
            class: spec
                .ingress_class_name
                .or_else(|| self.annotations().get(CLASS).cloned()),
            backends,
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Ingress> {
        &mut cluster.ingresses
    }
}

fn ingress_backend(service: &networking::IngressServiceBackend) -> Option<IngressBackend> {
    let port = service.port.as_ref()?;
    let port = match (&port.name, port.number) {
        (Some(name), _) => BackendPort::Name(name.clone()),
        (None, Some(number)) => BackendPort::Number(u16::try_from(number).ok()?),
        (None, None) => return None,
    };
    Some(IngressBackend {
        service: service.name.clone(),
        port,
    })
}

impl Observed for networking::IngressClass {
    type Entry = IngressClass;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> IngressClass {
        const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
        IngressClass {
            controller: self
                .spec
                .as_ref()
                .and_then(|spec| spec.controller.clone())
                .unwrap_or_default(),
            is_default: self
                .annotations()
                .get(DEFAULT)
                .is_some_and(|value| value == "true"),
            release_namespace: release_namespace(self.annotations()),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<IngressClass> {
        &mut cluster.ingress_classes
    }
}

impl Observed for core::Node {
    type Entry = Node;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Node {
        let listed = self
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten());
        let mut addresses: Vec<IpAddr> = listed
            .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect();
        let ranges = |spec: &core::NodeSpec| -> Vec<IpNet> {
            let one = spec.pod_cidr.iter();
            let all = spec.pod_cidrs.iter().flatten().chain(one);
            all.filter_map(|range| range.parse().ok()).collect()
        };
        let mut pod_ranges = self.spec.as_ref().map(ranges).unwrap_or_default();
        addresses.sort_unstable();
        addresses.dedup();
        pod_ranges.sort_unstable();
        pod_ranges.dedup();
        Node {
            addresses,
            pod_ranges,
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Node> {
        &mut cluster.nodes
    }
}

impl Observed for discovery::EndpointSlice {
    type Entry = EndpointSlice;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> EndpointSlice {
        const SERVICE: &str = "kubernetes.io/service-name";
        let mut addresses: Vec<IpAddr> = self
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| &endpoint.addresses)
            .filter_map(|address| address.parse().ok()) // a slice of names has none
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let port = |port: &discovery::EndpointPort| {
            let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
            Some(EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                protocol,
                number: u16::try_from(port.port?).ok()?,
            })
        };
        EndpointSlice {
            service: self.labels().get(SERVICE).cloned(),
            addresses,
            ports: self.ports.iter().flatten().filter_map(port).collect(),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<EndpointSlice> {
        &mut cluster.endpoint_slices
    }
}

impl Observed for networking::ServiceCIDR {
    type Entry = Vec<IpNet>;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Vec<IpNet> {
        let spec = self.spec.iter();
        spec.flat_map(|spec| spec.cidrs.iter().flatten())
            .filter_map(|range| range.parse().ok())
            .collect()
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Vec<IpNet>> {
        &mut cluster.service_ranges
    }
}

/// The namespace of the Helm release that an object came with.
pub(super) fn release_namespace(annotations: &BTreeMap<String, String>) -> Option<String> {
    annotations.get("meta.helm.sh/release-namespace").cloned()
}

impl Observed for NamespaceBaseline {
    type Entry = NamespaceBaseline;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> NamespaceBaseline {
        let mut kept = self.clone();
        // They change with every write of the status, and nobody here asks for them.
        kept.metadata.managed_fields = None;
        kept.metadata.resource_version = None;
        kept
    }

    fn store(cluster: &mut Cluster) -> &mut Store<NamespaceBaseline> {
        &mut cluster.baselines
    }
}

impl Observed for LabelStandard {
    type Entry = LabelStandard;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> LabelStandard {
        let mut kept = self.clone();
        // They change with every write of the status, and nobody here asks for them.
        kept.metadata.managed_fields = None;
        kept.metadata.resource_version = None;
        kept
    }

    fn store(cluster: &mut Cluster) -> &mut Store<LabelStandard> {
        &mut cluster.standards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_has_the_addresses_that_a_node_translates() {
        let of = |spec: serde_json::Value, ingress: serde_json::Value| {
            let service = json!({"metadata": {"name": "web"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
            let service: core::Service = serde_json::from_value(service).unwrap();
            let ports = service.observe();
            let addresses: Vec<String> = ports.addressed_ports().map(|(ip, ..)| ip.to_string()).collect();
            addresses
        };
        let ports = json!([{"port": 80}]);
        let addressed = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "externalIPs": ["192.0.2.7"], "ports": ports});
        let ingress =
            json!([{"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "lb.example"}]);
        assert_eq!(of(addressed, ingress), ["10.96.0.1", "192.0.2.7", "192.0.2.8"]);
        let headless = json!({"clusterIP": "None", "externalIPs": ["192.0.2.7"], "ports": ports});
        assert_eq!(of(headless, json!([])), [""; 0]);
    }
}
