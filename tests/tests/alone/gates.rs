//! Pods that wait for their baseline, on the real API server and scheduler: switched on, and off, as the option's README says.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use ringfence_netpol::baseline::gate::GATE;
use ringfence_tests::install;
use ringfence_tests::target::{Target, repository, until};
use tokio::process::Command;

use crate::stage::{SETTLE, Stage, apply};

const NAME: &str = "t-gate";
const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
const DNS: &str = "{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}";
const OPTION: &str = "deploy/options/scheduling-gates";

/// The commands of a heading of the option's README, run by a shell as whoever reads it would.
async fn run(target: &Target, heading: &str, block: usize) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(repository().join(OPTION).join("README.md"))?;
    let part = text
        .split("\n## ")
        .find(|part| part.starts_with(heading))
        .context("no such heading")?;
    let commands = part
        .split("```")
        .nth(2 * block + 1)
        .context("no commands there")?;
    let bin = repository().join("target/cluster/bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(repository())
        .env("KUBECONFIG", &target.kubeconfig)
        .env("PATH", path)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{heading}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

async fn off(target: &Target) -> anyhow::Result<()> {
    run(target, "Break the glass", 0).await?;
    for (deployment, variable) in [
        (
            "deployment/ringfence-generator",
            "RINGFENCE_GENERATOR_SCHEDULING_GATES-",
        ),
        (
            "deployment/ringfence-webhook",
            "RINGFENCE_WEBHOOK_REVIEW__SCHEDULING_GATES-",
        ),
    ] {
        let set = [
            "--namespace",
            install::NAMESPACE,
            "set",
            "env",
            deployment,
            variable,
        ];
        target.kubectl(&set).await?;
    }
    let rights = format!("{OPTION}/rights.yaml");
    target
        .kubectl(&["delete", "--ignore-not-found", "-f", &rights])
        .await?;
    install::wait(target).await
}

async fn namespace(target: &Target, name: &str) -> anyhow::Result<()> {
    let account =
        format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {name}}}}}");
    let namespace =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{t: {NAME}}}}}}}");
    apply(target, &format!("{namespace}\n---\n{account}")).await
}

const SPEC: &str = "{terminationGracePeriodSeconds: 0, automountServiceAccountToken: false, containers: [{name: pause, \
    image: 'ringfence.test/agnhost:dev', imagePullPolicy: IfNotPresent, args: [pause]}]}";

async fn pod(target: &Target, namespace: &str, name: &str) -> anyhow::Result<()> {
    target
        .apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, spec: {SPEC}}}"
        ))
        .await
}

fn gated(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.into_iter().any(|gate| gate.name == GATE)
}

fn running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

async fn runs(target: &Target, namespace: &str, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
    until(&format!("{namespace}/{name} to run"), SETTLE, || async {
        Ok(pods.get_opt(name).await?.filter(running).map(drop))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_baseline_and_no_longer() -> anyhow::Result<()> {
    let spaces = [NAME, "t-gate-ready", "t-gate-glass"];
    let stage = Stage::take(NAME, &spaces).await?;
    let target = &stage.target;
    off(target).await?;
    stage.generators(2).await?;
    stage.baseline(NAME, &[DENY, DNS]).await?;
    namespace(target, "t-gate-ready").await?;
    pod(target, "t-gate-ready", "before").await?;
    run(target, "# Pods that wait", 0).await?;
    // The bundle is put into the new hook, and the API server takes a moment to ask it.
    namespace(target, "t-gate-glass").await?;
    stage.generators(0).await?;
    target
        .kubectl(&[
            "--namespace",
            "t-gate-glass",
            "delete",
            "networkpolicies",
            "--all",
        ])
        .await?;
    let asked = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: asked, namespace: t-gate-glass}}, spec: {SPEC}}}"
    );
    until("the hook to be asked", SETTLE, || async {
        let create = [
            "create",
            "--dry-run=server",
            "--output=jsonpath={.spec.schedulingGates}",
            "-f",
            "-",
        ];
        Ok(target
            .try_kubectl(&create, &asked)
            .await?
            .stdout
            .contains(GATE)
            .then_some(()))
    })
    .await?;

    // Nobody generates: the pods of a new namespace wait, those that a controller makes as well.
    namespace(target, NAME).await?;
    let deployment = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: many, namespace: {NAME}}}, spec: {{replicas: 3, \
         selector: {{matchLabels: {{app: many}}}}, template: {{metadata: {{labels: {{app: many}}}}, spec: {SPEC}}}}}}}"
    );
    target.apply(&deployment).await?;
    pod(target, NAME, "alone").await?;
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), NAME);
    until("four pods to wait", SETTLE, || async {
        let all = pods.list(&ListParams::default()).await?.items;
        ensure!(!all.iter().any(running), "a pod did not wait");
        Ok((all.len() == 4 && all.iter().all(gated)).then_some(()))
    })
    .await?;
    // In a namespace that is ready nobody waits, and who was there before has been left alone.
    runs(target, "t-gate-ready", "before").await?;
    pod(target, "t-gate-ready", "after").await?;
    runs(target, "t-gate-ready", "after").await?;

    stage.generators(2).await?;
    let policies = ["--namespace", NAME, "get", "networkpolicies", "--output=name"];
    until("all to run", SETTLE, || async {
        let all = pods.list(&ListParams::default()).await?.items;
        if all.iter().any(|pod| !gated(pod)) {
            let stored = target.kubectl(&policies).await?;
            ensure!(
                stored.lines().count() == 2,
                "let go before all was stored: {stored}"
            );
        }
        Ok((all.len() == 4 && all.iter().all(running)).then_some(()))
    })
    .await?;

    // With a generator, waiting is not felt.
    target
        .kubectl(&["--namespace", NAME, "delete", "networkpolicies", "--all"])
        .await?;
    pod(target, NAME, "later").await?;
    runs(target, NAME, "later").await?;

    // The generator is gone for good: who waits is let go by hand, and nobody waits any more.
    stage.generators(0).await?;
    target
        .kubectl(&[
            "--namespace",
            "t-gate-glass",
            "delete",
            "networkpolicies",
            "--all",
        ])
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    pod(target, "t-gate-glass", "waits").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let glass: Api<Pod> = Api::namespaced(target.client.clone(), "t-gate-glass");
    ensure!(gated(&glass.get("waits").await?), "it did not wait");
    run(target, "Break the glass", 0).await?;
    runs(target, "t-gate-glass", "waits").await?;
    pod(target, "t-gate-glass", "next").await?;
    runs(target, "t-gate-glass", "next").await?;

    stage.generators(2).await?;
    off(target).await?;
    stage.remove(NAME, &spaces).await
}
