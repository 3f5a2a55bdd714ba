//! Reading manifests: files and folders of YAML and JSON into the same cluster that a live one is watched into.
//!
//! [`files`] finds and opens (the only I/O), [`documents`] parses with places and budgets, [`take`] makes typed objects. Whatever is
//! wrong becomes a [`Problem`] with its place, and the rest is read all the same; the caller decides if that will do.

mod documents;
mod files;
mod json;
pub mod live;
mod merge;
mod problem;
mod scalar;
mod take;
mod tree;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key};

pub use problem::Problem;
pub use tree::{Entry, Node, Place, Value};

use documents::Documents;
use take::Taker;

/// How to read.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where objects are that name no namespace.
    pub namespace: String,
    /// Bytes that a file may have.
    pub max_file_size: u64,
    /// Take policies that an API server would refuse too, to judge them.
    pub keep_refused: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            max_file_size: 64 << 20,
            keep_refused: false,
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Reading {
    pub cluster: Cluster,
    pub policies: Vec<PolicySource>,
    /// The namespaces, and the standards that their labels are held to.
    pub labelled: Vec<LabelSource>,
    /// In the order in which they were met.
    pub problems: Vec<Problem>,
    /// How many objects were taken.
    pub taken: usize,
    /// How many objects were of kinds that say nothing about who reaches whom, by kind.
    pub passed_over: BTreeMap<String, usize>,
    /// Kinds that routes are made of, where the cluster does not let them be seen.
    pub unseen: Vec<String>,
    /// Kinds that only facts are found in, where the cluster does not let them be seen.
    pub hidden: Vec<String>,
}

/// A policy as it stands in its file.
#[derive(Debug)]
pub struct PolicySource {
    pub object: NetworkPolicy,
    pub file: String,
    /// The object with its lines.
    pub node: Node,
}

/// A Namespace or a LabelStandard as it stands in its file.
#[derive(Debug)]
pub struct LabelSource {
    pub kind: &'static str,
    pub key: Key,
    pub file: String,
    /// The object with its lines.
    pub node: Node,
}

/// Reads files, folders (with all below them) and `-`, standard input.
pub fn read(sources: &[String], options: &Options) -> Reading {
    let mut taker = Taker::new(options);
    let mut problems = Vec::new();
    text_sources(&mut taker, sources, options, &mut problems);
    finish(taker, problems)
}

fn text_sources(taker: &mut Taker<'_>, sources: &[String], options: &Options, problems: &mut Vec<Problem>) {
    files::each_text(
        sources,
        options.max_file_size,
        &mut |file, text| text_into(taker, file, text),
        &mut |problem| problems.push(problem),
    );
}

/// The texts of files, folders and standard input, by the name of their file; and what of them cannot be read.
pub fn texts(sources: &[String], options: &Options) -> (Vec<(String, String)>, Vec<Problem>) {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    files::each_text(
        sources,
        options.max_file_size,
        &mut |file, text| texts.push((file.to_owned(), text.to_owned())),
        &mut |problem| problems.push(problem),
    );
    (texts, problems)
}

/// Every object of a text as it is written, those in a list before the list.
///
/// # Errors
/// With the line and the reason, if some document cannot be read.
pub fn objects(text: &str) -> Result<Vec<Node>, (usize, String)> {
    let mut objects = Vec::new();
    let mut documents = Documents::of(text);
    while let Some(document) = documents.next_document(&mut |_, item| objects.push(item)) {
        objects.push(document.map_err(|fault| (fault.line, fault.reason))?);
    }
    Ok(objects)
}

/// Reads texts that are in memory already, by the name of their file.
pub fn read_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>, options: &Options) -> Reading {
    let mut taker = Taker::new(options);
    for (file, text) in texts {
        text_into(&mut taker, file, text);
    }
    finish(taker, Vec::new())
}

fn finish(taker: Taker<'_>, mut problems: Vec<Problem>) -> Reading {
    problems.extend(taker.problems);
    Reading {
        cluster: taker.assembly.finish(),
        policies: taker.policies,
        labelled: taker.labelled,
        problems,
        taken: taker.taken,
        passed_over: taker.passed_over,
        unseen: Vec::new(),
        hidden: Vec::new(),
    }
}

fn text_into(taker: &mut Taker<'_>, file: &str, text: &str) {
    taker.begin(file);
    let text = json::readable(text);
    let mut documents = Documents::of(&text);
    loop {
        // Items that do not say what they are, of a list that has not said it yet.
        let mut unknown: Vec<Node> = Vec::new();
        let document = documents.next_document(&mut |root, item| {
            if item.get("kind").is_none() && root.get("kind").is_none() {
                unknown.push(item);
            } else {
                taker.take(item, Some(root));
            }
        });
        match document {
            None => return,
            Some(Err(fault)) => taker.fault(fault.line, fault.reason),
            Some(Ok(root)) => {
                for item in unknown {
                    taker.take(item, Some(&root));
                }
                taker.take(root, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
