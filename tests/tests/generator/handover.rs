//! Of two generators one acts, and the other takes over.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ringfence_tests::target::until;

use crate::harness::{DENY, DNS, Fault, Generator, SETTLE, Stage};

/// A crashed leader is replaced within this time.
const CRASH: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_created_right_after_a_crash_is_served_by_the_next_leader() -> anyhow::Result<()>
{
    const NS: &str = "g-crash";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let first = Generator::start(&stage).await?;
    first.leading().await?;
    let second = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(first.leads() && !second.leads(), "two leaders, or none");
    let crash = Instant::now();
    first.kill();
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    eprintln!("served {:?} after the crash of the leader", crash.elapsed());
    ensure!(
        crash.elapsed() < CRASH + Duration::from_secs(1),
        "{:?}",
        crash.elapsed()
    );
    ensure!(second.leads());
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_in_order_is_followed_at_once() -> anyhow::Result<()> {
    let stage = Stage::take(&[], &[]).await?;
    let mut first = Generator::start(&stage).await?;
    first.leading().await?;
    let second = Generator::start(&stage).await?;
    let end = Instant::now();
    first.resign().await?;
    second.leading().await?;
    eprintln!("handed over in {:?}", end.elapsed());
    ensure!(end.elapsed() < Duration::from_secs(1), "{:?}", end.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_renew_has_stopped_before_the_next_begins() -> anyhow::Result<()> {
    const NS: &str = "g-fenced";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let first = Generator::start(&stage).await?;
    first.leading().await?;
    let second = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    // It reaches the API server with everything but its lease, and what it writes takes for ever.
    first.faults.set("/leases/", Fault::Silence);
    first.faults.set("PATCH /apis/networking.k8s.io", Fault::Silence);
    stage.namespace(NS, NS).await?;
    let cut = Instant::now();
    until("the first to stop", SETTLE, || async {
        Ok((!first.leads()).then_some(()))
    })
    .await?;
    let stopped = cut.elapsed();
    ensure!(!second.leads(), "the second one led before the first had stopped");
    second.leading().await?;
    eprintln!("stopped after {stopped:?}, followed after {:?}", cut.elapsed());
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    // It can write again, and still does not.
    let tried = first.faults.met();
    let writes = first.writes();
    first.faults.clear();
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(
        !first.leads() && second.leads(),
        "{tried} requests were held back"
    );
    ensure!(first.writes() == writes, "it writes though another leads");
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_generators_write_what_one_would() -> anyhow::Result<()> {
    let names: Vec<String> = (0..20).map(|n| format!("g-pair-{n}")).collect();
    let stage = Stage::take(&["g-pair"], &[]).await?;
    stage.clear("g-pair").await?;
    let pair = [Generator::start(&stage).await?, Generator::start(&stage).await?];
    stage.baseline("g-pair", "", &[DENY, DNS]).await?;
    stage.namespaces(&names, "g-pair").await?;
    for name in &names {
        stage.has(name, &["allow-dns", "default-deny"]).await?;
    }
    let writes: u64 = pair.iter().map(Generator::writes).sum();
    ensure!(writes == 40, "{writes} writes for 40 policies");
    stage.remove(&["g-pair"], &[]).await?;
    stage.abandon(&names).await;
    Ok(())
}
