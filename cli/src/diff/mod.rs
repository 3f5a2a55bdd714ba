//! `diff`: what a change does to who reaches whom.

mod format;
mod git;
mod ranges;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::ValueEnum;
use ringfence_netpol::connections::{Connections, End, Options, Range};
use ringfence_netpol::port::PortSet;

use crate::input::Input;
use crate::read::{self, Reading};
use crate::{Error, Outcome};

/// Compare who reaches whom, before and after a change
///
/// Two folders (or files), or with --git the same folders at two revisions. Lists the connections that are gained, lost and changed, and the workloads that come
/// and go.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ringfence diff before/ after/
  ringfence diff --git main HEAD manifests/ -o md   # for a pull request
  ringfence diff --git v1.4 v1.5 -o json
  ringfence diff before/ after/ --with-baselines    # what the generator adds included

Exit codes: 0 no difference, 1 differences, 2 could not run.")]
pub struct Args {
    /// Before and after; with --git what of the repository to compare (all, if nothing is named)
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Compare two revisions of the repository in the current folder
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    pub git: Option<Vec<String>>,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Let an ipBlock match pods by their addresses too, as it does for packets
    #[arg(long)]
    pub ipblock_matches_pods: bool,
    #[command(flatten)]
    pub input: Input,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Md,
    Json,
}

/// A connection that is not what it was; `None` where there is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub from: String,
    pub to: String,
    pub before: Option<PortSet>,
    pub after: Option<PortSet>,
}

/// What is different.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub changes: Vec<Change>,
    pub added_workloads: Vec<String>,
    pub removed_workloads: Vec<String>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.added_workloads.is_empty() && self.removed_workloads.is_empty()
    }
}

/// Runs the command.
///
/// # Errors
/// If one of the two cannot be read.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, Error> {
    let (before, after) = match (args.git.as_deref(), args.paths.as_slice()) {
        (Some([old, new]), paths) => (
            at_revision(old, paths, &args.input, err)?,
            at_revision(new, paths, &args.input, err)?,
        ),
        (None, [old, new]) => (of_path(old, &args.input, err)?, of_path(new, &args.input, err)?),
        _ => {
            return Err(Error::Usage(
                "name what to compare: OLD NEW, or --git OLD NEW [PATH…]".to_owned(),
            ));
        }
    };
    if before.taken + after.taken == 0 {
        return Err(Error::Usage(
            "there is no object on either side that says who reaches whom".to_owned(),
        ));
    }
    let options = Options {
        blocks_match_pods: args.ipblock_matches_pods,
        ipv6: false,
    };
    let difference = compare(&before, &after, options);
    format::write(args.output, &difference, out)?;
    Ok(if difference.is_empty() {
        Outcome::Fine
    } else {
        Outcome::Found
    })
}

fn of_path(path: &str, input: &Input, err: &mut dyn Write) -> Result<Reading, Error> {
    let reading = read::read(&[path.to_owned()], &input.options());
    input.accept(reading, err)
}

fn at_revision(
    revision: &str,
    paths: &[String],
    input: &Input,
    err: &mut dyn Write,
) -> Result<Reading, Error> {
    let options = input.options();
    let texts = git::texts(revision, paths, options.max_file_size)?;
    let named = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    let reading = read::read_texts(named, &options);
    input.accept(reading, err)
}

/// Compares two clusters.
pub fn compare(before: &Reading, after: &Reading, options: Options) -> Difference {
    let both = |options| [before, after].map(|reading| Connections::of(&reading.cluster, options));
    let [mut old, mut new] = both(options);
    if old.lists_ipv6() != new.lists_ipv6() {
        // That one side speaks of IPv6 is no difference to everyone else.
        [old, new] = both(Options {
            ipv6: true,
            ..options
        });
    }
    let names = |connections: &Connections| connections.workloads().map(ToString::to_string).collect();
    let [old_names, new_names]: [BTreeSet<String>; 2] = [&old, &new].map(names);
    Difference {
        changes: changes(&Lists::of(&old), &Lists::of(&new)),
        added_workloads: new_names.difference(&old_names).cloned().collect(),
        removed_workloads: old_names.difference(&new_names).cloned().collect(),
    }
}

/// The rows of a list.
#[derive(Default)]
struct Lists {
    between: BTreeMap<(String, String), PortSet>,
    /// By workload, and whether it is the one that opens.
    outside: BTreeMap<(String, bool), Vec<(Range, PortSet)>>,
}

impl Lists {
    fn of(connections: &Connections) -> Self {
        let mut lists = Self::default();
        for row in connections.iter() {
            let (workload, opens, range) = match (row.from, row.to) {
                (End::Outside(range), to) => (to, false, range),
                (from, End::Outside(range)) => (from, true, range),
                (from, to) => {
                    lists
                        .between
                        .insert((from.to_string(), to.to_string()), row.ports);
                    continue;
                }
            };
            let ranges = lists.outside.entry((workload.to_string(), opens)).or_default();
            ranges.push((range, row.ports));
        }
        lists
    }
}

fn changes(old: &Lists, new: &Lists) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut differ = |from: String, to: String, before: Option<PortSet>, after: Option<PortSet>| {
        if before != after {
            changes.push(Change {
                from,
                to,
                before,
                after,
            });
        }
    };
    let pairs: BTreeSet<_> = old.between.keys().chain(new.between.keys()).collect();
    for pair in pairs {
        let [before, after] = [old, new].map(|list| list.between.get(pair).cloned());
        differ(pair.0.clone(), pair.1.clone(), before, after);
    }
    let ends: BTreeSet<_> = old.outside.keys().chain(new.outside.keys()).collect();
    for end in ends {
        let [before, after] = [old, new].map(|list| list.outside.get(end).map_or(&[][..], Vec::as_slice));
        for (range, before, after) in ranges::together(before, after) {
            let (workload, opens) = end.clone();
            if opens {
                differ(workload, range.to_string(), before, after);
            } else {
                differ(range.to_string(), workload, before, after);
            }
        }
    }
    changes.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    changes
}

#[cfg(test)]
mod tests;
