//! What the rules' tests share: a small live cluster and short ways to ask one rule.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{Level, Rule, Severities, lint_written, rules};
use crate::cluster::{Cluster, Key, Namespace, Pod};
use crate::finding::Finding;

/// A live cluster: kube-system with DNS and kube-proxy, monitoring, an empty namespace, and `shop`, where the
/// policy under test is, with a frontend and an api.
pub struct Live(pub Cluster);

impl Default for Live {
    fn default() -> Self {
        let mut live = Self(Cluster::default())
            .pod("kube-system", "coredns", &[("k8s-app", "kube-dns")])
            .pod("kube-system", "kube-proxy", &[("k8s-app", "kube-proxy")])
            .pod("monitoring", "prometheus", &[("app", "prometheus")])
            .pod("shop", "frontend", &[("app", "frontend"), ("tier", "web")])
            .pod("shop", "api", &[("app", "api"), ("tier", "backend")])
            .namespace("empty", &[]);
        let proxy = Key::new("kube-system", "kube-proxy");
        if let Some(pod) = live.0.pods.get(&proxy).cloned() {
            live.0.pods.apply(
                proxy,
                Pod {
                    host_network: true,
                    ..pod
                },
            );
        }
        live
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
        let pod = Pod {
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Pod::default()
        };
        live.0.pods.apply(Key::new(namespace, name), pod);
        live
    }
}

/// The policy `shop/p` with this specification.
pub fn policy(spec: &str) -> NetworkPolicy {
    let mut object = NetworkPolicy {
        spec: Some(serde_yaml_ng::from_str(spec).unwrap()),
        ..NetworkPolicy::default()
    };
    object.metadata.name = Some("p".to_owned());
    object.metadata.namespace = Some("shop".to_owned());
    object
}

/// What this rule alone finds.
pub fn found(rule: &Rule, live: &Live, spec: &str) -> Vec<Finding> {
    let mut only = Severities::default();
    for other in rules::ALL.iter().filter(|other| other.code != rule.code) {
        only = only.with(other.code, Level::Off);
    }
    let written = serde_json::json!({"spec": serde_yaml_ng::from_str::<serde_json::Value>(spec).unwrap()});
    lint_written(&policy(spec), &written, Some(&live.0), &only)
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
