//! Runs collections of policy cases (see `ringfence_tests::case`) through the evaluator and the compiled rules.
//!
//! `conformance FILE…`: exit 0 if every verdict is the expected one, 1 if some are not, 2 if a file cannot be used.
//! `conformance --connlist FOLDER…`: the same for collections of connection lists (see `ringfence_tests::connlist`).

use std::process::ExitCode;

use anyhow::Context;
use ringfence_tests::{case, connlist};

fn main() -> ExitCode {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let lists = files.first().is_some_and(|first| first == "--connlist");
    if lists {
        files.remove(0);
    }
    if files.is_empty() {
        eprintln!("usage: conformance FILE…   (JSON lines, one case each)");
        eprintln!("       conformance --connlist FOLDER…   (each folder in it: input/ and expected.json)");
        return ExitCode::from(2);
    }
    let run = if lists { run_lists } else { run };
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        match run(file) {
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

fn run(file: &str) -> anyhow::Result<(usize, usize)> {
    let text = std::fs::read_to_string(file)?;
    let (mut passed, mut failed, mut verdicts) = (0, 0, 0);
    for case in case::parse(&text)? {
        let (judged, differences) = case.judge().with_context(|| case.name.clone())?;
        verdicts += judged;
        if differences.is_empty() && judged > 0 {
            passed += 1;
            continue;
        }
        failed += 1;
        println!(
            "FAILED {}: {} of {judged} verdicts differ",
            case.name,
            differences.len()
        );
        differences
            .iter()
            .take(5)
            .for_each(|difference| println!("  {difference}"));
    }
    println!(
        "{file}: {} cases, {verdicts} verdicts, each in two ways",
        passed + failed
    );
    Ok((passed, failed))
}

fn run_lists(collection: &str) -> anyhow::Result<(usize, usize)> {
    let (mut passed, mut failed) = (0, 0);
    let entries: Result<Vec<_>, _> = std::fs::read_dir(collection)?.collect();
    let mut folders: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders
        .iter()
        .filter(|folder| folder.join("expected.json").exists())
    {
        let differences = connlist::judge(folder).with_context(|| folder.display().to_string())?;
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        println!("FAILED {}: {} rows differ", folder.display(), differences.len());
        differences
            .iter()
            .take(5)
            .for_each(|difference| println!("  {difference}"));
    }
    println!("{collection}: {} connection lists", passed + failed);
    Ok((passed, failed))
}
