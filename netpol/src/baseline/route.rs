//! What the Ingress objects and routes of a namespace lead to: its Services, and the ports of the pods behind them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, Key, Routed, Routing, Service, TargetPort};
use crate::port::Protocol;

/// A Service that is reached from outside, and where its pods are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoutedService {
    pub name: String,
    /// The labels of its pods; never empty.
    pub pods: BTreeMap<String, String>,
    /// The ports on its pods that are routed to; never empty.
    pub ports: BTreeSet<(Protocol, TargetPort)>,
}

/// The routed Services of a namespace, by name.
pub type Routes = Vec<RoutedService>;

/// Finds the Services of a namespace that routes name: Ingress objects, OpenShift's Routes, and what gateways take. One that is not there
/// (yet), has no selector or not the named port is reached by nobody, so nothing is opened for it.
pub fn routes(cluster: &Cluster, namespace: &str) -> Routes {
    let routed = Routing::into(cluster, namespace).routed;
    let mut wanted: BTreeMap<&str, Vec<&Routed>> = BTreeMap::new();
    for routed in &routed {
        wanted.entry(&routed.service.name).or_default().push(routed);
    }
    let service = |(name, routed): (&str, Vec<&Routed>)| {
        let service = cluster.services.get(&Key::new(namespace, name))?;
        let pods = labels(service)?;
        let targets = service
            .ports
            .iter()
            .flat_map(|port| routed.iter().map(move |routed| (port, routed)));
        let ports: BTreeSet<_> = targets
            .filter_map(|(port, routed)| Some((port.protocol, routed.target(port)?)))
            .collect();
        (!ports.is_empty()).then(|| RoutedService {
            name: name.to_owned(),
            pods,
            ports,
        })
    };
    wanted.into_iter().filter_map(service).collect()
}

fn labels(service: &Service) -> Option<BTreeMap<String, String>> {
    let labels: BTreeMap<_, _> = service.selector.as_ref()?.equalities().collect();
    (!labels.is_empty()).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::networking::v1 as networking;

    fn cluster(ingress: &str, service: &str) -> Cluster {
        let mut cluster = Cluster::default();
        let ingress: networking::Ingress = serde_yaml_ng::from_str(ingress).unwrap();
        let service: core::Service = serde_yaml_ng::from_str(service).unwrap();
        cluster.apply(&ingress);
        cluster.apply(&service);
        cluster
    }

    const INGRESS: &str = "{metadata: {name: i, namespace: shop}, spec: {rules: [{http: {paths: [
        {pathType: Prefix, path: /, backend: {service: {name: web, port: {number: 80}}}},
        {pathType: Prefix, path: /a, backend: {service: {name: web, port: {name: admin}}}},
        {pathType: Prefix, path: /b, backend: {service: {name: gone, port: {number: 80}}}}]}}]}}";
    const SERVICE: &str = "{metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [
        {name: http, port: 80, targetPort: 8080}, {name: admin, port: 81, targetPort: adm}, {name: metrics, port: 9090}]}}";

    #[test]
    fn routes_lead_to_the_target_ports_that_they_name_and_to_no_other() {
        assert_eq!(
            routes(&cluster(INGRESS, SERVICE), "shop"),
            [RoutedService {
                name: "web".to_owned(),
                pods: [("app".to_owned(), "web".to_owned())].into(),
                ports: [
                    (Protocol::Tcp, TargetPort::Number(8080)),
                    (Protocol::Tcp, TargetPort::Name("adm".to_owned()))
                ]
                .into(),
            }]
        );
        assert_eq!(routes(&cluster(INGRESS, SERVICE), "other"), []);
    }

    #[test]
    fn a_service_without_a_selector_or_the_port_is_reached_by_nobody() {
        let bare = SERVICE.replace("selector: {app: web}, ", "");
        assert_eq!(routes(&cluster(INGRESS, &bare), "shop"), []);
        let other =
            "{metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{port: 1}]}}";
        assert_eq!(routes(&cluster(INGRESS, other), "shop"), []);
    }
}
