//! The cluster that tests and demo run on: the one `KUBECONFIG` names, else that of `make cluster`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A cluster to run on.
#[derive(Clone)]
pub struct Target {
    pub client: Client,
    pub kubeconfig: PathBuf,
    kubectl: PathBuf,
    /// Whether it is that of `make cluster`, whose nodes can be entered.
    pub own: bool,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Whether a kubeconfig is that of the project's own cluster.
fn is_own(kubeconfig: &Path) -> bool {
    let state = std::env::var_os("RINGFENCE_CLUSTER_DIR")
        .map_or_else(|| repository().join("target/cluster/run"), PathBuf::from);
    match (kubeconfig.canonicalize(), state.join("kubeconfig").canonicalize()) {
        (Ok(given), Ok(own)) => given == own,
        _ => false,
    }
}

impl Target {
    /// Finds the cluster, bringing up the project's own if `KUBECONFIG` names no other.
    ///
    /// # Errors
    /// If there is none and none can be brought up, with what `make cluster` said.
    pub async fn connect() -> anyhow::Result<Self> {
        let given = std::env::var_os("KUBECONFIG")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let up = Command::new("make")
            .args(["--silent", "--no-print-directory", "cluster"])
            .current_dir(repository())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .await
            .context("make cannot be run")?;
        ensure!(up.status.success(), "there is no cluster to run on (see above)");
        let printed = String::from_utf8(up.stdout)?;
        let kubeconfig = PathBuf::from(
            printed
                .lines()
                .last()
                .context("make cluster printed no kubeconfig")?,
        );
        let own_kubectl = repository().join("target/cluster/bin/kubectl");
        let own = given.is_none_or(|given| is_own(&given));
        let kubectl = if own || own_kubectl.exists() {
            own_kubectl
        } else {
            PathBuf::from("kubectl")
        };
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &options).await?;
        Ok(Self {
            client: Client::try_from(config)?,
            kubeconfig,
            kubectl,
            own,
        })
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it cannot be run; that it refused is in [`Said`].
    pub async fn try_kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
        let mut child = Command::new(&self.kubectl)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", self.kubectl.display()))?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        Ok(Said {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.try_kubectl(arguments, "").await?;
        ensure!(
            said.success,
            "kubectl {}: {}",
            arguments.join(" "),
            said.stderr.trim()
        );
        Ok(said.stdout)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// If the API server refuses one, with its reason.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let said = self.try_apply(yaml).await?;
        ensure!(said.success, "kubectl apply: {}", said.stderr.trim());
        Ok(())
    }

    /// Applies manifests that may be refused.
    ///
    /// # Errors
    /// If kubectl cannot be run.
    pub async fn try_apply(&self, yaml: &str) -> anyhow::Result<Said> {
        self.try_kubectl(&["apply", "-f", "-"], yaml).await
    }

    /// Deletes namespaces and waits until they are gone; those that are not there are no error.
    ///
    /// # Errors
    /// If they are still there after two minutes.
    pub async fn delete_namespaces(&self, names: &[&str]) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let delete = [
            &["delete", "namespace", "--ignore-not-found", "--timeout=120s"],
            names,
        ]
        .concat();
        self.kubectl(&delete).await.map(drop)
    }

    /// The names of the nodes that pods can run on.
    ///
    /// # Errors
    /// If the API server does not answer, or there is no node.
    pub async fn nodes(&self) -> anyhow::Result<Vec<String>> {
        let nodes = Api::<Node>::all(self.client.clone())
            .list(&Default::default())
            .await?;
        let schedulable = nodes.iter().filter(|node| {
            let spec = node.spec.as_ref();
            !spec.is_some_and(|spec| {
                spec.unschedulable == Some(true)
                    || spec
                        .taints
                        .iter()
                        .flatten()
                        .any(|t| t.effect != "PreferNoSchedule")
            })
        });
        let names: Vec<String> = schedulable.map(ResourceExt::name_any).collect();
        ensure!(!names.is_empty(), "the cluster has no node that pods can run on");
        Ok(names)
    }

    /// Runs a command inside of a node of the project's own cluster.
    ///
    /// # Errors
    /// If the cluster is another, whose nodes are not ours to enter, or the command fails.
    pub async fn in_node(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        ensure!(
            self.own,
            "the nodes of a cluster given by KUBECONFIG are not entered"
        );
        let output = Command::new(repository().join("tests/cluster/node"))
            .arg(node)
            .args(command)
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "on {node}, {}: {}",
                command.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Asks again, every 50 ms, until the answer is there.
///
/// # Errors
/// If it is not there in time (naming what was waited for), or asking fails.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        ensure!(start.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
