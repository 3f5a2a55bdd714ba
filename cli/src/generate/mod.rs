//! `generate`: the policies that the generator would apply, with no cluster at hand.

mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::ValueEnum;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::api::baseline::FactState;
use ringfence_netpol::baseline::object::body;
use ringfence_netpol::baseline::render::Place;
use ringfence_netpol::baseline::route::routes;
use ringfence_netpol::baseline::wanted::{Cause, Problem, wanted};
use ringfence_netpol::baseline::{Baseline, Baselines};
use ringfence_netpol::cluster::{Cluster, Key, NAMESPACE_NAME, Namespace};
use ringfence_netpol::facts::Facts;
use serde_json::json;

use crate::input::Input;
use crate::{Error, Outcome};

#[cfg(test)]
pub(crate) use facts::read as facts;

/// Render the baselines of namespaces
///
/// Prints what the generator would apply, by the same code: for every NamespaceBaseline of the input, and every namespace that it takes. Facts (where DNS
/// is, who serves the ingress classes) come from Services, pods and IngressClasses of the input, or from --facts.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence generate policies/baselines/ --for shop --facts starter.yaml
  kubectl get ns,svc,pods,ingressclass -A -o yaml > cluster.yaml
  ringfence generate policies/baselines/ cluster.yaml
  kubectl get namespacebaseline starter -o yaml > starter.yaml   # its status has the facts

Exit codes: 0 rendered, 1 some policy cannot be rendered, 2 could not run.")]
pub struct Args {
    /// Baselines, and what of the cluster is at hand: folders, files, or - for standard input
    #[arg(required_unless_present = "live", value_name = "PATH")]
    pub sources: Vec<String>,
    /// Render for this namespace only, which need not be in the input
    #[arg(long = "for", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// Facts: a list of them, or a NamespaceBaseline with facts in its status
    #[arg(long, value_name = "FILE")]
    pub facts: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Yaml,
    Json,
}

/// Runs the command.
///
/// # Errors
/// If the input cannot be used, or has no baseline that can.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let reading = args.input.read(&args.sources, err)?;
    let facts = match &args.facts {
        None => Facts::new(),
        Some(file) => facts::read(file, &args.input.options())?,
    };
    let (policies, remarks) = policies(&reading.cluster, &args.namespaces, &facts)?;
    for remark in &remarks {
        writeln!(err, "{}", remark.text)?;
    }
    let bodies: Vec<serde_json::Value> = policies
        .iter()
        .map(body)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Usage(error.to_string()))?;
    match args.output {
        Format::Yaml => {
            for body in &bodies {
                let text = serde_yaml_ng::to_string(body).map_err(|error| Error::Usage(error.to_string()))?;
                write!(out, "---\n{text}")?;
            }
        }
        Format::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": bodies});
            serde_json::to_writer_pretty(&mut *out, &list).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(if remarks.iter().any(|remark| remark.fails) {
        Outcome::Found
    } else {
        Outcome::Fine
    })
}

/// Something that whoever applies the policies should know.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    pub text: String,
    /// A policy is missing because of it.
    pub fails: bool,
}

/// The policies in the order of namespaces and baselines; of all namespaces that are known, if none is named.
///
/// # Errors
/// If there is no baseline.
pub fn policies(
    cluster: &Cluster,
    only: &[String],
    facts: &Facts,
) -> Result<(Vec<NetworkPolicy>, Vec<Remark>), Error> {
    if cluster.baselines.is_empty() {
        return Err(Error::Usage(
            "there is no NamespaceBaseline in the input".to_owned(),
        ));
    }
    let names = cluster.baselines.iter().map(|(key, _)| key.name.clone());
    let last_known: BTreeMap<String, Facts> = names.map(|name| (name, facts.clone())).collect();
    let baselines = Baselines::read(cluster, &last_known);
    let mut remarks = Vec::new();
    let mut remark = |fails: bool, text: String| remarks.push(Remark { text, fails });
    for (name, baseline) in baselines.iter() {
        match baseline {
            Baseline::Invalid { defects, .. } => {
                for defect in defects {
                    remark(
                        true,
                        format!("NamespaceBaseline {name}: {}: {}", defect.field, defect.error),
                    );
                }
            }
            Baseline::Valid { facts, .. } => {
                for fact in facts.values().filter(|fact| fact.state == FactState::Unresolved) {
                    let text = format!(
                        "NamespaceBaseline {name}: the fact {} stands for nothing, and the rules that use it are left out{}",
                        fact.name,
                        if fact.message.is_empty() {
                            String::new()
                        } else {
                            format!(" ({})", fact.message)
                        }
                    );
                    remark(false, text);
                }
            }
        }
    }
    let mut policies = Vec::new();
    for (name, namespace) in chosen(cluster, only) {
        let place = Place {
            routes: &routes(cluster, &name),
            ..Place::of(&name, &namespace)
        };
        let wanted = wanted(place, &baselines);
        for Problem {
            baseline,
            policy,
            cause,
        } in &wanted.problems
        {
            let fails = !matches!(cause, Cause::AlsoMadeBy(_));
            remark(
                fails,
                format!("NamespaceBaseline {baseline}: {name}/{policy}: {cause}"),
            );
        }
        policies.extend(
            wanted
                .policies
                .into_iter()
                .map(|(_, wanted)| wanted.rendered.policy),
        );
        if wanted.matched.is_empty() && !only.is_empty() {
            remark(false, format!("no baseline takes namespace {name}"));
        }
    }
    Ok((policies, remarks))
}

/// The namespaces to render for. One that is not in the input is as if it were made now, with no labels of its own.
fn chosen(cluster: &Cluster, only: &[String]) -> Vec<(String, Namespace)> {
    if only.is_empty() {
        let all = cluster.namespaces.iter();
        return all
            .map(|(key, namespace)| (key.name.clone(), namespace.clone()))
            .collect();
    }
    let only: BTreeSet<&String> = only.iter().collect();
    let found = |name: &String| {
        let known = cluster.namespaces.get(&Key::cluster(name.as_str())).cloned();
        let new = || Namespace {
            labels: [(NAMESPACE_NAME.to_owned(), name.clone())].into(),
            ..Namespace::default()
        };
        (name.clone(), known.unwrap_or_else(new))
    };
    only.into_iter().map(found).collect()
}

#[cfg(test)]
mod tests;
