//! `ringfence`, also `kubectl ringfence`: policies explained, compared and judged.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use ringfence_cli::args::Args;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let called = words.first().map(Path::new).and_then(Path::file_stem);
    // As a kubectl plugin the help should say what people type.
    let name = match called.and_then(OsStr::to_str) {
        Some("kubectl_complete-ringfence") => return answer(words.get(1..).unwrap_or_default()),
        Some("kubectl-ringfence") => "kubectl ringfence",
        _ => "ringfence",
    };
    let matches = Args::command().bin_name(name).get_matches();
    let args = match Args::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    // These leave colours out where nobody would see them: no terminal, NO_COLOR, TERM=dumb.
    let mut out = anstream::stdout();
    let mut err = anstream::stderr();
    ExitCode::from(ringfence_cli::run(&args, &mut out, &mut err).code())
}

/// What kubectl asks when somebody presses the tab key. If it no longer listens, there is nothing to be done.
fn answer(words: &[String]) -> ExitCode {
    match ringfence_cli::completion::answer(words, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
