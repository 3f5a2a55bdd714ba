//! The program itself, asked for its settings.

#![allow(clippy::unwrap_used)]

#[path = "../../runtime/tests/program/mod.rs"]
mod program;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringfence-generator");
const OWN: &[(&str, &str)] = &[("RINGFENCE_GENERATOR_LOG__LEVEL", "warn")];

#[test]
fn it_prints_its_settings_as_they_are_in_force_and_ends() {
    program::prints_its_settings_as_they_are_in_force_and_ends(PROGRAM, OWN);
}

#[test]
fn an_argument_that_there_is_not_is_told_by_the_one_that_there_is() {
    program::tells_an_argument_that_there_is_not_by_the_one_that_there_is(PROGRAM, OWN);
}
