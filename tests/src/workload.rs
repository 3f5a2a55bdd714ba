//! Applications to measure with: pods that serve HTTP and UDP, and can connect out.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use crate::target::{Target, until};

/// The image of the applications: Kubernetes's own test image; `RINGFENCE_TEST_IMAGE` names another build of it.
pub(crate) fn image() -> String {
    std::env::var("RINGFENCE_TEST_IMAGE").unwrap_or_else(|_| "ringfence.test/agnhost:dev".to_owned())
}

/// One application: a pod with a Service of the same name.
#[derive(Debug, Clone)]
pub struct Application {
    pub namespace: String,
    pub name: String,
    /// Where it serves, TCP and UDP; the Service's port is 80.
    pub port: u16,
    pub node: String,
    pub address: String,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub port: u16,
}

/// Runs applications, spread over the nodes in turn, and waits until they serve.
///
/// # Errors
/// If they are refused, or do not serve within a minute.
pub async fn run(target: &Target, wanted: &[Wanted<'_>]) -> anyhow::Result<Vec<Application>> {
    let nodes = target.nodes().await?;
    let items: Vec<Value> = wanted
        .iter()
        .zip(nodes.iter().cycle())
        .flat_map(|(application, node)| [pod(application, node), service(application)])
        .collect();
    target
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
        .await?;
    let mut running = Vec::new();
    for application in wanted {
        running.push(wait(target, application).await?);
    }
    Ok(running)
}

async fn wait(target: &Target, wanted: &Wanted<'_>) -> anyhow::Result<Application> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), wanted.namespace);
    let what = format!("pod {}/{} to be ready", wanted.namespace, wanted.name);
    until(&what, Duration::from_secs(60), || async {
        let Some(pod) = pods.get_opt(wanted.name).await? else {
            return Ok(None);
        };
        let Some(status) = pod.status else { return Ok(None) };
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        let node = pod.spec.and_then(|spec| spec.node_name);
        let (Some(address), Some(node), true) = (status.pod_ip, node, ready) else {
            return Ok(None);
        };
        let (namespace, name) = (wanted.namespace.to_owned(), wanted.name.to_owned());
        Ok(Some(Application {
            namespace,
            name,
            port: wanted.port,
            node,
            address,
        }))
    })
    .await
}

fn pod(wanted: &Wanted<'_>, node: &str) -> Value {
    let Wanted {
        namespace,
        name,
        port,
    } = wanted;
    let serve = json!([
        "netexec",
        format!("--http-port={port}"),
        format!("--udp-port={port}")
    ]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "serve", "image": image(), "imagePullPolicy": "IfNotPresent", "args": serve,
                "ports": [
                    {"name": "http", "containerPort": port, "protocol": "TCP"},
                    {"name": "udp", "containerPort": port, "protocol": "UDP"},
                ],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 1},
            }],
        },
    })
}

fn service(wanted: &Wanted<'_>) -> Value {
    let Wanted { namespace, name, .. } = wanted;
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
                {"name": "udp", "port": 80, "targetPort": "udp", "protocol": "UDP"},
            ],
        },
    })
}

impl Application {
    /// `address:port` of the pod itself.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// `name.namespace.svc:80`, by way of DNS and the Service's ClusterIP.
    pub fn service(&self) -> String {
        format!("{}.{}.svc.cluster.local:80", self.name, self.namespace)
    }
}

/// A pod that does nothing, on whichever node.
///
/// # Errors
/// If it is no pod.
pub fn pause(name: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{"name": "pause", "image": image(), "imagePullPolicy": "IfNotPresent", "args": ["pause"]}],
        },
    }))?)
}
