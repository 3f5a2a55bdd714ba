//! Runs collections of policy cases (see `ringfence_tests::case`) through the evaluator and the compiled rules.
//!
//! `conformance FILE…`: exit 0 if every verdict is the expected one, 1 if some are not, 2 if a file cannot be used.

use std::process::ExitCode;

use anyhow::Context;
use ringfence_tests::case;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: conformance FILE…   (JSON lines, one case each)");
        return ExitCode::from(2);
    }
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
