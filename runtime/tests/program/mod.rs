//! A program of ours, asked for its settings: the same for all of them.

use std::process::Command;

/// What it says with such variables of its own, which set `log.level` to `warn`: its settings in YAML, or an error.
fn asked(program: &str, own: &[(&str, &str)], argument: &str) -> Result<String, String> {
    let output = Command::new(program)
        .arg(argument)
        .envs(own.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

pub fn prints_its_settings_as_they_are_in_force_and_ends(program: &str, own: &[(&str, &str)]) {
    let text = asked(program, own, "--print-settings").unwrap();
    assert!(
        text.contains("level: warn") && text.contains("endpoint: null"),
        "{text}"
    );
}

pub fn tells_an_argument_that_there_is_not_by_the_one_that_there_is(program: &str, own: &[(&str, &str)]) {
    let said = asked(program, own, "--prnt-settings").unwrap_err();
    assert!(said.contains("--print-settings"), "{said}");
}
