//! Everything under `policies/` is taken by a real API server, and holds.

use anyhow::ensure;
use ringfence_tests::target::repository;

use crate::harness::{Generator, Stage};

/// The baselines that a platform team can choose from, and the label of the namespaces that each takes.
const BASELINES: [(&str, &str); 5] = [
    ("starter", ""),
    ("strict", "strict"),
    ("web", "web"),
    ("batch", "batch"),
    ("platform", "platform"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_baseline_of_the_repository_is_taken_and_holds() -> anyhow::Result<()> {
    let names: Vec<String> = BASELINES
        .iter()
        .map(|(name, _)| format!("g-repo-{name}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let baselines: Vec<&str> = BASELINES.iter().map(|(name, _)| *name).collect();
    let stage = Stage::take(&baselines, &names).await?;
    let _generator = Generator::start(&stage).await?;
    stage
        .target
        .kubectl(&["apply", "-f", "policies/baselines"])
        .await?;
    for ((_, label), namespace) in BASELINES.into_iter().zip(&names) {
        stage.target.kubectl(&["create", "namespace", namespace]).await?;
        if !label.is_empty() {
            let label = format!("ringfence.dev/tier={label}");
            stage
                .target
                .kubectl(&["label", "namespace", namespace, &label])
                .await?;
        }
    }
    for (baseline, _) in BASELINES {
        stage.condition(baseline, "Matched", "True").await?;
        stage.condition(baseline, "Ready", "True").await?;
        stage.condition(baseline, "Conflicting", "False").await?;
    }
    for namespace in &names {
        stage.stored(namespace, "default-deny").await?;
        stage.stored(namespace, "allow-dns").await?;
    }
    stage.remove(&baselines, &names).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_applies_as_the_readme_says() -> anyhow::Result<()> {
    let stage = Stage::take(&["starter"], &[]).await?;
    for arguments in [
        &["apply", "-f", "policies/"][..],
        &[
            "apply",
            "--dry-run=server",
            "-R",
            "-f",
            "policies/baselines",
            "-f",
            "policies/standards",
        ],
        &["apply", "--dry-run=server", "-k", "policies/"],
    ] {
        stage.target.kubectl(arguments).await?;
    }
    ensure!(
        std::fs::read_link(repository().join("policies/starter.yaml"))?.ends_with("baselines/starter.yaml"),
        "what is in force is a link to what there is to choose from"
    );
    stage.remove(&["starter"], &[]).await
}
