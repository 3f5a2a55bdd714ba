//! The cluster that the rules' examples speak of, made of real objects: pods that no node runs, since only what the API says of them counts.

use ringfence_tests::target::Target;
use serde_json::{Value, json};

/// Where the policies are.
pub const SHOP: &str = "shop";
const NAMESPACES: [&str; 5] = [SHOP, "monitoring", "istio-system", "kube-flannel", "empty"];

/// A pod: where, its name, its labels, its ports as `http TCP 8080`.
fn pod(namespace: &str, name: &str, labels: Value, ports: &[&str]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            let mut words = port.split(' ');
            let (name, protocol) = (words.next(), words.next());
            let number: Option<u16> = words.next().and_then(|number| number.parse().ok());
            json!({"name": name, "protocol": protocol, "containerPort": number})
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "agnhost", "args": ["pause"], "ports": ports}]},
    })
}

fn on_host(mut pod: Value) -> Value {
    pod["spec"]["hostNetwork"] = json!(true);
    pod
}

/// What is on a node on which nothing enforces policies. There is no such node, so Kubernetes takes them away after a while.
fn on_bare_node() -> [Value; 2] {
    let mut metered = pod(
        SHOP,
        "metered",
        json!({"app": "metered"}),
        &["http TCP 8000", "metrics TCP 9100"],
    );
    metered["metadata"]["annotations"] =
        json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9100"});
    let flannel = on_host(pod("kube-flannel", "flannel", json!({"app": "flannel"}), &[]));
    [metered, flannel].map(|mut pod| {
        pod["spec"]["nodeName"] = json!("t-bare");
        pod
    })
}

/// Makes again what may have been taken away.
pub async fn renew(target: &Target) -> anyhow::Result<()> {
    let both = json!({"apiVersion": "v1", "kind": "List", "items": on_bare_node()});
    target.apply(&both.to_string()).await
}

fn objects() -> Vec<Value> {
    let prometheus = json!({"app": "prometheus", "app.kubernetes.io/name": "prometheus"});
    let mut meshed = pod(SHOP, "meshed", json!({"app": "meshed"}), &[]);
    meshed["metadata"]["annotations"] = json!({"sidecar.istio.io/status": "{}"});
    let sidecar = json!({"name": "istio-proxy", "image": "agnhost", "args": ["pause"]});
    if let Some(containers) = meshed["spec"]["containers"].as_array_mut() {
        containers.push(sidecar);
    }
    let mut objects = vec![
        pod("istio-system", "istiod", json!({"app": "istiod"}), &[]),
        meshed,
        on_host(pod(SHOP, "exporter", json!({"app": "exporter"}), &[])),
        pod("monitoring", "prometheus", prometheus, &[]),
        pod(
            SHOP,
            "frontend",
            json!({"app": "frontend", "tier": "web"}),
            &["http TCP 8000"],
        ),
        pod(
            SHOP,
            "api",
            json!({"app": "api", "tier": "backend"}),
            &["http TCP 8080"],
        ),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
            "spec": {"selector": {"app": "istiod"}, "ports": [{"name": "xds", "port": 15012}, {"name": "hook", "port": 443, "targetPort": 15017}]}}),
    ];
    // A Service whose address the rules' examples name.
    objects.push(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": SHOP},
        "spec": {"selector": {"app": "api"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
    );
    objects
}

/// Makes it.
pub async fn open(target: &Target) -> anyhow::Result<()> {
    target.delete_namespaces(&NAMESPACES).await?;
    for namespace in NAMESPACES {
        target.kubectl(&["create", "namespace", namespace]).await?;
    }
    for object in objects() {
        target.apply(&object.to_string()).await?;
    }
    for (name, address) in [("frontend", "10.244.1.2"), ("api", "10.244.1.3")] {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}}).to_string();
        let patch = [
            "--namespace",
            SHOP,
            "patch",
            "pod",
            name,
            "--subresource=status",
            "--type=merge",
            "--patch",
            &status,
        ];
        target.kubectl(&patch).await?;
    }
    Ok(())
}

pub async fn close(target: &Target) -> anyhow::Result<()> {
    target.delete_namespaces(&NAMESPACES).await
}

/// A policy that takes more room on a node than there is.
pub fn over_budget() -> Value {
    let blocks: Vec<Value> = (0..40_000_u32)
        .map(|n| json!({"ipBlock": {"cidr": format!("100.{}.{}.{}/32", n / 65_536, n / 256 % 256, n % 256)}}))
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": SHOP},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": blocks}]},
    })
}
