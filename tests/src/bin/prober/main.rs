//! A prober: see `ringfence_tests::probe`. Runs in a node, with the node's network namespaces under `/var/run/netns`.

mod ask;
mod namespaces;
mod serve;

use std::io::{BufRead, Write};

use ringfence_tests::probe::{Reply, Request};

use namespaces::Namespaces;
use serve::Servers;

fn main() -> anyhow::Result<()> {
    let mut namespaces = Namespaces::default();
    let mut servers = Servers::start()?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?)? {
            Request::Serve { pods, ports } => servers
                .serve(&mut namespaces, &pods, &ports)
                .map(|()| Reply::Serving),
            Request::Ask { questions, patience } => {
                ask::ask(&mut namespaces, &questions, patience).map(Reply::Answers)
            }
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
        out.flush()?;
    }
    Ok(())
}
