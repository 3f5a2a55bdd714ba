//! What API servers send: AdmissionReviews of some 4 KB, about the objects of a large cluster.

use serde_json::{Value, json};

use crate::large;

/// One request, as it goes over the wire.
pub struct Review {
    pub bytes: Vec<u8>,
    /// How long its body is.
    pub body: usize,
    /// For whoever looks at one that took long.
    pub what: String,
}

/// How many different requests of a kind there are.
const MANY: usize = 1_000;

impl Review {
    /// Pods that are created, and Deployments that are changed.
    pub fn pods() -> Vec<Self> {
        (0..MANY)
            .map(|i| {
                let (n, w) = (i % large::NAMESPACES, i % large::WORKLOADS);
                if i % 2 == 0 {
                    Self::of(("", "v1", "Pod", "pods"), "CREATE", &pod(n, w, w % 5), None)
                } else {
                    let kind = ("apps", "v1", "Deployment", "deployments");
                    Self::of(kind, "UPDATE", &deployment(n, w, 3), Some(&deployment(n, w, 2)))
                }
            })
            .collect()
    }

    /// Policies that are created, changed and deleted.
    pub fn policies() -> Vec<Self> {
        let kind = ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
        (0..MANY)
            .map(|i| {
                let (n, p) = (i * 7 % large::NAMESPACES, 2 + i % (large::POLICIES - 2));
                let policy = |port: u16| {
                    kept(
                        json!(large::policy(n, p, port)),
                        "networking.k8s.io/v1",
                        "NetworkPolicy",
                    )
                };
                match i % 4 {
                    0 => {
                        let mut new = policy(443);
                        new["metadata"]["name"] = json!(format!("new-{i}"));
                        Self::of(kind, "CREATE", &new, None)
                    }
                    1 | 2 => Self::of(kind, "UPDATE", &policy(444), Some(&policy(443))),
                    _ => Self::of(kind, "DELETE", &Value::Null, Some(&policy(443))),
                }
            })
            .collect()
    }

    /// All kinds: half of them policies, a third pods and workloads, the rest namespaces.
    pub fn mixed() -> Vec<Self> {
        let mut mixed = Self::policies();
        mixed.extend(Self::pods().into_iter().take(MANY * 2 / 3));
        mixed.extend((0..MANY / 3).map(|i| {
            let n = i % large::NAMESPACES;
            let namespace = |team| kept(json!(large::namespace(n, team)), "v1", "Namespace");
            Self::of(
                ("", "v1", "Namespace", "namespaces"),
                "UPDATE",
                &namespace(1),
                Some(&namespace(2)),
            )
        }));
        // In an order without a pattern, and the same in every run.
        let many = mixed.len();
        let mut order: Vec<Option<Self>> = mixed.into_iter().map(Some).collect();
        (0..many).filter_map(|i| order[i * 769 % many].take()).collect()
    }

    fn of(kind: (&str, &str, &str, &str), operation: &str, object: &Value, old: Option<&Value>) -> Self {
        let (group, version, kind, resource) = kind;
        let metadata = old.unwrap_or(object)["metadata"].clone();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": group, "version": version, "kind": kind},
                "resource": {"group": group, "version": version, "resource": resource},
                "requestKind": {"group": group, "version": version, "kind": kind},
                "requestResource": {"group": group, "version": version, "resource": resource},
                "name": metadata["name"], "namespace": metadata["namespace"], "operation": operation,
                "userInfo": {
                    "username": "system:serviceaccount:argocd:argocd-application-controller", "uid": "014fbff9a07c",
                    "groups": ["system:serviceaccounts", "system:serviceaccounts:argocd", "system:authenticated"],
                    "extra": {"authentication.kubernetes.io/pod-name": ["argocd-application-controller-0"]},
                },
                "object": object, "oldObject": old, "dryRun": false,
                "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "argocd-controller"},
            },
        });
        let body = serde_json::to_vec(&review).unwrap();
        let head = format!(
            "POST /validate?timeout=5s HTTP/1.1\r\nHost: ringfence-webhook.ringfence-system.svc:443\r\nUser-Agent: kube-apiserver-admission\r\n\
             Content-Length: {}\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
            body.len()
        );
        Self {
            body: body.len(),
            what: format!(
                "{operation} {kind} {}/{}",
                metadata["namespace"], metadata["name"]
            ),
            bytes: [head.into_bytes(), body].concat(),
        }
    }
}

/// An object with what the API server and its clients keep in it.
fn kept(mut object: Value, api_version: &str, kind: &str) -> Value {
    let last = object.to_string();
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!("1c4e2f6a-0b51-4c62-9c55-6a5c1b6c7a10");
    metadata["resourceVersion"] = json!("48213377");
    metadata["creationTimestamp"] = json!("2026-03-01T09:12:44Z");
    metadata["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let fields = |n: usize| {
        (0..n)
            .map(|i| (format!("f:field-{i}"), json!({})))
            .collect::<serde_json::Map<_, _>>()
    };
    metadata["managedFields"] = json!([{
        "manager": "argocd-controller", "operation": "Apply", "apiVersion": api_version, "time": "2026-03-01T09:12:44Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": fields(8)}, "f:spec": fields(12)},
    }]);
    object
}

fn template(n: usize, w: usize, role: usize, replicas: usize) -> Value {
    let pod = json!(large::pod(n, w, role));
    let env: Vec<Value> = (0..10)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("https://service-{i}.team-{n:03}.svc.cluster.local:8443/{replicas}")}))
        .collect();
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3});
    json!({
        "metadata": {"labels": pod["metadata"]["labels"], "annotations": {"prometheus.io/scrape": "true", "checksum/config": "5f9b2ac1b7cf4c5d8a4b2f1e"}},
        "spec": {
            "containers": [{
                "name": "main", "image": format!("registry.example.com/team-{n:03}/app-{w:02}:1.27.{replicas}"), "imagePullPolicy": "IfNotPresent",
                "ports": pod["spec"]["containers"][0]["ports"], "env": env,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
                "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}, {"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "config", "configMap": {"name": "app", "defaultMode": 420}}, {"name": "kube-api-access", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}], "defaultMode": 420}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "serviceAccountName": "app", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
        },
    })
}

/// A pod as large as pods are.
pub fn pod(n: usize, w: usize, role: usize) -> Value {
    let mut pod = kept(json!(large::pod(n, w, role)), "v1", "Pod");
    let made = template(n, w, role, 2);
    let places = pod["spec"]["nodeName"].clone();
    pod["spec"] = made["spec"].clone();
    pod["spec"]["nodeName"] = places;
    pod["metadata"]["annotations"] = made["metadata"]["annotations"].clone();
    pod
}

fn deployment(n: usize, w: usize, replicas: usize) -> Value {
    let labels = json!(large::pod(n, w, w % 5))["metadata"]["labels"].clone();
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("app-{w:02}"), "namespace": format!("team-{n:03}"), "labels": {"app": labels["app"]}, "generation": replicas},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": labels["app"]}}, "template": template(n, w, w % 5, replicas)},
    });
    deployment["metadata"]["creationTimestamp"] = json!("2026-03-01T09:12:44Z");
    deployment
}

pub fn kube_system() -> Value {
    json!({"metadata": {"name": "kube-system", "labels": {"kubernetes.io/metadata.name": "kube-system"}}})
}

pub fn dns_service() -> Value {
    json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": "10.96.0.10", "selector": {"k8s-app": "kube-dns"}, "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53}, {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]},
    })
}

pub fn dns_pods() -> Vec<Value> {
    (0..2)
        .map(|i| {
            json!({
                "metadata": {"name": format!("coredns-{i}"), "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
                "spec": {"nodeName": "node-0", "containers": [{"name": "coredns", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": format!("10.200.0.{}", i + 2)}]},
            })
        })
        .collect()
}

/// As platform teams have them.
pub fn standards() -> Vec<Value> {
    let standard = |name: &str, spec: Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "LabelStandard", "metadata": {"name": name, "generation": 1}, "spec": spec});
    vec![
        standard(
            "roles",
            json!({"kinds": ["Pod"], "labels": [{"key": "role", "required": true, "pattern": "r[0-9]"}, {"key": "app", "required": true}]}),
        ),
        standard(
            "teams",
            json!({"kinds": ["Namespace"], "labels": [{"key": "team", "required": true, "pattern": "t[0-9]+"}]}),
        ),
    ]
}

pub fn baseline() -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "NamespaceBaseline", "metadata": {"name": "bench", "generation": 1},
        "spec": {
            "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
            "policies": [
                {"name": "default-deny", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
                {"name": "allow-dns", "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"fact": "dns"}]}},
            ],
        },
    })
}
