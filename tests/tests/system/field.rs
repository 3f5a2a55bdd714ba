//! What a policy means, by packets between real pods: cases, and everything changing at random.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use ringfence_tests::field::Field;
use ringfence_tests::soak::{Plan, soak};
use ringfence_tests::case;

use crate::fixture;

fn prober() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_prober"))
}

/// A handful; whole collections are played by `conformance --on-cluster`.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_says_what_the_cases_say() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    if !target.own {
        println!("left out: the nodes of a cluster given by KUBECONFIG are not entered");
        return Ok(());
    }
    let cases = case::parse(include_str!("../../corpus/field.jsonl"))?;
    let mut field = Field::new(&target, prober()).await?;
    for case in &cases {
        let (measured, misses) = field.play(case).await?;
        let shown: Vec<String> = misses.iter().map(ToString::to_string).collect();
        ensure!(measured > 0 && misses.is_empty(), "{}: {}", case.name, shown.join("\n"));
    }
    field.clear().await
}

/// `RINGFENCE_SOAK_SECONDS` makes it longer, `RINGFENCE_SOAK_SEED` repeats one.
#[tokio::test(flavor = "multi_thread")]
async fn no_verdict_is_wrong_while_everything_changes() -> anyhow::Result<()> {
    const NAMESPACES: [&str; 2] = ["t-soak-one", "t-soak-two"];
    let target = fixture::start(&NAMESPACES).await?;
    if !target.own {
        println!("left out: the nodes of a cluster given by KUBECONFIG are not entered");
        return Ok(());
    }
    let number = |name, otherwise| match std::env::var(name) {
        Ok(text) => text.parse::<u64>(),
        Err(_) => Ok(otherwise),
    };
    let plan = Plan {
        namespaces: NAMESPACES,
        duration: Duration::from_secs(number("RINGFENCE_SOAK_SECONDS", 20)?),
        // Other tests load the machine meanwhile.
        bound: Duration::from_millis(number("RINGFENCE_SOAK_BOUND_MILLISECONDS", 1_000)?),
        seed: number("RINGFENCE_SOAK_SEED", fastrand::u64(..))?,
    };
    let report = soak(&target, prober(), &plan).await?;
    println!(
        "{} changes, {} connections, of {} only one outcome was right; seed {}",
        report.changes, report.connections, report.decisive, plan.seed
    );
    let wrong: Vec<String> = report.wrong.iter().map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "seed {}: {} wrong:\n{}", plan.seed, wrong.len(), wrong.join("\n"));
    ensure!(report.decisive * 2 > report.connections, "too few of the connections say something");
    target.delete_namespaces(&NAMESPACES).await
}
