//! How commands are asked for.

use clap::{Parser, Subcommand};

use crate::{check, completion, connlist, diff, facts, generate, lint, rules};

/// Who reaches whom in Kubernetes, by its NetworkPolicies: explained, compared and judged.
///
/// Works on manifests (folders, files, or `-` for standard input) with the very code that the webhook judges by and that the
/// enforcer obeys.
#[derive(Debug, Parser)]
#[command(
    name = "ringfence",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 fine, 1 findings, differences or a denied connection, 2 could not run."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Connlist(connlist::Args),
    Check(check::Args),
    Diff(diff::Args),
    Lint(lint::Args),
    Rules(rules::Args),
    Generate(generate::Args),
    Facts(facts::Args),
    Completion(completion::Args),
}
