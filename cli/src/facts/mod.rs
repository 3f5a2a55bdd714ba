//! `facts`: what the cluster says about itself, and where each of it comes from.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::ValueEnum;
use ringfence_netpol::api::baseline::{Fact, FactState};
use ringfence_netpol::baseline::{Baseline, Baselines};
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::facts;
use serde::Serialize;
use serde_json::json;

use crate::input::Input;
use crate::{Error, Outcome};

/// Show the facts of a cluster, and where each comes from
///
/// Where its DNS really listens, where its ingress controllers really run, its API server, nodes and ranges, Prometheus and meshes: found by the very code by
/// which the generator finds them. Where a NamespaceBaseline of the input pins a fact, has one of its own, or still goes by what was last known, that
/// is shown beside.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence facts --live
  ringfence facts --live --fact dns -o json
  kubectl get ns,svc,pods,nodes,ingressclass,endpointslices,namespacebaselines -A -o yaml | ringfence facts -
  ringfence facts --live -o json > facts.json
  ringfence generate policies/baselines/ --for shop --facts facts.json

Exit codes: 0 fine, 1 a fact that some baseline uses stands for nothing, 2 could not run.")]
pub struct Args {
    /// What of a cluster is at hand: folders, files, or - for standard input
    #[arg(required_unless_present = "live", value_name = "PATH")]
    pub sources: Vec<String>,
    /// Show this fact only
    #[arg(long = "fact", value_name = "NAME")]
    pub names: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// A fact, as the cluster says it now or as some baselines have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    #[serde(flatten)]
    pub fact: Fact,
    /// The baselines whose rules use it so.
    pub used_by: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If the input cannot be used, or a fact is asked for that there is not.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let reading = args.input.read(&args.sources, err)?;
    for unseen in reading.unseen.iter().chain(&reading.hidden) {
        writeln!(err, "note: {unseen}; facts may be wanting because of it")?;
    }
    let (mut known, remarks) = known(&reading.cluster);
    for remark in remarks {
        writeln!(err, "{remark}")?;
    }
    choose(&mut known, &args.names)?;
    match args.output {
        Format::Table => table::write(&known, out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &json!({"facts": known}))
                .map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    let wanting = |known: &Known| known.fact.state == FactState::Unresolved && !known.used_by.is_empty();
    Ok(match known.iter().any(wanting) {
        true => Outcome::Found,
        false => Outcome::Fine,
    })
}

/// Every fact: as the cluster says it, then as baselines have it that have it otherwise. And what baselines cannot be asked.
fn known(cluster: &Cluster) -> (Vec<Known>, Vec<String>) {
    let wanted: BTreeSet<String> = facts::FOUND.iter().map(|name| (*name).to_owned()).collect();
    let mut found = facts::resolve(cluster, &wanted, &BTreeMap::new(), &[]);
    let mut known: Vec<Known> = facts::FOUND
        .iter()
        .filter_map(|name| found.remove(*name))
        .map(|fact| Known {
            fact,
            used_by: Vec::new(),
        })
        .collect();
    let mut remarks = Vec::new();
    for (name, baseline) in Baselines::read(cluster, &BTreeMap::new()).iter() {
        match baseline {
            Baseline::Valid { facts, .. } => {
                for fact in facts.values() {
                    match known.iter_mut().find(|known| known.fact == *fact) {
                        Some(known) => known.used_by.push(name.to_owned()),
                        None => known.push(Known {
                            fact: fact.clone(),
                            used_by: vec![name.to_owned()],
                        }),
                    }
                }
            }
            Baseline::Invalid { defects, .. } => remarks.extend(defects.iter().map(|defect| {
                format!(
                    "NamespaceBaseline {name} has no facts, since it cannot be understood: {}: {}",
                    defect.field, defect.error
                )
            })),
        }
    }
    let place = |known: &Known| {
        let found = facts::FOUND.iter().position(|name| *name == known.fact.name);
        (found.unwrap_or(facts::FOUND.len()), known.fact.name.clone())
    };
    known.sort_by_key(place);
    (known, remarks)
}

/// Leaves those that were asked for.
fn choose(known: &mut Vec<Known>, names: &[String]) -> Result<(), Error> {
    let there: BTreeSet<&str> = known.iter().map(|known| known.fact.name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !there.contains(name.as_str())) {
        let there: Vec<&str> = there.into_iter().collect();
        return Err(Error::Usage(format!(
            "there is no fact {name}; the facts are {}",
            there.join(", ")
        )));
    }
    if !names.is_empty() {
        known.retain(|known| names.contains(&known.fact.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
