//! The API server is away: what is in force stays in force, also when an agent dies meanwhile, and afterwards everything goes on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::config::Kubeconfig;
use ringfence_tests::probe::{Answer, Probers, Question, Wire};
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Application, Wanted};

use crate::stage::{SETTLE, Stage};

const NAME: &str = "t-outage";
const AWAY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(300);
/// As far as a process's name is kept.
const ENFORCER: &str = "ringfence-enfor";

/// The API server does not move until this is dropped.
struct Stopped {
    pid: u32,
}

impl Stopped {
    fn now(target: &Target) -> anyhow::Result<Self> {
        let stopped = Self {
            pid: api_server(target)?,
        };
        stopped.signal("-STOP")?;
        Ok(stopped)
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .status()?;
        ensure!(status.success(), "the API server did not get {signal}");
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = self.signal("-CONT") {
            eprintln!("the API server may still be stopped: {error:#}");
        }
    }
}

/// The process that serves this cluster's API, and no other's that runs beside it.
fn api_server(target: &Target) -> anyhow::Result<u32> {
    let kubeconfig = Kubeconfig::read_from(&target.kubeconfig)?;
    let server = kubeconfig
        .clusters
        .into_iter()
        .find_map(|named| named.cluster?.server);
    let address = server
        .as_deref()
        .and_then(|server| server.strip_prefix("https://")?.split(':').next());
    let address = address.context("the kubeconfig names no API server")?;
    let its_own = format!("--advertise-address={address}");
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended.
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        if arguments
            .next()
            .is_some_and(|program| program.ends_with(b"kube-apiserver"))
            && arguments.any(|argument| argument == its_own.as_bytes())
        {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process serves the API at {address}")
}

fn policy(name: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {NAME}}}, spec: {{podSelector: {{matchLabels: {{app: server}}}}, {rest}}}}}"
    )
}

/// Whether the friend and the stranger reach the server.
async fn reach(probers: &mut Probers, pods: &[Application]) -> anyhow::Result<[bool; 2]> {
    let [server, clients @ ..] = pods else {
        anyhow::bail!("there is no server");
    };
    let questions = clients
        .iter()
        .map(|client| {
            let question = Question {
                from: client.address.parse()?,
                protocol: Wire::Tcp,
                to: server.endpoint().parse()?,
            };
            Ok((client.node.clone(), question))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let measured = probers.ask(&questions, PATIENCE).await?;
    let open = |(_, of): &(String, Question)| {
        measured
            .answers
            .iter()
            .any(|(asked, answer)| asked == of && *answer == Answer::Open)
    };
    let [friend, stranger] = questions.as_slice() else {
        anyhow::bail!("two clients were to ask");
    };
    Ok([open(friend), open(stranger)])
}

async fn becomes(probers: &mut Probers, pods: &[Application], want: [bool; 2]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while reach(probers, pods).await? != want {
        ensure!(
            start.elapsed() < SETTLE,
            "friend and stranger do not come to be {want:?}"
        );
    }
    Ok(start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_hold_while_the_api_server_is_away_and_follow_it_when_it_is_back() -> anyhow::Result<()> {
    let stage = Stage::take(NAME, &[NAME]).await?;
    let target: &Target = &stage.target;
    if !target.own {
        println!("left out: the nodes of a cluster given by KUBECONFIG are not entered");
        return Ok(());
    }
    target.kubectl(&["create", "namespace", NAME]).await?;
    let wanted = ["server", "friend", "stranger"].map(|name| Wanted {
        namespace: NAME,
        name,
        port: 8080,
    });
    let pods = workload::run(target, &wanted).await?;
    let node = &pods.first().context("a server was asked for")?.node;
    let mut probers = Probers::start(target, Path::new(env!("CARGO_BIN_EXE_prober"))).await?;
    target
        .apply(&policy(
            "friends",
            "ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]",
        ))
        .await?;
    becomes(&mut probers, &pods, [true, false]).await?;

    let stopped = Stopped::now(target)?;
    let (start, mut asked, mut killed) = (Instant::now(), 0, false);
    while start.elapsed() < AWAY {
        let reached = reach(&mut probers, &pods).await?;
        ensure!(
            reached == [true, false],
            "{:?} after the API server went: friend and stranger are {reached:?}",
            start.elapsed()
        );
        asked += 1;
        if !killed && start.elapsed() > AWAY / 4 {
            target.in_node(node, &["pkill", "-KILL", "-x", ENFORCER]).await?;
            killed = true;
        }
    }
    drop(stopped);
    println!(
        "asked {asked} times in {AWAY:?} without an API server, and with an agent killed: nothing changed"
    );

    until("the API server to answer", SETTLE, || async {
        let said = target.try_kubectl(&["get", "--raw=/readyz"], "").await?;
        Ok(said.success.then_some(()))
    })
    .await?;
    target
        .apply(&policy(
            "friends",
            "ingress: [{from: [{podSelector: {matchLabels: {app: stranger}}}]}]",
        ))
        .await?;
    let converged = becomes(&mut probers, &pods, [false, true]).await?;
    println!("a change after that was in force within {converged:?}");
    ringfence_tests::install::wait(target).await?;
    stage.remove(NAME, &[NAME]).await
}
