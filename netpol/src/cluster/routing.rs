//! Where the cluster's edge leads: from Ingress objects, OpenShift's Routes and gateways to ports of Services.

mod attachment;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::gateway::GatewayRoute;
use super::{Cluster, Key, Pod, Service, ServicePort, TargetPort};
use crate::port::{PortRange, PortSet, Protocol};

pub use attachment::Refusal;

/// Which of a Service's ports a backend means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendPort {
    /// By the Service's own number.
    Number(u16),
    /// By its name.
    Name(String),
    /// By its name, or by the number at which pods listen: OpenShift's router looks at endpoints.
    Endpoint(String),
    /// All of them: a Route that names no port.
    Every,
}

/// A port of a Service that the edge leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Routed {
    pub service: Key,
    pub port: BackendPort,
    pub protocol: Protocol,
}

/// Something of a route that leads nowhere, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// As `HTTPRoute shop/web`.
    pub route: String,
    pub why: Refusal,
}

/// Where the edge leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    pub routed: BTreeSet<Routed>,
    pub dropped: BTreeSet<Dropped>,
}

impl Routing {
    /// What the objects of a cluster say. Whether a controller serves them is not asked: it may be none of the objects that are known.
    pub fn of(cluster: &Cluster) -> Self {
        let mut routing = Self::default();
        for (key, ingress) in cluster.ingresses.iter() {
            routing
                .routed
                .extend(ingress.backends.iter().map(|backend| Routed {
                    service: Key::new(key.namespace.as_str(), backend.service.as_str()),
                    port: backend.port.clone(),
                    protocol: Protocol::Tcp,
                }));
        }
        for (key, route) in cluster.gateway_routes.iter() {
            routing.add(cluster, key, route);
        }
        routing
    }

    fn add(&mut self, cluster: &Cluster, key: &Key, route: &GatewayRoute) {
        let (name, _) = key.name.rsplit_once('[').unwrap_or((&key.name, ""));
        let shown = format!("{} {}", route.kind.name(), Key::new(key.namespace.as_str(), name));
        let mut dropped = |why| {
            self.dropped.insert(Dropped {
                route: shown.clone(),
                why,
            });
        };
        let mut attached = false;
        for parent in &route.parents {
            match attachment::attach(cluster, &key.namespace, route, parent) {
                Ok(()) => attached = true,
                Err(why) => dropped(why),
            }
        }
        if !attached {
            return;
        }
        for backend in &route.backends {
            match attachment::refer(cluster, &key.namespace, route.kind, &backend.service) {
                Ok(()) => {
                    self.routed.insert(Routed {
                        service: backend.service.clone(),
                        port: BackendPort::Number(backend.port),
                        protocol: route.kind.protocol(),
                    });
                }
                Err(why) => dropped(why),
            }
        }
    }
}

impl Routed {
    /// The ports of one of the Service's pods that it leads to.
    pub fn ports(&self, service: &Service, pod: &Pod) -> PortSet {
        let of_protocol = service.ports.iter().filter(|port| port.protocol == self.protocol);
        of_protocol
            .flat_map(|port| self.numbers(port, pod))
            .map(|number| PortRange::single(self.protocol, number))
            .collect()
    }

    /// The numbers on the pod, if it is this port of the Service that is meant.
    fn numbers(&self, port: &ServicePort, pod: &Pod) -> Vec<u16> {
        let mut numbers: Vec<u16> = match &port.target {
            TargetPort::Number(number) => vec![*number],
            TargetPort::Name(name) => pod.named_ports(port.protocol, name).collect(),
        };
        let named = |name: &str| port.name.as_deref() == Some(name);
        match &self.port {
            BackendPort::Number(number) if port.port == *number => {}
            BackendPort::Name(name) if named(name) => {}
            BackendPort::Endpoint(name) if named(name) => {}
            BackendPort::Endpoint(number) => numbers.retain(|listens| listens.to_string() == *number),
            BackendPort::Every => {}
            BackendPort::Number(_) | BackendPort::Name(_) => numbers.clear(),
        }
        numbers
    }
}
