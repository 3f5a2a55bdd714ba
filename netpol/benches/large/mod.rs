//! A large cluster: 10,000 pods in 200 namespaces on 40 nodes of 250, with 2,000 policies; the same as the command line's benchmark
//! writes to files.

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::Cluster;
use serde_json::{Value, from_value, json};

pub const NAMESPACES: usize = 200;
pub const WORKLOADS: usize = 50;
pub const POLICIES: usize = 10;
pub const NODES: usize = 40;

#[allow(dead_code)] // not every benchmark has it at once
pub fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for n in 0..NAMESPACES {
        cluster.apply(&namespace(n, n % 20));
        for w in 0..WORKLOADS {
            cluster.apply(&pod(n, w, w % 5));
        }
        for p in 0..POLICIES {
            cluster.apply(&policy(n, p, 443));
        }
        cluster.apply(&service(n));
    }
    cluster
}

pub fn node(n: usize) -> String {
    format!("node-{n}")
}

pub fn namespace(n: usize, team: usize) -> Namespace {
    let name = name_of(n);
    let labels = json!({"kubernetes.io/metadata.name": name, "team": format!("t{team}")});
    from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
}

/// The namespace and the workload of a pod of the first node: of each namespace's one.
#[allow(dead_code)] // not every benchmark asks
pub fn local(n: usize) -> (usize, usize) {
    let namespace = n % NAMESPACES;
    (namespace, (NODES - namespace % NODES) % NODES)
}

/// The pod of a workload, with the label `role`.
pub fn pod(n: usize, w: usize, role: usize) -> Pod {
    let index = n * WORKLOADS + w;
    pod_at(
        n,
        w,
        role,
        &format!(
            "10.{}.{}.{}",
            index % NODES,
            index / NODES / 250,
            1 + index / NODES % 250
        ),
    )
}

pub fn pod_at(n: usize, w: usize, role: usize, address: &str) -> Pod {
    let name = format!("app-{w:02}-7d4b9c6f5-x{n:03}z");
    from_value(json!({
        "metadata": {
            "name": name, "namespace": name_of(n), "uid": format!("8b0c7a52-91e4-4a3e-b6f1-{:012}", n * WORKLOADS + w),
            "labels": {"app": format!("app-{w:02}"), "role": format!("r{role}"), "pod-template-hash": "7d4b9c6f5"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{w:02}-7d4b9c6f5"), "uid": "1", "controller": true}],
        },
        "spec": {
            "nodeName": node((n + w) % NODES),
            "containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8000 + w}]}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }))
    .unwrap()
}

/// Default deny, DNS, and rules within the namespace, to other teams and to addresses.
pub fn policy(n: usize, p: usize, port: u16) -> NetworkPolicy {
    let dns = || {
        let peer = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name_of(0)}}, "podSelector": {"matchLabels": {"app": "app-00"}}});
        json!([{"to": [peer], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}])
    };
    let spec = match p {
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        1 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": dns()}),
        _ => {
            let p = p - 2;
            let (role, app) = ((n + p) % 5, (n * 7 + p * 13) % WORKLOADS);
            let role_of = |role: usize| json!({"matchLabels": {"role": format!("r{}", role % 5)}});
            json!({
                "podSelector": role_of(role),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": [
                        {"podSelector": role_of(role + 1)},
                        {"namespaceSelector": {"matchLabels": {"team": format!("t{}", (n + p) % 20)}}, "podSelector": {"matchLabels": {"app": format!("app-{app:02}")}}},
                        {"ipBlock": {"cidr": format!("172.{}.0.0/16", 16 + p), "except": [format!("172.{}.{n}.0/24", 16 + p)]}},
                    ],
                    "ports": [{"port": "http"}],
                }],
                "egress": [{
                    "to": [
                        {"podSelector": {}},
                        {"namespaceSelector": {}, "podSelector": role_of(role + 2)},
                        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}},
                    ],
                    "ports": [{"port": "http"}, {"port": port}],
                }],
            })
        }
    };
    named(n, &format!("p{p}"), spec)
}

pub fn named(n: usize, name: &str, spec: Value) -> NetworkPolicy {
    from_value(json!({"metadata": {"name": name, "namespace": name_of(n)}, "spec": spec})).unwrap()
}

pub fn service(n: usize) -> Service {
    let spec = json!({"clusterIP": format!("10.96.{}.{}", n / 250, n % 250 + 1), "ports": [{"port": 80}, {"port": 443}]});
    from_value(json!({"metadata": {"name": "web", "namespace": name_of(n)}, "spec": spec})).unwrap()
}

fn name_of(n: usize) -> String {
    format!("team-{n:03}")
}
