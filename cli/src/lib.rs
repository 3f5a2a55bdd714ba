//! The command line as a library: what `ringfence` does, without the process around it.
//!
//! [`read`] turns manifests into a cluster; each command is a module that turns a cluster into what it prints.
//! [`args`] is how a command is asked for, [`run`] does it.

pub mod args;
pub mod check;
pub mod completion;
pub mod connlist;
pub mod diff;
mod edit;
pub mod facts;
pub mod generate;
mod input;
pub mod lint;
pub mod read;
pub mod rules;

use std::io::{self, BufWriter, Write};

use args::{Args, Command};

/// How a command ended, and the exit code that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to complain about: 0.
    Fine,
    /// Findings, differences, or a connection that is denied: 1.
    Found,
    /// It could not do its work: 2. The reason went to standard error.
    Unusable,
}

impl Outcome {
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Found => 1,
            Self::Unusable => 2,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Already told, with all its places.
    #[error("the input cannot be used")]
    Input,
    #[error("{0}")]
    Usage(String),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs a command: results to `out`, everything else to `err`.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let done = match &args.command {
        Command::Check(args) => check::run(args, &mut out, err),
        Command::Connlist(args) => connlist::run(args, &mut out, err),
        Command::Diff(args) => diff::run(args, &mut out, err),
        Command::Facts(args) => facts::run(args, &mut out, err),
        Command::Generate(args) => generate::run(args, &mut out, err),
        Command::Lint(args) => lint::run(args, &mut out, err),
        Command::Rules(args) => rules::run(args, &mut out),
        Command::Completion(args) => completion::run(args, &mut out),
    };
    match done.and_then(|outcome| Ok(out.flush().map(|()| outcome)?)) {
        Ok(outcome) => outcome,
        // Whoever reads has seen enough, as `head` does.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::Fine,
        Err(Error::Input) => Outcome::Unusable,
        Err(error) => {
            let _ = writeln!(err, "error: {error}"); // nowhere left to say that this failed
            Outcome::Unusable
        }
    }
}
