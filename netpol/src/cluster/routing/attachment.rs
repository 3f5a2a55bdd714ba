//! Which listeners take a route, and which Services it may lead to.

use crate::cluster::gateway::{AllowedNamespaces, GatewayRoute, Listener, Parent, RouteKind};
use crate::cluster::{Cluster, Key};

/// Why a gateway does not follow a route, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    #[error("the Gateway {0} is not known, so that it cannot be said whether it takes the route")]
    UnknownGateway(Key),
    #[error("the Gateway {gateway} has no listener {listener}")]
    NoListener { gateway: Key, listener: String },
    #[error("no listener of the Gateway {gateway} {reason}")]
    NotAllowed { gateway: Key, reason: &'static str },
    #[error(
        "the Service {0} is in another namespace, and no ReferenceGrant there allows routes like this one to lead to it"
    )]
    NoGrant(Key),
}

/// What a listener must hold, and in words.
type Check<'a> = (&'a dyn Fn(&Listener) -> bool, &'static str);

/// Whether some listener of the parent takes the route.
pub(super) fn attach(
    cluster: &Cluster,
    namespace: &str,
    route: &GatewayRoute,
    parent: &Parent,
) -> Result<(), Refusal> {
    let Some(gateway) = cluster.gateways.get(&parent.gateway) else {
        return Err(Refusal::UnknownGateway(parent.gateway.clone()));
    };
    let meant = |listener: &&Listener| {
        parent.listener.as_ref().is_none_or(|name| listener.name == *name)
            && parent.port.is_none_or(|port| listener.port == port)
    };
    let listeners: Vec<&Listener> = gateway.listeners.iter().filter(meant).collect();
    if listeners.is_empty() {
        let port = parent.port.map(|port| format!("port {port}"));
        let named = [parent.listener.clone(), port];
        return Err(Refusal::NoListener {
            gateway: parent.gateway.clone(),
            listener: named.into_iter().flatten().collect::<Vec<_>>().join(" at "),
        });
    }
    let own = parent.gateway.namespace == namespace;
    let checks: [Check<'_>; 3] = [
        (
            &|listener| carries(listener, route.kind),
            "takes routes of this kind",
        ),
        (
            &|listener| admits(cluster, listener, namespace, own),
            "takes routes from this namespace",
        ),
        (
            &|listener| shares_hostname(listener, route),
            "has a host name in common with it",
        ),
    ];
    let mut left = listeners;
    for (check, reason) in checks {
        left.retain(|listener| check(listener));
        if left.is_empty() {
            return Err(Refusal::NotAllowed {
                gateway: parent.gateway.clone(),
                reason,
            });
        }
    }
    Ok(())
}

/// Whether a route may lead to a Service: of its own namespace, or by leave of the other.
pub(super) fn refer(
    cluster: &Cluster,
    namespace: &str,
    kind: RouteKind,
    service: &Key,
) -> Result<(), Refusal> {
    let mut grants = cluster.reference_grants.in_namespace(&service.namespace);
    if service.namespace == namespace || grants.any(|(_, grant)| grant.allows(kind, namespace, &service.name))
    {
        Ok(())
    } else {
        Err(Refusal::NoGrant(service.clone()))
    }
}

/// Whether the listener's protocol can carry such routes, and it takes them.
fn carries(listener: &Listener, kind: RouteKind) -> bool {
    use RouteKind::{Grpc, Http, Tcp, Tls, Udp};
    let can = match (listener.protocol.as_str(), listener.passthrough) {
        ("HTTP" | "HTTPS", _) => matches!(kind, Http | Grpc),
        ("TLS", true) => kind == Tls,
        ("TLS", false) => matches!(kind, Tls | Tcp),
        ("TCP", _) => kind == Tcp,
        ("UDP", _) => kind == Udp,
        _ => true, // an implementation's own
    };
    can && listener.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
}

fn admits(cluster: &Cluster, listener: &Listener, namespace: &str, own: bool) -> bool {
    match &listener.namespaces {
        AllowedNamespaces::All => true,
        AllowedNamespaces::Same => own,
        AllowedNamespaces::Selected(selector) => cluster
            .namespace_labels(namespace)
            .is_some_and(|labels| selector.matches(labels)),
        AllowedNamespaces::None => false,
    }
}

fn shares_hostname(listener: &Listener, route: &GatewayRoute) -> bool {
    if matches!(route.kind, RouteKind::Tcp | RouteKind::Udp) || route.hostnames.is_empty() {
        return true;
    }
    let Some(name) = &listener.hostname else {
        return true;
    };
    route
        .hostnames
        .iter()
        .any(|hostname| overlap(&name.to_ascii_lowercase(), &hostname.to_ascii_lowercase()))
}

/// Whether there is a name that both stand for. `*.` stands for one label or several.
fn overlap(a: &str, b: &str) -> bool {
    // `.example.com` with its dot, so that `*.example.com` is not `example.com`.
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(suffix), None) => b.len() > suffix.len() && b.ends_with(suffix),
        (None, Some(suffix)) => a.len() > suffix.len() && a.ends_with(suffix),
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
    }
}
