//! What enforcement costs and how soon it holds, on a real cluster: `make bench-enforcer`.
//!
//! `node`: an agent among 10,000 pods and 2,000 policies, with 250 pods of its own. `births`: pods that are started under a standing
//! default deny. What is timed happens within a node, where this program runs once more and hands out figures, one a line.

mod agent;
mod births;
mod changes;
mod crowd;
mod newborn;
mod node;
mod veths;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From a change at the API server to its being in force, memory and idle CPU of an agent on a large cluster; on a cluster of its own.
    Node {
        /// The agent to measure.
        #[arg(long, default_value = "target/images/bin/ringfence-enforcer")]
        enforcer: PathBuf,
    },
    /// What new pods get out under a default deny, on the cluster of `make cluster`.
    Births {
        #[arg(long, default_value_t = 1000)]
        starts: usize,
    },
    #[command(hide = true)]
    WithinNode { kubeconfig: PathBuf, enforcer: PathBuf },
    #[command(hide = true)]
    WithinBirths {
        to: std::net::SocketAddr,
        from: newborn::From,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Node { enforcer } => run(node::measure(&enforcer)),
        What::Births { starts } => run(births::measure(starts)),
        What::WithinNode { kubeconfig, enforcer } => {
            // Before there are other threads, which would stay where they are.
            veths::move_out()?;
            run(changes::measure(&kubeconfig, &enforcer))
        }
        What::WithinBirths { to, from } => newborn::watch(to, from),
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
