//! What a policy means, by packets between real pods: cases, and everything changing at random.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use ringfence_tests::case;
use ringfence_tests::field::Field;
use ringfence_tests::soak::{Plan, soak};

use crate::fixture;

fn prober() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_prober"))
}

/// This project's own cases; `RINGFENCE_FIELD_CASES` names a file of others.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_says_what_the_cases_say() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    if !target.own {
        println!("left out: the nodes of a cluster given by KUBECONFIG are not entered");
        return Ok(());
    }
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/field.jsonl");
    let file = std::env::var("RINGFENCE_FIELD_CASES").unwrap_or_else(|_| own.to_owned());
    let cases = case::parse(&std::fs::read_to_string(&file).context(file)?)?;
    let (mut connections, mut wrong) = (0, Vec::new());
    let mut field = Field::new(&target, prober()).await?;
    for case in &cases {
        let (measured, misses) = field.play(case).await?;
        connections += measured;
        ensure!(measured > 0, "{}: nothing was measured", case.name);
        wrong.extend(misses.iter().map(|miss| format!("{}: {miss}", case.name)));
    }
    println!("{} cases, {connections} connections", cases.len());
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
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
    ensure!(
        wrong.is_empty(),
        "seed {}: {} wrong:\n{}",
        plan.seed,
        wrong.len(),
        wrong.join("\n")
    );
    ensure!(
        report.decisive * 2 > report.connections,
        "too few of the connections say something"
    );
    target.delete_namespaces(&NAMESPACES).await
}
