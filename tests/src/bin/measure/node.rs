//! An agent on a large cluster, seen from outside of its node.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use ringfence_bench::{Figure, Report};
use ringfence_tests::target::{Target, repository};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::crowd;

/// On a cluster of its own, which is taken down in the end: nobody wants to clean up after 10,000 pods.
pub async fn measure(enforcer: &Path) -> anyhow::Result<()> {
    let enforcer = repository()
        .join(enforcer)
        .canonicalize()
        .with_context(|| format!("{} is not built; run `make images`", enforcer.display()))?;
    let target = Target::connect().await?;
    ensure!(
        target.own,
        "10,000 pods are not put on a cluster that is somebody else's; unset KUBECONFIG"
    );
    let mut report = Report::new("enforcer")?;
    report.title(format_args!(
        "An agent among {} pods and {} policies, with {} pods of its own, on a real API server",
        crowd::PODS,
        crowd::POLICIES,
        crowd::LOCAL
    ));
    eprintln!("making {} pods …", crowd::PODS);
    crowd::make(&target.client).await?;
    let mut child = Command::new(repository().join("tests/cluster/node"))
        .arg("node1")
        .arg(std::env::current_exe()?)
        .arg("within-node")
        .arg(&target.kubeconfig)
        .arg(&enforcer)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no way from the node")?).lines();
    while let Some(line) = lines.next_line().await? {
        report.say(serde_json::from_str::<Figure>(&line)?)?;
    }
    ensure!(
        child.wait().await?.success(),
        "what ran in the node failed, see above"
    );
    Ok(())
}
