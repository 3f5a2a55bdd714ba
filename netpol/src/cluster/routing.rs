//! Where the cluster's edge leads: from Ingress objects, OpenShift's Routes and gateways to ports of Services.

mod attachment;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::gateway::GatewayRoute;
use super::{Cluster, Ingress, Key, Pod, Service, ServicePort, TargetPort};
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
        cluster
            .ingresses
            .iter()
            .for_each(|(key, ingress)| routing.add_ingress(key, ingress));
        cluster
            .gateway_routes
            .iter()
            .for_each(|(key, route)| routing.add(cluster, key, route));
        routing
    }

    /// What leads into one namespace. Only routes of its own and of those that it has granted to can.
    pub fn into(cluster: &Cluster, namespace: &str) -> Self {
        let mut routing = Self::default();
        cluster
            .ingresses
            .in_namespace(namespace)
            .for_each(|(key, ingress)| routing.add_ingress(key, ingress));
        let grants = cluster.reference_grants.in_namespace(namespace);
        let granted = grants.flat_map(|(_, grant)| grant.from.iter().map(|(_, from)| from.as_str()));
        let sources: BTreeSet<&str> = granted.chain([namespace]).collect();
        for source in sources {
            cluster
                .gateway_routes
                .in_namespace(source)
                .for_each(|(key, route)| routing.add(cluster, key, route));
        }
        routing
            .routed
            .retain(|routed| routed.service.namespace == namespace);
        routing
    }

    fn add_ingress(&mut self, key: &Key, ingress: &Ingress) {
        self.routed.extend(ingress.backends.iter().map(|backend| Routed {
            service: Key::new(key.namespace.as_str(), backend.service.as_str()),
            port: backend.port.clone(),
            protocol: Protocol::Tcp,
        }));
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
        service
            .ports
            .iter()
            .flat_map(|port| self.numbers(port, pod))
            .map(|number| PortRange::single(self.protocol, number))
            .collect()
    }

    /// Where on pods it leads through a port of the Service; `None` if it means another.
    pub fn target(&self, port: &ServicePort) -> Option<TargetPort> {
        if port.protocol != self.protocol {
            return None;
        }
        let named = |name: &str| port.name.as_deref() == Some(name);
        let meant = match &self.port {
            BackendPort::Number(number) => port.port == *number,
            BackendPort::Name(name) => named(name),
            BackendPort::Every => true,
            BackendPort::Endpoint(name) if named(name) => true,
            BackendPort::Endpoint(number) => {
                let number = number.parse().ok()?;
                // A name may be any number: on those pods where it is this one, it is meant.
                let fits =
                    port.target == TargetPort::Number(number) || matches!(port.target, TargetPort::Name(_));
                return fits.then_some(TargetPort::Number(number));
            }
        };
        meant.then(|| port.target.clone())
    }

    fn numbers(&self, port: &ServicePort, pod: &Pod) -> Vec<u16> {
        let of = |target: &TargetPort| match target {
            TargetPort::Number(number) => vec![*number],
            TargetPort::Name(name) => pod.named_ports(port.protocol, name).collect(),
        };
        let meant = self.target(port).map(|target| of(&target)).unwrap_or_default();
        let mut numbers = of(&port.target);
        numbers.retain(|number| meant.contains(number));
        numbers
    }
}
