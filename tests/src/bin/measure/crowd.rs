//! A large cluster at a real API server: the namespaces, pods and policies of the other benchmarks' large cluster, on nodes that there
//! are no kubelets for. The pods' addresses are written to their status, as a kubelet does.

#[path = "../../../../netpol/benches/large/mod.rs"]
#[allow(dead_code, clippy::unwrap_used)] // others need more of it; it makes objects of what is written there
mod large;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, from_value, json, to_value};

pub const PODS: usize = large::NAMESPACES * large::WORKLOADS;
pub const POLICIES: usize = large::NAMESPACES * large::POLICIES;
pub const LOCAL: usize = PODS / large::NODES;
/// Of whose pods the agent takes care.
pub const NODE: &str = "node-0";

const AT_ONCE: usize = 48;
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes all of it; what is there already stays.
pub async fn make(client: &Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for n in 0..large::NODES {
        let node =
            from_value(json!({"metadata": {"name": large::node(n)}, "spec": {"unschedulable": true}}))?;
        unless_there(nodes.create(&PostParams::default(), &node).await)?;
    }
    for n in 0..large::NAMESPACES {
        unless_there(
            namespaces
                .create(&PostParams::default(), &large::namespace(n, n % 20))
                .await,
        )?;
    }
    let all = (0..large::NAMESPACES).flat_map(|n| (0..large::WORKLOADS).map(move |w| (n, w)));
    let pods = stream::iter(all).map(|(n, w)| pod(client, large::pod(n, w, w % 5)));
    pods.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let all =
        (0..large::NAMESPACES).flat_map(|n| (0..large::POLICIES).map(move |p| large::policy(n, p, 443)));
    let policies = stream::iter(all).map(|policy| async move {
        let api: Api<NetworkPolicy> =
            Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default());
        unless_there(api.create(&PostParams::default(), &policy).await)
    });
    policies.buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// Makes a pod that runs nowhere and has an address.
pub async fn pod(client: &Client, pod: Pod) -> anyhow::Result<()> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let mut object = to_value(pod)?;
    let status = object["status"].take();
    object["metadata"]["uid"].take();
    for container in object["spec"]["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = json!("registry.example/team/application:1.0");
    }
    object["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    object["spec"]["automountServiceAccountToken"] = json!(false);
    // Its owner is nowhere to be found: it would be collected.
    object["metadata"]["ownerReferences"] = json!([]);
    let object: Pod = from_value(object)?;
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match api.create(&PostParams::default(), &object).await {
            // Its service account is made a moment after its namespace.
            Err(kube::Error::Api(status)) if status.code == 403 && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => break unless_there(other)?,
        }
    }
    let patch = json!({"status": with_conditions(&status)});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// What a kubelet reports of a pod that runs.
fn with_conditions(status: &Value) -> Value {
    let addresses = &status["podIPs"];
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({
        "phase": "Running", "podIPs": addresses, "podIP": addresses[0]["ip"], "hostIP": "198.51.100.7",
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": (["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition)),
        "containerStatuses": [{
            "name": "main", "ready": true, "restartCount": 0, "started": true, "image": "registry.example/team/application:1.0",
            "imageID": format!("registry.example/team/application@sha256:{:064}", 7), "containerID": format!("containerd://{:064}", 7),
            "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
        }],
    })
}

/// It is no error if an object was there already.
pub fn unless_there<T>(result: kube::Result<T>) -> anyhow::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
