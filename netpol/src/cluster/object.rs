//! The objects of the cluster, cut down to what policies and their generation depend on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{BackendPort, Owner};
use crate::port::Protocol;
use crate::selector::{Labels, Selector};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Namespace {
    pub labels: Labels,
    pub annotations: Labels,
    /// Being deleted: nothing can be created in it any more.
    pub terminating: bool,
    /// When it was created, in seconds of the Unix time.
    pub created: Option<i64>,
    /// Nobody said that it is there; something in manifests says that it is in it.
    pub implied: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    /// Shared by pods that have the same, as those of a workload do.
    pub labels: Arc<Labels>,
    /// What made it; `None` if it stands for itself.
    pub owner: Option<Owner>,
    /// Where it is bound to; `None` while it is not scheduled.
    pub node: Option<String>,
    /// The addresses in the status; empty until the kubelet reports them.
    pub addresses: Vec<IpAddr>,
    /// Shares its node's network: never selected by a policy, and as a peer it is its node's address.
    pub host_network: bool,
    pub phase: Phase,
    /// Being deleted, but still governed and reachable until it is gone.
    pub terminating: bool,
    /// The ports of all its containers, also of init containers that stay (sidecars).
    pub ports: Vec<ContainerPort>,
    /// What its annotations ask of Prometheus; `None`: nothing.
    pub scraping: Option<Scraping>,
    /// The mesh whose proxy runs in it.
    pub mesh: Option<Mesh>,
}

/// That metrics are to be fetched from a pod, by the annotation `prometheus.io/scrape`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scraping {
    /// `prometheus.io/port`; absent: every port that the pod declares.
    pub port: Option<u16>,
}

/// A service mesh that works by a proxy in each pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mesh {
    Istio,
    Linkerd,
}

impl Pod {
    /// Whether policies select it and its addresses are its own: not on the host's network, and not finished
    /// (a finished pod's address may already belong to another).
    pub fn is_governed(&self) -> bool {
        !self.host_network && !matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// The numbers of the container ports of that name and protocol.
    pub fn named_ports(&self, protocol: Protocol, name: &str) -> impl Iterator<Item = u16> {
        self.ports
            .iter()
            .filter(move |port| port.protocol == protocol && port.name.as_deref() == Some(name))
            .map(|port| port.number)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub protocol: Protocol,
    pub number: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    pub labels: Labels,
    /// `None`: no selector, the endpoints are somebody else's to write.
    pub selector: Option<Selector>,
    /// Empty for headless Services.
    pub cluster_ips: Vec<IpAddr>,
    /// Other addresses that a node translates as it does those: `externalIPs`, and those of load balancers that pods do not go through.
    pub outer_ips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    /// What its annotations ask of Prometheus for the pods behind it.
    pub scraping: Option<Scraping>,
}

impl Service {
    /// The addresses and ports of its own.
    pub fn addressed_ports(&self) -> impl Iterator<Item = (IpAddr, Protocol, u16)> + '_ {
        let addresses = || self.cluster_ips.iter().chain(&self.outer_ips);
        let ports = self.ports.iter();
        ports.flat_map(move |port| addresses().map(|ip| (*ip, port.protocol, port.port)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<String>,
    pub protocol: Protocol,
    pub port: u16,
    /// Where on the pod; the API's absent means the Service's own number.
    pub target: TargetPort,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPort {
    Number(u16),
    /// Resolved on each pod.
    Name(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingress {
    /// `None`: served by the default class.
    pub class: Option<String>,
    /// The Services that it routes to, the default backend included; in its own namespace.
    pub backends: Vec<IngressBackend>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IngressBackend {
    pub service: String,
    pub port: BackendPort,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngressClass {
    /// Which program serves the class, as `k8s.io/ingress-nginx`.
    pub controller: String,
    pub is_default: bool,
    /// The namespace of the Helm release that it came with: where its controller runs.
    pub release_namespace: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its own, inside and outside of the cluster's network.
    pub addresses: Vec<IpAddr>,
    /// Where its pods' addresses come from, if Kubernetes assigns them.
    pub pod_ranges: Vec<IpNet>,
}

/// Endpoints that no controller made from a Service's selector: those of the API server, and what people write by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// In the slice's namespace; `None` for a slice that is no Service's.
    pub service: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<EndpointPort>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointPort {
    /// That of the Service's port which leads to it.
    pub name: Option<String>,
    pub protocol: Protocol,
    pub number: u16,
}
