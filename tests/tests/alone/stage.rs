//! A cluster with Ringfence on it, for one test at a time.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use ringfence_tests::install;
use ringfence_tests::target::{Target, until};
use tokio::sync::{Mutex, MutexGuard};

use crate::fixture;

pub const SETTLE: Duration = Duration::from_secs(30);

static TURN: Mutex<()> = Mutex::const_new(());

/// The cluster, until this is dropped.
pub struct Stage {
    pub target: Target,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for this test's turn, with fresh namespaces, and everything of Ringfence running.
    pub async fn take(baseline: &str, namespaces: &[&str]) -> anyhow::Result<Self> {
        let turn = TURN.lock().await;
        let target = fixture::start(&[]).await?;
        let stage = Self { target, _turn: turn };
        stage.remove(baseline, namespaces).await?;
        stage.generators(2).await?;
        Ok(stage)
    }

    /// So many replicas of the generator, and no other: one that ends is gone when this returns.
    pub async fn generators(&self, count: usize) -> anyhow::Result<()> {
        let replicas = format!("--replicas={count}");
        let scale = [
            "--namespace",
            install::NAMESPACE,
            "scale",
            "deployment/ringfence-generator",
            &replicas,
        ];
        self.target.kubectl(&scale).await?;
        let pods: Api<Pod> = Api::namespaced(self.target.client.clone(), install::NAMESPACE);
        let selector = ListParams::default().labels("app.kubernetes.io/name=ringfence-generator");
        until(&format!("{count} generators"), SETTLE, || async {
            let running = pods.list(&selector).await?.items;
            let ready = |pod: &Pod| {
                let conditions = pod
                    .status
                    .iter()
                    .flat_map(|status| status.conditions.iter().flatten());
                conditions
                    .filter(|condition| condition.type_ == "Ready")
                    .any(|condition| condition.status == "True")
            };
            Ok((running.len() == count && running.iter().all(ready)).then_some(()))
        })
        .await
    }

    /// A baseline that takes the namespaces with the label `t: NAME`, old and new.
    pub async fn baseline(&self, name: &str, templates: &[&str]) -> anyhow::Result<()> {
        self.target
            .apply(&format!(
                "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: {name}}}, spec: {{\
                 namespaceSelector: {{matchLabels: {{t: {name}}}}}, policies: [{}]}}}}",
                templates.join(", ")
            ))
            .await
    }

    pub async fn remove(&self, baseline: &str, namespaces: &[&str]) -> anyhow::Result<()> {
        self.target
            .kubectl(&["delete", "namespacebaseline", "--ignore-not-found", baseline])
            .await?;
        self.target.delete_namespaces(namespaces).await
    }
}

/// Applies what a controller may make at the same moment.
pub async fn apply(target: &Target, yaml: &str) -> anyhow::Result<()> {
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let said = target.try_kubectl(&apply, yaml).await?;
    ensure!(said.success, "kubectl apply: {}", said.stderr.trim());
    Ok(())
}
