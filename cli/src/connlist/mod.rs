//! `connlist`: who reaches whom.

mod exposure;
mod format;
mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::ValueEnum;
use ringfence_netpol::cluster::Routing;
use ringfence_netpol::connections::{
    Connection, Connections, End, Options, Workload, by_ingress_controllers,
};

use crate::input::Input;
use crate::{Error, Outcome};

pub use format::{connection_json, ports_json, ports_text};

/// List who reaches whom
///
/// A line for every pair of workloads, or of a workload and a range of addresses outside, with what the first may open towards
/// the second. Pods of one owner are one workload. Where no policy selects a pod, everything is allowed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence connlist manifests/
  helm template chart/ | ringfence connlist -
  ringfence connlist manifests/ --focus shop/api -o md
  ringfence connlist --live --context staging
  ringfence connlist manifests/ --exposure --focus shop/api
  ringfence connlist manifests/ --ingress-controller -o svg > who.svg
  ringfence connlist manifests/ -o dot | dot -Tpdf > who.pdf")]
pub struct Args {
    /// Folders (with all below), files of YAML or JSON, or - for standard input
    #[arg(required_unless_present = "live", value_name = "PATH")]
    pub sources: Vec<String>,
    /// The form of the list
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Only what begins or ends at this workload: NAME or NAMESPACE/NAME
    #[arg(long, value_name = "WORKLOAD")]
    pub focus: Vec<String>,
    /// Let an ipBlock match pods by their addresses too, as it does for packets
    #[arg(long)]
    pub ipblock_matches_pods: bool,
    /// List what policies allow whoever comes, also towards pods that are not there yet
    #[arg(long, conflicts_with = "ingress_controller")]
    pub exposure: bool,
    /// List too what ingress controllers and gateways reach through Ingress objects, OpenShift's Routes and the routes of Gateway API
    #[arg(long)]
    pub ingress_controller: bool,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
    Csv,
    Md,
    /// Graphviz's language
    Dot,
    /// A picture
    Svg,
}

/// Runs the command.
///
/// # Errors
/// If the input cannot be used or the output not be written.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let reading = args.input.read(&args.sources, err)?;
    let options = Options {
        blocks_match_pods: args.ipblock_matches_pods,
        ipv6: false,
    };
    let connections = Connections::of(&reading.cluster, options);
    for focus in &args.focus {
        if !connections
            .workloads()
            .any(|workload| is_called(End::Workload(workload), focus))
        {
            return Err(Error::Usage(format!("--focus: there is no workload {focus}")));
        }
    }
    let host_network = reading
        .cluster
        .pods
        .values()
        .filter(|pod| pod.host_network)
        .count();
    if host_network > 0 {
        writeln!(
            err,
            "note: {host_network} on the host's network are not listed: no policy selects them, and to others they are their node's address"
        )?;
    }
    if args.exposure {
        let mut rows = ringfence_netpol::connections::exposure(&reading.cluster);
        rows.retain(|row| {
            let end = End::Workload(&row.workload);
            args.focus.is_empty() || args.focus.iter().any(|name| is_called(end, name))
        });
        exposure::write(args.output, &rows, out)?;
        return Ok(Outcome::Fine);
    }
    let controllers = match args.ingress_controller {
        true => {
            let routing = Routing::of(&reading.cluster);
            for unseen in &reading.unseen {
                writeln!(err, "note: {unseen}")?;
            }
            for dropped in &routing.dropped {
                writeln!(err, "note: {} leads nowhere: {}", dropped.route, dropped.why)?;
            }
            by_ingress_controllers(&reading.cluster, &routing)
        }
        false => BTreeMap::new(),
    };
    let controllers = controllers.iter().map(|(workload, ports)| Connection {
        from: End::IngressController,
        to: End::Workload(workload),
        ports: ports.clone(),
    });
    let rows = connections.iter().chain(controllers);
    let rows = rows.filter(|row| in_focus(row, &args.focus));
    format::write(args.output, shown(&connections, &args.focus), rows, out)?;
    Ok(Outcome::Fine)
}

/// The workloads that a picture is about: all, or those in focus with whom they have to do.
fn shown<'a>(connections: &'a Connections, focus: &'a [String]) -> impl Iterator<Item = &'a Workload> {
    let near: BTreeSet<&Workload> = if focus.is_empty() {
        BTreeSet::new()
    } else {
        let rows = connections.iter().filter(|row| in_focus(row, focus));
        let ends = rows.flat_map(|row| [row.from, row.to]);
        ends.filter_map(|end| match end {
            End::Workload(workload) => Some(workload),
            End::Outside(_) | End::IngressController => None,
        })
        .collect()
    };
    let is_shown = move |workload: &&Workload| {
        focus.is_empty()
            || near.contains(workload)
            || focus.iter().any(|name| is_called(End::Workload(workload), name))
    };
    connections.workloads().filter(is_shown)
}

fn in_focus(row: &Connection<'_>, focus: &[String]) -> bool {
    focus.is_empty()
        || focus
            .iter()
            .any(|name| is_called(row.from, name) || is_called(row.to, name))
}

fn is_called(end: End<'_>, name: &str) -> bool {
    let End::Workload(workload) = end else {
        return false;
    };
    match name.split_once('/') {
        None => workload.name == name,
        Some((namespace, name)) => {
            workload.namespace == namespace
                && (workload.name == name || format!("{}[{}]", workload.name, workload.kind) == name)
        }
    }
}

#[cfg(test)]
mod tests;
