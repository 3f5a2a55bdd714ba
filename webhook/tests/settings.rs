//! The program itself, asked for its settings.

#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Its settings in YAML, or what it said instead.
fn asked(arguments: &[&str], level: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence-webhook"))
        .args(arguments)
        .env("RINGFENCE_WEBHOOK_LOG__LEVEL", level)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

#[test]
fn it_prints_its_settings_as_they_are_in_force_and_ends() {
    let text = asked(&["--print-settings"], "warn").unwrap();
    assert!(
        text.contains("level: warn") && text.contains("endpoint: null"),
        "{text}"
    );
}

#[test]
fn an_argument_that_there_is_not_is_told_by_the_one_that_there_is() {
    let said = asked(&["--prnt-settings"], "warn").unwrap_err();
    assert!(said.contains("--print-settings"), "{said}");
}
