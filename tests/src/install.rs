//! Ringfence on a cluster, installed as a user would: images, then `kubectl apply -f deploy/install.yaml`.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::target::{Target, repository};

pub const NAMESPACE: &str = "ringfence-system";

/// What Ringfence runs on a cluster, as `kubectl` names it.
const WORKLOADS: [(&str, &str); 3] = [
    ("webhook", "deployment/ringfence-webhook"),
    ("generator", "deployment/ringfence-generator"),
    ("enforcer", "daemonset/ringfence-enforcer"),
];

/// The annotation that makes a pod template follow its image: the tag of a development build never changes.
const IMAGE_ANNOTATION: &str = "ringfence.dev/image-digest";

/// Installs the images and manifests of this checkout, and waits until everything runs. Installing again is an upgrade.
///
/// # Errors
/// If an image is not built, the manifests are refused, or something is not ready within two minutes.
pub async fn install(target: &Target) -> anyhow::Result<()> {
    let mut digests = Vec::new();
    if target.own {
        for (component, workload) in WORKLOADS {
            let digest = digest(component).await?;
            if running_digest(target, workload).await? != digest {
                load(component).await?;
            }
            digests.push((workload, digest));
        }
    }
    target
        .kubectl(&["apply", "--server-side", "-f", "deploy/install.yaml"])
        .await?;
    for (workload, digest) in &digests {
        let template =
            json!({"spec": {"template": {"metadata": {"annotations": {IMAGE_ANNOTATION: digest}}}}});
        let patch = template.to_string();
        target
            .kubectl(&[
                "--namespace",
                NAMESPACE,
                "patch",
                workload,
                "--type=merge",
                "--patch",
                &patch,
            ])
            .await?;
    }
    wait(target).await
}

/// Waits until everything that Ringfence runs is ready.
///
/// # Errors
/// If it is not within two minutes.
pub async fn wait(target: &Target) -> anyhow::Result<()> {
    for (_, workload) in WORKLOADS {
        let status = [
            "--namespace",
            NAMESPACE,
            "rollout",
            "status",
            workload,
            "--timeout=120s",
        ];
        target.kubectl(&status).await?;
    }
    Ok(())
}

/// Sees to it that no baseline or label standard of an earlier run or of somebody else's is in force: it would close, or
/// refuse, what is to be measured. On the project's own cluster they are removed; anywhere else they are not ours to remove.
///
/// # Errors
/// If somebody else's cluster has any.
pub async fn without_baselines(target: &Target) -> anyhow::Result<()> {
    for kind in ["namespacebaselines", "labelstandards"] {
        // Before Ringfence was first installed there are no such kinds, and so no objects.
        let found = target
            .try_kubectl(&["get", kind, "--output=name"], "")
            .await?
            .stdout;
        let names: Vec<&str> = found.lines().collect();
        if names.is_empty() {
            continue;
        }
        ensure!(
            target.own,
            "this cluster has {}; run on one that has none, or delete them first",
            names.join(", ")
        );
        target.kubectl(&["delete", kind, "--all"]).await?;
    }
    Ok(())
}

async fn running_digest(target: &Target, workload: &str) -> anyhow::Result<String> {
    let path = format!(
        "jsonpath={{.spec.template.metadata.annotations.{}}}",
        IMAGE_ANNOTATION.replace('.', "\\.")
    );
    let get = [
        "--namespace",
        NAMESPACE,
        "get",
        workload,
        "--ignore-not-found",
        "--output",
        &path,
    ];
    Ok(target.try_kubectl(&get, "").await?.stdout)
}

async fn digest(component: &str) -> anyhow::Result<String> {
    let tar = repository().join(format!("target/images/{component}.tar"));
    ensure!(
        tar.exists(),
        "{} is not there; build it with: make images",
        tar.display()
    );
    let output = Command::new("sha256sum").arg(&tar).output().await?;
    let said = String::from_utf8(output.stdout)?;
    let digest = said
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?;
    Ok(digest.to_owned())
}

async fn load(component: &str) -> anyhow::Result<()> {
    let tar = format!("TAR=target/images/{component}.tar");
    let output = Command::new("make")
        .args(["--silent", "--no-print-directory", "cluster-load", &tar])
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{component}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
