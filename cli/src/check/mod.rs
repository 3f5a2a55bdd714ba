//! `check`: may this one open a connection to that one, and why (not).

mod end;
mod report;

use std::io::Write;

use clap::ValueEnum;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use ringfence_netpol::evaluate::Endpoint;
use ringfence_netpol::explain::{Explanation, explain, mends};
use ringfence_netpol::port::{Protocol, Transport};

use crate::input::Input;
use crate::read::PolicySource;
use crate::{Error, Outcome};

/// Say whether a connection is allowed, and why
///
/// Names for each direction the policies that isolate and the rules that allow. Of a connection that is denied it shows the rule that came
/// nearest, what it missed by, and the smallest change that would allow it, as YAML to apply.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence check manifests/ --from shop/web --to shop/api --port 8080
  ringfence check manifests/ --from shop/web --to shop/svc/api --port 80
  ringfence check manifests/ --from 203.0.113.7 --to shop/web --port 443
  ringfence check manifests/ --from ops/prometheus --to shop/api --port 9090 -o json

Exit codes: 0 allowed, 1 denied, 2 could not run.")]
pub struct Args {
    /// Folders (with all below), files of YAML or JSON, or - for standard input
    #[arg(required_unless_present = "live", value_name = "PATH")]
    pub sources: Vec<String>,
    /// Who opens the connection: a pod or workload (NAME, NAMESPACE/NAME, NAMESPACE/NAME[KIND]), or an address
    #[arg(long, value_name = "WHO")]
    pub from: String,
    /// Towards whom: as --from, or a Service (NAMESPACE/svc/NAME; a plain name that only a Service has will do)
    #[arg(long, value_name = "WHO")]
    pub to: String,
    /// The port; of a Service its own port, by number or name
    #[arg(long, value_name = "PORT")]
    pub port: String,
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    pub protocol: ProtocolName,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    #[default]
    #[value(name = "TCP")]
    Tcp,
    #[value(name = "UDP")]
    Udp,
    #[value(name = "SCTP")]
    Sctp,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Tcp => Self::Tcp,
            ProtocolName::Udp => Self::Udp,
            ProtocolName::Sctp => Self::Sctp,
        }
    }
}

/// One pair of pods (or addresses), and what is said about it.
struct Answer<'a> {
    from: Endpoint<'a>,
    to: Endpoint<'a>,
    transport: Transport,
    explanation: Explanation,
    mends: Vec<NetworkPolicy>,
}

/// Runs the command.
///
/// # Errors
/// If the input cannot be used, or does not have what is asked about.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let mut reading = args.input.read(&args.sources, err)?;
    end::look_at_family(&mut reading.cluster, [&args.from, &args.to]);
    let answer = answer(args, &reading.cluster, &reading.policies)?;
    match args.output {
        Format::Text => report::text(&answer, &reading.policies, out)?,
        Format::Json => report::json(&answer, &reading.policies, out)?,
    }
    Ok(if answer.explanation.allowed() {
        Outcome::Fine
    } else {
        Outcome::Found
    })
}

/// Of several pods behind a name the first pair that is denied is shown, if there is one: then not all of it is allowed.
fn answer<'a>(args: &Args, cluster: &'a Cluster, policies: &[PolicySource]) -> Result<Answer<'a>, Error> {
    let namespace = args.input.namespace.as_str();
    let protocol = args.protocol.into();
    let sources = end::senders(cluster, &args.from, namespace)?;
    let targets = end::receivers(cluster, &args.to, namespace, protocol, &args.port)?;
    let mut first: Option<Answer<'a>> = None;
    for &from in &sources {
        for &(to, port) in &targets {
            let transport = Transport::Port(protocol, port);
            let explanation = explain(cluster, from, to, transport);
            let allowed = explanation.allowed();
            if allowed && first.is_some() {
                continue;
            }
            let stored = |key: &Key| {
                let found = policies.iter().find(|source| source.object.key() == *key);
                found.map(|source| source.object.clone())
            };
            let mends = mends(cluster, &explanation, (from, to), transport, stored);
            let answer = Answer {
                from,
                to,
                transport,
                explanation,
                mends,
            };
            if !allowed {
                return Ok(answer);
            }
            first = Some(answer);
        }
    }
    first.ok_or_else(|| Error::Usage(format!("nothing is behind {} or {}", args.from, args.to)))
}

#[cfg(test)]
mod tests;
