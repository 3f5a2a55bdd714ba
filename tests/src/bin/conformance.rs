//! Runs collections that others made, or this project: policy cases (see `ringfence_tests::case`), connection lists
//! (`ringfence_tests::connlist`), and what an API server accepts and refuses (`ringfence_tests::admission`). All of them through the
//! program `ringfence` that was built beside this one; the policy cases by the evaluator and the compiled rules, too.
//!
//! `conformance FILE…`, `conformance --connlist FOLDER…`, `conformance --admission FOLDER…`: exit 0 if all is as expected, 1 if something is not, 2
//! if a collection cannot be used.

use std::process::ExitCode;

use anyhow::Context;
use ringfence_tests::command::Ringfence;
use ringfence_tests::{admission, case, connlist};

/// How many passed and failed.
type Tally = (usize, usize);

fn main() -> ExitCode {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let run = match files.first().map(String::as_str) {
        Some("--connlist") => connection_lists,
        Some("--admission") => admissions,
        _ => policy_cases,
    };
    files.retain(|file| !file.starts_with("--"));
    if files.is_empty() {
        eprintln!("usage: conformance FILE…   (JSON lines, one case each)");
        eprintln!("       conformance --connlist FOLDER…   (each folder in it: input/ and expected.json)");
        eprintln!("       conformance --admission FOLDER…   (accepted.yaml, refused.yaml, dropped.yaml)");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        match Ringfence::beside().and_then(|ringfence| run(file, &ringfence)) {
            Ok((p, f)) => (passed, failed) = (passed + p, failed + f),
            Err(error) => {
                eprintln!("{file}: {error:#}");
                return ExitCode::from(2);
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn policy_cases(file: &str, ringfence: &Ringfence) -> anyhow::Result<Tally> {
    let text = std::fs::read_to_string(file)?;
    let (mut passed, mut failed, mut verdicts) = (0, 0, 0);
    for case in case::parse(&text)? {
        let (judged, differences) = case.judge(ringfence).with_context(|| case.name.clone())?;
        verdicts += judged;
        if differences.is_empty() && judged > 0 {
            passed += 1;
            continue;
        }
        failed += 1;
        tell(&case.name, &differences, judged);
    }
    println!(
        "{file}: {} cases, {verdicts} verdicts, each in three ways",
        passed + failed
    );
    Ok((passed, failed))
}

fn connection_lists(collection: &str, ringfence: &Ringfence) -> anyhow::Result<Tally> {
    let (mut passed, mut failed) = (0, 0);
    let entries: Result<Vec<_>, _> = std::fs::read_dir(collection)?.collect();
    let mut folders: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders
        .iter()
        .filter(|folder| folder.join("expected.json").exists())
    {
        let name = folder.display().to_string();
        let differences = connlist::judge(folder, ringfence).with_context(|| name.clone())?;
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        tell(&name, &differences, differences.len());
    }
    println!("{collection}: {} connection lists", passed + failed);
    Ok((passed, failed))
}

fn admissions(folder: &str, ringfence: &Ringfence) -> anyhow::Result<Tally> {
    let (judged, wrong) = admission::Cases::read(folder.as_ref())?.judge(ringfence)?;
    if !wrong.is_empty() {
        tell(folder, &wrong, judged);
    }
    println!("{folder}: {judged} policies accepted, refused or dropped from");
    Ok((judged - wrong.len(), wrong.len()))
}

fn tell(name: &str, differences: &[impl std::fmt::Display], judged: usize) {
    println!("FAILED {name}: {} of {judged} differ", differences.len());
    differences
        .iter()
        .take(5)
        .for_each(|difference| println!("  {difference}"));
}
