//! Admission requests and a small cluster for this crate's tests.

use ringfence_netpol::api::LabelStandard;
use ringfence_netpol::cluster::{Cluster, Key, Namespace, Pod};
use serde_json::{Value, json};

/// A request: who does what to which object, given as YAML.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    pub resource: &'a str,
    pub object: Option<&'a str>,
    pub old: Option<&'a str>,
    /// Empty: alice.
    pub user: &'a str,
    pub group: &'a str,
    pub sub_resource: Option<&'a str>,
}

impl Ask<'_> {
    pub fn body(self) -> Vec<u8> {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Value>(yaml).unwrap();
        let (group, version, kind) = match self.resource {
            "networkpolicies" => ("networking.k8s.io", "v1", "NetworkPolicy"),
            "namespaces" => ("", "v1", "Namespace"),
            "pods" => ("", "v1", "Pod"),
            "bindings" => ("", "v1", "Binding"),
            "deployments" => ("apps", "v1", "Deployment"),
            "replicasets" => ("apps", "v1", "ReplicaSet"),
            "cronjobs" => ("batch", "v1", "CronJob"),
            "labelstandards" => ("ringfence.dev", "v1alpha1", "LabelStandard"),
            "namespacebaselines" => ("ringfence.dev", "v1alpha1", "NamespaceBaseline"),
            _ => ("", "v1", "ConfigMap"),
        };
        let operation = match (self.object, self.old) {
            (Some(_), None) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
            (None, _) => "DELETE",
        };
        let namespaced = !matches!(
            self.resource,
            "namespaces" | "labelstandards" | "namespacebaselines"
        );
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "uid-1",
                "kind": {"group": group, "version": version, "kind": kind},
                "resource": {"group": group, "version": version, "resource": self.resource},
                "subResource": self.sub_resource,
                "name": "x",
                "namespace": namespaced.then_some("shop"),
                "operation": operation,
                "userInfo": {
                    "username": if self.user.is_empty() { "alice" } else { self.user },
                    "groups": [self.group],
                },
                "object": self.object.map(read),
                "oldObject": self.old.map(read),
                "dryRun": false,
            }
        });
        serde_json::to_vec(&review).unwrap()
    }
}

/// The body of a request to create (or update, if there is an old object) what is given as YAML.
pub fn body(resource: &str, object: &str, old: Option<&str>) -> Vec<u8> {
    Ask {
        resource,
        object: Some(object),
        old,
        ..Ask::default()
    }
    .body()
}

/// `kube-system` with DNS, `shop` with a frontend, `monitoring` with Prometheus, and a standard that asks for `tier`.
pub fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (namespace, label, value) in [
        ("kube-system", "k8s-app", "kube-dns"),
        ("monitoring", "app", "prometheus"),
        ("shop", "app", "frontend"),
    ] {
        let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into_iter().collect();
        cluster.namespaces.apply(
            Key::cluster(namespace),
            Namespace {
                labels: labels("kubernetes.io/metadata.name", namespace),
                ..Namespace::default()
            },
        );
        let pod = Pod {
            labels: labels(label, value).into(),
            ..Pod::default()
        };
        cluster.pods.apply(Key::new(namespace, "pod"), pod);
    }
    let spec = "{labels: [{key: tier, allowedValues: [gold, silver]}]}";
    cluster.standards.apply(
        Key::cluster("tiers"),
        LabelStandard::new("tiers", serde_yaml_ng::from_str(spec).unwrap()),
    );
    cluster
}
