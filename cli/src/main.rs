//! `ringfence`, also `kubectl ringfence`: policies explained, compared and judged.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use ringfence_cli::args::Args;

fn main() -> ExitCode {
    // As a kubectl plugin the help should say what people type.
    let plugin = std::env::args_os()
        .next()
        .is_some_and(|name| name.to_string_lossy().ends_with("kubectl-ringfence"));
    let name = if plugin { "kubectl ringfence" } else { "ringfence" };
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
