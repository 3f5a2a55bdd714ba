//! What the rules' tests share: a small live cluster and short ways to ask one rule.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::{Level, Rule, Severities, lint_written, rules};
use crate::cluster::{Cluster, ContainerPort, Key, Mesh, Namespace, Pod, Scraping};
use crate::finding::Finding;
use crate::port::Protocol;

/// A live cluster: kube-system with DNS, which listens on 5353, and kube-proxy, monitoring, the control plane of a mesh, an empty namespace, and
/// `shop`, where the policy under test is: a frontend on a node that enforces, an api, a pod that asks to be scraped, on a node that does not
/// enforce, one with a mesh's proxy and one on its node's network.
pub struct Live(pub Cluster);

impl Default for Live {
    fn default() -> Self {
        let mut live = Self(Cluster::default())
            .pod("istio-system", "istiod", &[("app", "istiod")])
            .pod("kube-flannel", "flannel", &[("app", "flannel")])
            .pod(
                "ringfence-system",
                "enforcer",
                &[("app.kubernetes.io/name", "ringfence-enforcer")],
            )
            .pod("shop", "metered", &[("app", "metered")])
            .pod("shop", "meshed", &[("app", "meshed")])
            .pod("shop", "exporter", &[("app", "exporter")])
            .pod("kube-system", "coredns", &[("k8s-app", "kube-dns")])
            .pod("kube-system", "kube-proxy", &[("k8s-app", "kube-proxy")])
            .pod(
                "monitoring",
                "prometheus",
                &[("app", "prometheus"), ("app.kubernetes.io/name", "prometheus")],
            )
            .pod("shop", "frontend", &[("app", "frontend"), ("tier", "web")])
            .pod("shop", "api", &[("app", "api"), ("tier", "backend")])
            .namespace("empty", &[]);
        live = live
            .with("kube-system", "kube-proxy", |pod| pod.host_network = true)
            .with("kube-system", "coredns", |pod| {
                pod.ports = ports(&["dns UDP 5353", "dns-tcp TCP 5353", "metrics TCP 9153"]);
            })
            .with("shop", "frontend", |pod| {
                pod.ports = ports(&["http TCP 8000"]);
                pod.addresses = vec![[10, 244, 1, 2].into()];
                pod.node = Some("node-1".to_owned());
            })
            .with("shop", "api", |pod| {
                pod.ports = ports(&["http TCP 8080"]);
                pod.addresses = vec![[10, 244, 1, 3].into()];
            })
            .with("shop", "metered", |pod| {
                pod.ports = ports(&["http TCP 8000", "metrics TCP 9100"]);
                pod.scraping = Some(Scraping { port: Some(9100) });
                pod.node = Some("node-2".to_owned());
            })
            .with("shop", "meshed", |pod| pod.mesh = Some(Mesh::Istio))
            .with("shop", "exporter", |pod| {
                pod.host_network = true;
                pod.addresses = vec![[10, 10, 0, 1].into()];
            })
            .with("ringfence-system", "enforcer", |pod| {
                pod.host_network = true;
                pod.node = Some("node-1".to_owned());
            })
            .with("kube-flannel", "flannel", |pod| {
                pod.host_network = true;
                pod.node = Some("node-2".to_owned());
            });
        live = live.service(
            "istio-system",
            "{metadata: {name: istiod, labels: {app: istiod}}, spec: {selector: {app: istiod}, ports: [{port: 15012}, {port: 443, targetPort: 15017}]}}",
        );
        live.service(
            "kube-system",
            "{metadata: {name: kube-dns}, spec: {selector: {k8s-app: kube-dns}, clusterIP: 10.96.0.10, ports: [
               {name: dns, port: 53, protocol: UDP, targetPort: dns}, {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}]}}",
        )
    }
}

impl Live {
    pub fn namespace(mut self, name: &str, labels: &[(&str, &str)]) -> Self {
        let named = [("kubernetes.io/metadata.name", name)];
        let labels = labels.iter().chain(&named);
        let namespace = Namespace {
            labels: labels.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Namespace::default()
        };
        self.0.namespaces.apply(Key::cluster(name), namespace);
        self
    }

    pub fn pod(self, namespace: &str, name: &str, labels: &[(&str, &str)]) -> Self {
        let mut live = if self.0.namespace_labels(namespace).is_none() {
            self.namespace(namespace, &[])
        } else {
            self
        };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let pod = Pod {
            labels: Arc::new(labels.collect()),
            ..Pod::default()
        };
        live.0.pods.apply(Key::new(namespace, name), pod);
        live
    }
}

impl Live {
    /// Changes a pod that is there.
    pub fn with(mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Pod)) -> Self {
        let key = Key::new(namespace, name);
        let mut pod = self.0.pods.get(&key).unwrap().clone();
        change(&mut pod);
        self.0.pods.apply(key, pod);
        self
    }

    /// Another policy of `shop`.
    pub fn policy(mut self, name: &str, spec: &str) -> Self {
        let mut object = policy(spec);
        object.metadata.name = Some(name.to_owned());
        self.0.apply(&object);
        self
    }

    /// A Service, as YAML without its namespace.
    pub fn service(mut self, namespace: &str, yaml: &str) -> Self {
        let mut service: Service = serde_yaml_ng::from_str(yaml).unwrap();
        service.metadata.namespace = Some(namespace.to_owned());
        self.0.apply(&service);
        self
    }
}

/// Ports of containers, each as `http TCP 8080`.
pub fn ports(written: &[&str]) -> Vec<ContainerPort> {
    let port = |text: &&str| {
        let mut words = text.split(' ');
        ContainerPort {
            name: words.next().map(str::to_owned),
            protocol: Protocol::parse(words.next().unwrap()).unwrap(),
            number: words.next().unwrap().parse().unwrap(),
        }
    };
    written.iter().map(port).collect()
}

/// The policy `shop/p` with this specification.
pub fn policy(spec: &str) -> NetworkPolicy {
    let mut object: NetworkPolicy = serde_json::from_value(written(spec)).unwrap();
    object.metadata.name.get_or_insert_with(|| "p".to_owned());
    object.metadata.namespace.get_or_insert_with(|| "shop".to_owned());
    object
}

/// The text of a policy, of which only the specification need be given.
fn written(spec: &str) -> Value {
    let value: Value = serde_yaml_ng::from_str(spec).unwrap();
    match value.get("spec") {
        Some(_) => value,
        None => json!({"spec": value}),
    }
}

/// What this rule alone finds.
pub fn found(rule: &Rule, live: &Live, spec: &str) -> Vec<Finding> {
    let mut only = Severities::default();
    for other in rules::ALL.iter().filter(|other| other.code != rule.code) {
        only = only.with(other.code, Level::Off);
    }
    lint_written(&policy(spec), &written(spec), Some(&live.0), &only)
}

/// What this rule alone finds, as people see it: first the long form, then the line.
pub fn shown(rule: &Rule, live: &Live, spec: &str) -> String {
    let found = found(rule, live, spec);
    assert!(!found.is_empty(), "{} finds nothing in {spec}", rule.code);
    let all: Vec<String> = found
        .iter()
        .map(|finding| format!("{finding}\n| {}", finding.line()))
        .collect();
    all.join("\n\n")
}

/// Asserts that this rule finds nothing.
pub fn good(rule: &Rule, live: &Live, spec: &str) {
    let found = found(rule, live, spec);
    assert!(found.is_empty(), "{spec}: {found:#?}");
}
