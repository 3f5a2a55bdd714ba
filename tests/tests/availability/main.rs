//! The webhook is never the outage: what becomes of requests through the API server while its replicas come, go and die.
//!
//! A program of its own, since whoever tests something else meanwhile would be disturbed; and one test after the other.

#[path = "../system/fixture.rs"]
mod fixture;
mod load;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use load::Load;
use ringfence_tests::target::{Target, until};
use tokio::sync::Mutex;

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::const_new(());

const SYSTEM: &str = "ringfence-system";
const WEBHOOK: &str = "deployment/ringfence-webhook";
const OURS: &str = "app.kubernetes.io/name=ringfence-webhook";
/// A new pod, from its creation to its being ready, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Before and after what happens, so that the load itself is known to be good.
const CALM: Duration = Duration::from_secs(2);

async fn in_system(target: &Target, arguments: &[&str]) -> anyhow::Result<String> {
    target
        .kubectl(&[&["--namespace", SYSTEM], arguments].concat())
        .await
}

async fn rolled_out(target: &Target) -> anyhow::Result<()> {
    in_system(target, &["rollout", "status", WEBHOOK, "--timeout=120s"])
        .await
        .map(drop)
}

/// The replicas that are ready and not going.
async fn replicas(target: &Target) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), SYSTEM);
    let ready = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut conditions = conditions.filter(|condition| condition.type_ == "Ready");
        pod.metadata.deletion_timestamp.is_none() && conditions.any(|condition| condition.status == "True")
    };
    let all = pods.list(&ListParams::default().labels(OURS)).await?;
    Ok(all.into_iter().filter(ready).collect())
}

/// Both replicas, and nothing else of the Deployment.
async fn both(target: &Target) -> anyhow::Result<Vec<Pod>> {
    rolled_out(target).await?;
    until("two ready replicas", SOON, || async {
        let replicas = replicas(target).await?;
        Ok((replicas.len() == 2).then_some(replicas))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_asked_to_end_takes_no_request_with_it() -> anyhow::Result<()> {
    const NS: &str = "t-ends";
    let _turn = TURN.lock().await;
    let target = fixture::start(&[NS]).await?;
    let load = Load::begin(&target.client, NS).await?;
    for pod in both(&target).await? {
        tokio::time::sleep(CALM).await;
        in_system(&target, &["delete", "pod", &pod.name_any()]).await?; // SIGTERM, and waits until it is gone
        both(&target).await?;
    }
    tokio::time::sleep(CALM).await;
    load.end_whole().await?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_request() -> anyhow::Result<()> {
    const NS: &str = "t-rolls";
    let _turn = TURN.lock().await;
    let target = fixture::start(&[NS]).await?;
    let load = Load::begin(&target.client, NS).await?;
    tokio::time::sleep(CALM).await;
    in_system(&target, &["rollout", "restart", WEBHOOK]).await?;
    both(&target).await?;
    // The old ones are not ready any more, and still answer whoever has not heard of it.
    tokio::time::sleep(CALM + Duration::from_secs(6)).await;
    load.end_whole().await?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_rotated_and_no_request_fails() -> anyhow::Result<()> {
    const NS: &str = "t-rotates";
    let _turn = TURN.lock().await;
    let target = fixture::start(&[NS]).await?;
    let secrets: Api<Secret> = Api::namespaced(target.client.clone(), SYSTEM);
    let read = async |name: &str, key: &str| -> anyhow::Result<Vec<u8>> {
        let data = secrets.get(name).await?.data.unwrap_or_default();
        Ok(data
            .get(key)
            .with_context(|| format!("{name} has no {key}"))?
            .0
            .clone())
    };
    // A day of theirs lasts 8 s: a serving certificate is renewed every 16 s or so, the CA every minute.
    let hurry = ["DAY_SECONDS=8", "LEAF_DAYS=3", "AUTHORITY_DAYS=12"]
        .map(|set| format!("RINGFENCE_WEBHOOK_CERTIFICATES__{set}"));
    let set: Vec<&str> = hurry.iter().map(String::as_str).collect();
    in_system(&target, &[&["set", "env", WEBHOOK], set.as_slice()].concat()).await?;
    both(&target).await?;
    let load = Load::begin(&target.client, NS).await?;
    let begin = Instant::now();
    let (mut leaves, mut authorities) = (Vec::new(), Vec::new());
    while begin.elapsed() < Duration::from_secs(150) {
        leaves.push(read("ringfence-webhook-tls", "tls.crt").await?);
        authorities.push(read("ringfence-ca", "ca.key").await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let told = load.end_whole().await;
    let calm = ["DAY_SECONDS-", "LEAF_DAYS-", "AUTHORITY_DAYS-"]
        .map(|unset| format!("RINGFENCE_WEBHOOK_CERTIFICATES__{unset}"));
    let unset: Vec<&str> = calm.iter().map(String::as_str).collect();
    in_system(&target, &[&["set", "env", WEBHOOK], unset.as_slice()].concat()).await?;
    both(&target).await?;
    told?;
    leaves.dedup();
    authorities.dedup();
    println!("{} serving certificates, {} CAs", leaves.len(), authorities.len());
    ensure!(leaves.len() >= 6 && authorities.len() >= 3, "nothing was rotated");
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_takes_only_what_it_had_in_hand() -> anyhow::Result<()> {
    const NS: &str = "t-killed";
    let _turn = TURN.lock().await;
    let target = fixture::start(&[NS]).await?;
    let victim = both(&target).await?.remove(0);
    let load = Load::begin(&target.client, NS).await?;
    tokio::time::sleep(CALM).await;
    let killed = Instant::now();
    kill(&target, &victim).await?;
    until("the container to have been started again", SOON, || async {
        let pods: Api<Pod> = Api::namespaced(target.client.clone(), SYSTEM);
        let now = pods.get(&victim.name_any()).await?;
        Ok((restarts(&now) > restarts(&victim)).then_some(()))
    })
    .await?;
    both(&target).await?;
    tokio::time::sleep(CALM).await;
    let told = load.end().await?;
    let after = told
        .failed
        .iter()
        .map(|(sent, _)| sent.saturating_duration_since(killed));
    let last = after.max().unwrap_or_default();
    println!(
        "killed: {} requests failed, the last was sent {last:?} after",
        told.failed.len()
    );
    if let Some((_, said)) = told.failed.first() {
        println!("as: {said}");
    }
    ensure!(last < Duration::from_secs(2), "{:?}", told.failed.last());
    target.delete_namespaces(&[NS]).await
}

/// How often a pod's container was started again.
fn restarts(pod: &Pod) -> i32 {
    let status = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    status
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .sum()
}

/// Kills the process of a pod's container, as a kernel short of memory does.
async fn kill(target: &Target, pod: &Pod) -> anyhow::Result<()> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let status = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let id = status.and_then(|statuses| statuses.first()?.container_id.clone());
    let (node, id) = (
        node.context("it is on no node")?,
        id.context("it has no container")?,
    );
    let id = id.trim_start_matches("containerd://");
    let kill = ["ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id];
    target.in_node(&node, &kill).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_replica_left_what_the_cluster_stands_on_goes_on() -> anyhow::Result<()> {
    const NS: &str = "t-dead";
    let _turn = TURN.lock().await;
    let target = fixture::start(&[NS]).await?;
    both(&target).await?;
    in_system(&target, &["scale", WEBHOOK, "--replicas=0"]).await?;
    let gone = until("no replica", SOON, || async {
        let pods: Api<Pod> = Api::namespaced(target.client.clone(), SYSTEM);
        let left = pods.list(&ListParams::default().labels(OURS)).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await;
    let done = match gone {
        Ok(()) => without(&target, NS).await,
        Err(error) => Err(error),
    };
    // Its own pods come back without being asked about.
    in_system(&target, &["scale", WEBHOOK, "--replicas=2"]).await?;
    let back = both(&target).await;
    done?;
    back?;
    until("policies to be taken again", Duration::from_secs(10), || async {
        Ok(target.try_apply(&policy(NS)).await?.success.then_some(()))
    })
    .await?;
    target.delete_namespaces(&[NS]).await
}

fn policy(namespace: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: {namespace}}}, \
         spec: {{podSelector: {{}}, policyTypes: [Ingress]}}}}"
    )
}

fn pod(namespace: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: t-dead, namespace: {namespace}, labels: {{app: t-dead}}}}, \
         spec: {{schedulerName: nobody, containers: [{{name: main, image: agnhost, args: [pause]}}]}}}}"
    )
}

/// Does what must go on while nobody answers.
async fn without(target: &Target, namespace: &str) -> anyhow::Result<()> {
    let said = target.try_apply(&policy(namespace)).await?;
    ensure!(
        !said.success && said.stderr.contains("ringfence.dev"),
        "a policy must wait for the webhook: {}{}",
        said.stdout,
        said.stderr
    );
    let nodes = target.nodes().await?;
    let node = nodes.first().context("there is no node")?;
    let leases: Api<Lease> = Api::namespaced(target.client.clone(), "kube-node-lease");
    let renewed = async || anyhow::Ok(leases.get(node).await?.spec.and_then(|spec| spec.renew_time));
    let before = renewed().await?;
    // Nodes are changed, and in kube-system everything is.
    target
        .kubectl(&["label", "node", node, "t-dead=yes", "--overwrite"])
        .await?;
    target.kubectl(&["label", "node", node, "t-dead-"]).await?;
    target.kubectl(&["cordon", node]).await?;
    target.kubectl(&["uncordon", node]).await?;
    target.apply(&policy("kube-system")).await?;
    target
        .kubectl(&["--namespace", "kube-system", "delete", "networkpolicy", "p"])
        .await?;
    target.apply(&pod("kube-system")).await?;
    target
        .kubectl(&["--namespace", "kube-system", "label", "pod", "t-dead", "more=yes"])
        .await?;
    target
        .kubectl(&[
            "--namespace",
            "kube-system",
            "delete",
            "pod",
            "t-dead",
            "--grace-period=0",
            "--force",
        ])
        .await?;
    // A new pod of the DNS becomes ready.
    target
        .kubectl(&[
            "--namespace",
            "kube-system",
            "rollout",
            "restart",
            "deployment/coredns",
        ])
        .await?;
    target
        .kubectl(&[
            "--namespace",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=120s",
        ])
        .await?;
    // So does what tenants need to go on: pods, Deployments and their pods, namespaces.
    target.apply(&pod(namespace)).await?;
    target
        .apply(&format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {namespace}}}, spec: {{replicas: 1, \
             selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{\
             containers: [{{name: main, image: agnhost, args: [pause], imagePullPolicy: IfNotPresent}}]}}}}}}}}"
        ))
        .await?;
    let deployments: Api<Deployment> = Api::namespaced(target.client.clone(), namespace);
    until("a tenant's Deployment to make its pod", SOON, || async {
        let status = deployments.get("web").await?.status;
        Ok(status.filter(|status| status.replicas == Some(1)))
    })
    .await?;
    target.delete_namespaces(&["t-dead-more"]).await?;
    target.kubectl(&["create", "namespace", "t-dead-more"]).await?;
    target.delete_namespaces(&["t-dead-more"]).await?;
    until("the node's lease to be renewed", SOON, || async {
        Ok((renewed().await? != before).then_some(()))
    })
    .await
}
