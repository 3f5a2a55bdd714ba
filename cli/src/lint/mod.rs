//! `lint`: what is wrong, or probably wrong, with policies, at the line where it stands.

mod fix;
mod format;
mod labels;

use std::io::Write;

use clap::ValueEnum;
use ringfence_netpol::cluster::{Cluster, Key, NAMESPACE_NAME, Namespace};
use ringfence_netpol::finding::{Finding, Severity};
use ringfence_netpol::lint::{Level, Severities, Survey, judge};

use crate::input::Input;
use crate::read::{self, Reading};
use crate::{Error, Outcome};

/// Find what is wrong with policies
///
/// Judges by the rules of the admission webhook, and by those that only files can show; `ringfence rules` explains them. Namespaces are held to the
/// LabelStandards of the input. Selectors are compared with the
/// pods and namespaces that are in the input. What may well live elsewhere is not complained about, unless the input is said to be
/// complete.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence lint manifests/
  ringfence lint manifests/ -o github            # annotations in a pull request
  ringfence lint manifests/ -o sarif > lint.sarif
  kubectl get ns,pods,svc,netpol -A -o yaml | ringfence lint - --complete
  ringfence lint --live
  ringfence lint manifests/ --level NP006=off --fail-on deny
  ringfence lint manifests/ --fix --dry-run      # what --fix would change, as a patch

Exit codes: 0 nothing found, 1 findings, 2 could not run.")]
pub struct Args {
    /// Folders (with all below), files of YAML or JSON, or - for standard input
    #[arg(required_unless_present = "live", value_name = "PATH")]
    pub sources: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// What a rule weighs, as NP006=off; off, warn or deny
    #[arg(long = "level", value_name = "CODE=LEVEL", value_parser = level)]
    pub levels: Vec<(String, Level)>,
    /// Exit with 1 only for findings of this severity or above
    #[arg(long, value_enum, default_value_t)]
    pub fail_on: FailOn,
    /// The input is all there is in the cluster: a selector that matches nothing in it matches nothing
    #[arg(long)]
    pub complete: bool,
    /// Make the mends that are sure in the files themselves, and list what is left
    #[arg(long, conflicts_with = "live")]
    pub fix: bool,
    /// With --fix: show what would be changed, and change nothing
    #[arg(long, visible_alias = "diff", requires = "fix")]
    pub dry_run: bool,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
    Sarif,
    Github,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    #[default]
    Warn,
    Deny,
}

/// A finding with its place.
#[derive(Debug)]
pub struct Located {
    pub finding: Finding,
    pub file: String,
    pub line: usize,
    /// The byte of the file at which the object begins.
    pub start: usize,
}

/// Namespaces that every cluster has.
const ALWAYS_THERE: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Runs the command.
///
/// # Errors
/// If the input cannot be used or the output not be written.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let options = read::Options {
        keep_refused: true, // what the API server would refuse is a finding here
        ..args.input.options()
    };
    let mut severities = Severities::default();
    for (code, level) in &args.levels {
        severities = severities.with(code, *level);
    }
    severities
        .validate()
        .map_err(|error| Error::Usage(format!("--level: {error}")))?;
    if args.fix {
        return run_fix(args, &severities, &options, out, err);
    }
    let reading = args.input.source(&args.sources, &options)?;
    let reading = args.input.accept(reading, err)?;
    let count = reading.policies.len();
    let findings = findings(reading, &severities, args.complete || args.input.live);
    format::write(args.output, &findings, count, out)?;
    Ok(outcome(args, &findings))
}

fn outcome(args: &Args, findings: &[Located]) -> Outcome {
    let fails =
        |located: &Located| args.fail_on == FailOn::Warn || located.finding.severity == Severity::Deny;
    if findings.iter().any(fails) {
        Outcome::Found
    } else {
        Outcome::Fine
    }
}

/// Mends the files, or shows what that would change, and says what is left.
fn run_fix(
    args: &Args,
    severities: &Severities,
    options: &read::Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    if args.sources.iter().any(|source| source == "-") {
        return Err(Error::Usage(
            "--fix changes files, and standard input is none".to_owned(),
        ));
    }
    let (texts, problems) = read::texts(&args.sources, options);
    let before = texts.clone();
    let mut told = false;
    let mut policies = 0;
    let judge = |texts: &[fix::Text]| {
        let all = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
        let mut reading = read::read_texts(all, options);
        reading.problems.splice(0..0, problems.iter().cloned());
        // What is wrong with the input is told once.
        let reading = match std::mem::replace(&mut told, true) {
            false => args.input.accept(reading, err)?,
            true => args.input.accept(reading, &mut std::io::sink())?,
        };
        policies = reading.policies.len();
        Ok(findings(reading, severities, args.complete))
    };
    let fixed = fix::fix(texts, judge)?;
    let changed: Vec<(&fix::Text, &fix::Text)> = before
        .iter()
        .zip(&fixed.texts)
        .filter(|(before, after)| before != after)
        .collect();
    for left in &fixed.left {
        writeln!(err, "{left}")?;
    }
    let files = match changed.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    if args.dry_run {
        for ((file, before), (_, after)) in &changed {
            fix::diff(file, before, after, out)?;
        }
        writeln!(
            err,
            "{} of {} findings would be mended in {files}",
            fixed.mended,
            fixed.mended + fixed.findings.len()
        )?;
        return Ok(if changed.is_empty() {
            outcome(args, &fixed.findings)
        } else {
            Outcome::Found
        });
    }
    let mut failed = false;
    for ((file, before), (_, after)) in &changed {
        if let Err(reason) = fix::write(file, before, after) {
            writeln!(err, "{reason}")?;
            failed = true;
        }
    }
    if failed {
        return Err(Error::Usage("not every file could be changed".to_owned()));
    }
    if fixed.mended > 0 {
        writeln!(err, "mended {} in {files}", fixed.mended)?;
    }
    format::write(args.output, &fixed.findings, policies, out)?;
    Ok(outcome(args, &fixed.findings))
}

/// Every finding, in the order of files and lines.
pub fn findings(mut reading: Reading, severities: &Severities, complete: bool) -> Vec<Located> {
    if !complete {
        add_usual_namespaces(&mut reading.cluster);
    }
    let survey = if complete {
        Survey::whole(&reading.cluster)
    } else {
        Survey::partial(&reading.cluster)
    };
    let mut all = labels::findings(&reading.labelled, &reading.cluster);
    for source in reading.policies {
        let written = source.node.clone().into_json();
        let found = judge(&source.object, Some(&written), Some(&survey), severities);
        all.extend(found.into_iter().map(|finding| Located {
            line: source.node.line_of(&finding.field),
            start: source.node.place.start,
            file: source.file.clone(),
            finding,
        }));
    }
    all.sort_by(|a, b| (&a.file, a.line, a.finding.code).cmp(&(&b.file, b.line, b.finding.code)));
    all
}

fn add_usual_namespaces(cluster: &mut Cluster) {
    for name in ALWAYS_THERE {
        if cluster.namespace_labels(name).is_none() {
            let labels = [(NAMESPACE_NAME.to_owned(), name.to_owned())].into();
            let namespace = Namespace {
                labels,
                ..Namespace::default()
            };
            cluster.namespaces.apply(Key::cluster(name), namespace);
        }
    }
}

fn level(text: &str) -> Result<(String, Level), String> {
    let (code, level) = text.split_once('=').ok_or("must be CODE=LEVEL")?;
    let level = match level {
        "off" => Level::Off,
        "warn" => Level::Warn,
        "deny" => Level::Deny,
        other => return Err(format!("{other:?} is none of off, warn and deny")),
    };
    Ok((code.to_owned(), level))
}

#[cfg(test)]
mod tests;
