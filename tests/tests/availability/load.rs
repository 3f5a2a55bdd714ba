//! Steady load through the API server: policies that the webhook must be asked about, and what became of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

/// How many requests are under way at any time.
const CLIENTS: usize = 8;
/// Between two requests of one client: a cluster that is busy, and a machine that does other things too.
const PAUSE: Duration = Duration::from_millis(10);

/// Requests that go on until it is [ended](Self::end).
pub struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Told>>,
    begun: Instant,
}

/// What became of requests.
#[derive(Debug, Default)]
pub struct Told {
    pub answered: usize,
    /// When each that failed was sent, and what was said.
    pub failed: Vec<(Instant, String)>,
}

impl Load {
    /// Begins in a namespace that is judged, and sees to it that the webhook is asked.
    ///
    /// # Errors
    /// If what the webhook must refuse is admitted there.
    pub async fn begin(client: &Client, namespace: &'static str) -> anyhow::Result<Self> {
        let refused = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8", "except": ["192.0.2.0/24"]}}]}]});
        let said = attempt(client, namespace, "refused", refused).await;
        ensure!(said.is_err(), "nobody is asked about policies of {namespace}");
        let over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut told = Told::default();
                while !over.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let spec =
                        json!({"podSelector": {"matchLabels": {"app": "load"}}, "policyTypes": ["Ingress"]});
                    match attempt(&client, namespace, &format!("load-{number}"), spec).await {
                        Ok(()) => told.answered += 1,
                        Err(error) => told.failed.push((sent, error.to_string())),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                told
            })
        });
        let clients = clients.collect();
        Ok(Self {
            over,
            clients,
            begun: Instant::now(),
        })
    }

    /// Ends it; there must have been enough of it to mean something.
    ///
    /// # Errors
    /// If there was not.
    pub async fn end(self) -> anyhow::Result<Told> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for client in self.clients {
            let told = client.await.context("a client of the load")?;
            all.answered += told.answered;
            all.failed.extend(told.failed);
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        println!(
            "{} requests in {seconds:.1} s, {} failed",
            all.answered + all.failed.len(),
            all.failed.len()
        );
        ensure!(all.answered as f64 > 5.0 * seconds, "that was no load");
        Ok(all)
    }

    /// Ends it; nothing may have failed.
    ///
    /// # Errors
    /// If something has.
    pub async fn end_whole(self) -> anyhow::Result<()> {
        let begun = self.begun;
        let told = self.end().await?;
        if let Some((sent, said)) = told.failed.first() {
            let after = sent.duration_since(begun).as_secs_f64();
            anyhow::bail!(
                "{} requests failed, the first after {after:.2} s: {said}",
                told.failed.len()
            );
        }
        Ok(())
    }
}

/// Asks for a policy as a dry run: all of admission, and nothing that stays.
async fn attempt(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: serde_json::Value,
) -> anyhow::Result<()> {
    let policy: NetworkPolicy = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    policies.create(&dry, &policy).await?;
    Ok(())
}
