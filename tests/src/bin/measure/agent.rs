//! The agent of a node as a process, with its metrics.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::crowd::NODE;

const HEALTH: &str = "127.0.0.1:19472";
const LOG: &str = "/run/agent.log";

pub struct Agent(Child);

impl Agent {
    pub fn start(program: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let log = File::create(LOG)?;
        let child = Command::new(program)
            .env("KUBECONFIG", kubeconfig)
            .env("NODE_NAME", NODE)
            .env("RINGFENCE_ENFORCER_HEALTH_ADDRESS", HEALTH)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        Ok(Self(child))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until every pod of its node is under its rules.
    pub async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if get("/readyz")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
            {
                return Ok(());
            }
            let ended = self.0.try_wait()?;
            ensure!(
                ended.is_none() && start.elapsed() < limit,
                "the agent is not ready ({ended:?}): {} {}",
                get("/readyz").unwrap_or_default(),
                std::fs::read_to_string(LOG)?
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The time that it has spent on a CPU.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc/…/stat has no name")?;
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10)) // a tick is a hundredth of a second (USER_HZ)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended by itself
        let _ = self.0.wait();
    }
}

/// The sum of what a metric says, over all its labels that `labels` is a part of.
pub fn metric(name: &str, labels: &str) -> anyhow::Result<f64> {
    Ok(each(name)?
        .iter()
        .filter(|(of, _)| of.contains(labels))
        .map(|(_, value)| value)
        .sum())
}

/// A metric's values with their labels.
pub fn each(name: &str) -> anyhow::Result<Vec<(String, f64)>> {
    let text = get("/metrics")?;
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{'))
            .then(|| Some((labels.to_owned(), value.parse().ok()?)))?
    };
    Ok(text.lines().filter_map(of).collect())
}

fn get(path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(HEALTH)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
