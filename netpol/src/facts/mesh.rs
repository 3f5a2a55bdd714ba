//! Where the control plane of a service mesh is: without it a sidecar gets no certificate and no routes.

use crate::cluster::{Cluster, Key, Service};

use super::{Finding, Findings, service};

/// Istio's, every revision of it.
pub(super) fn istio(cluster: &Cluster) -> Findings {
    let is_it = |_: &Key, service: &Service| service.labels.get("app").is_some_and(|app| app == "istiod");
    find(
        cluster,
        "istio-system",
        is_it,
        "no Service in istio-system is labelled app=istiod; name it in spec.facts.istio.services",
    )
}

/// Linkerd's: what its proxies ask for identities, destinations and policies.
pub(super) fn linkerd(cluster: &Cluster) -> Findings {
    let is_it = |key: &Key, _: &Service| {
        let name = key.name.strip_suffix("-headless").unwrap_or(&key.name);
        ["linkerd-identity", "linkerd-dst", "linkerd-policy"].contains(&name)
    };
    find(
        cluster,
        "linkerd",
        is_it,
        "no Service of the control plane is in linkerd; name them in spec.facts.linkerd.services",
    )
}

fn find(
    cluster: &Cluster,
    namespace: &str,
    is_it: impl Fn(&Key, &Service) -> bool,
    otherwise: &str,
) -> Findings {
    let mut found = Findings::default();
    for (key, service) in cluster.services.in_namespace(namespace) {
        if is_it(key, service) {
            found.findings.push(Finding {
                origin: format!("Service {key}"),
                found: service::rule(cluster, key, service, |_| true).map(|(rule, _)| rule),
            });
        }
    }
    if found.findings.is_empty() {
        found.remarks.push(otherwise.to_owned());
    }
    found
}
