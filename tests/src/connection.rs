//! Real connections from real pods: a client runs in the pod and tells how its connection went.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use crate::target::Target;

/// How a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Opened (TCP), or answered (UDP).
    Open,
    /// No answer: what a packet filter looks like that drops.
    Closed,
    /// Refused by the other end: it was reached, but nothing listens there.
    Refused,
    /// The name could not be resolved.
    Unresolved,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Unresolved => "unresolved",
        })
    }
}

/// How long a client waits for an answer. Longer than the first retransmission of a SYN (1 s), so that one lost
/// packet is not taken for a closed door.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Opens a connection from a pod to `destination` (`host:port`) by `protocol` (`tcp` or `udp`).
///
/// # Errors
/// If the client could not be run, so that nothing was measured.
pub async fn connect(
    target: &Target,
    namespace: &str,
    pod: &str,
    protocol: &str,
    destination: &str,
) -> anyhow::Result<Outcome> {
    let timeout = format!("--timeout={}ms", PATIENCE.as_millis());
    let protocol = format!("--protocol={protocol}");
    let said = exec(
        target,
        namespace,
        pod,
        &["/agnhost", "connect", &timeout, &protocol, destination],
    )
    .await
    .with_context(|| format!("{namespace}/{pod} could not be made to connect to {destination}"))?;
    match said {
        Ok(_) => Ok(Outcome::Open),
        Err(reason) => match reason.split([':', '\n']).next().unwrap_or_default() {
            "TIMEOUT" => Ok(Outcome::Closed),
            "REFUSED" => Ok(Outcome::Refused),
            "DNS" => Ok(Outcome::Unresolved),
            // A netfilter verdict of "drop" in the sender's own path is told to it as an error of its socket.
            _ if reason.contains("operation not permitted") => Ok(Outcome::Closed),
            _ => bail!("{namespace}/{pod} to {destination}: {reason}"),
        },
    }
}

/// Runs a command in a pod: what it printed, or what it said when it failed.
///
/// # Errors
/// If it could not be run.
pub async fn exec(
    target: &Target,
    namespace: &str,
    pod: &str,
    command: &[&str],
) -> anyhow::Result<Result<String, String>> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
    let mut process = pods
        .exec(pod, command.iter().copied(), &AttachParams::default())
        .await?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (
        process.stdout().context("no stdout")?,
        process.stderr().context("no stderr")?,
    );
    let status = process.take_status().context("no status")?;
    tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr))?;
    let status = status
        .await
        .context("the connection to the pod ended before its command did")?;
    let ran =
        status.status.as_deref() == Some("Success") || status.reason.as_deref() == Some("NonZeroExitCode");
    if !ran {
        bail!("{}", status.message.unwrap_or_default());
    }
    Ok(if status.status.as_deref() == Some("Success") {
        Ok(stdout)
    } else {
        Err(stderr)
    })
}
