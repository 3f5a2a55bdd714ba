//! The project's own cases of what policies mean: `corpus/meaning`, whose README.md says what they look like.
//!
//! Each is judged by every witness there is: the evaluator, the compiled rules (of a cluster that came to be by events, and of one that was
//! built at once), and the command line over manifests, which must all say what the case says.

mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{compile, verdict};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::policy::Policy;
use ringfence_netpol::port::{Protocol, Transport};
use serde::Deserialize;

use crate::command::{Listed, Ringfence, folder};
pub use state::{NODE, State};

/// A case: a cluster, what must hold in it, and what must hold after changes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The lines of docs/semantics.md that it shows.
    pub covers: Vec<String>,
    /// An API server would refuse its policies, and so does the command line.
    #[serde(default)]
    pub refused: bool,
    namespaces: BTreeMap<String, Option<BTreeMap<String, String>>>,
    pods: BTreeMap<String, Option<state::Pod>>,
    #[serde(default)]
    services: BTreeMap<String, Option<serde_json::Value>>,
    policies: BTreeMap<String, Option<serde_json::Value>>,
    #[serde(default)]
    allowed: Vec<String>,
    #[serde(default)]
    denied: Vec<String>,
    #[serde(default)]
    then: Vec<Step>,
}

/// What changes, and what holds then.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    namespaces: BTreeMap<String, Option<BTreeMap<String, String>>>,
    #[serde(default)]
    pods: BTreeMap<String, Option<state::Pod>>,
    #[serde(default)]
    policies: BTreeMap<String, Option<serde_json::Value>>,
    #[serde(default)]
    allowed: Vec<String>,
    #[serde(default)]
    denied: Vec<String>,
}

/// One expectation.
struct Question<'a> {
    text: &'a str,
    from: &'a str,
    to: &'a str,
    transport: Transport,
    allowed: bool,
}

impl<'a> Question<'a> {
    /// `FROM -> TO PROTOCOL/PORT`, or `portless` for what has no ports.
    fn parse(text: &'a str, allowed: bool) -> anyhow::Result<Self> {
        let parse = || {
            let (ends, transport) = text.rsplit_once(' ')?;
            let (from, to) = ends.split_once(" -> ")?;
            let transport = match transport.split_once('/') {
                None if transport == "portless" => Transport::Portless,
                None => return None,
                Some((protocol, port)) => Transport::Port(Protocol::parse(protocol)?, port.parse().ok()?),
            };
            Some(Self {
                text,
                from,
                to,
                transport,
                allowed,
            })
        };
        parse().with_context(|| format!("{text:?} is no FROM -> TO PROTOCOL/PORT"))
    }

    fn is_about_a_service(&self) -> bool {
        self.to.contains("/svc/")
    }
}

/// What a witness said that was not expected.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub case: String,
    pub question: String,
    pub expected: bool,
    pub witness: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.expected { "allowed" } else { "denied" };
        write!(
            f,
            "{}: {} must be {word}; not so by {}",
            self.case, self.question, self.witness
        )
    }
}

/// Reads the cases of a file.
///
/// # Errors
/// If it is none.
pub fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    Ok(serde_yaml_ng::from_str(text)?)
}

impl Case {
    /// Judges every question of the case by every witness; returns how many verdicts were asked for, and those that were not as expected.
    ///
    /// # Errors
    /// If the case is not consistent, or the command line cannot be asked.
    pub fn judge(&self, ringfence: &Ringfence) -> anyhow::Result<(usize, Vec<Difference>)> {
        let mut state = State::default();
        let mut cluster = Cluster::default();
        let first = Step {
            namespaces: self.namespaces.clone(),
            pods: self.pods.clone(),
            policies: self.policies.clone(),
            allowed: self.allowed.clone(),
            denied: self.denied.clone(),
        };
        let (mut asked, mut differences) = (0, Vec::new());
        for (index, step) in std::iter::once(&first).chain(&self.then).enumerate() {
            for (name, labels) in &step.namespaces {
                state.namespace(name, labels.as_ref(), &mut cluster)?;
            }
            for (name, pod) in &step.pods {
                state.pod(name, pod.as_ref(), &mut cluster)?;
            }
            for (name, spec) in &step.policies {
                state.policy(name, spec.as_ref(), &mut cluster)?;
            }
            if index == 0 {
                for (name, spec) in &self.services {
                    state.service(name, spec.as_ref())?;
                }
            }
            let questions: Vec<Question<'_>> = step
                .allowed
                .iter()
                .map(|text| Question::parse(text, true))
                .chain(step.denied.iter().map(|text| Question::parse(text, false)))
                .collect::<Result<_, _>>()?;
            let mut wrong = self.by_library(&state, &cluster, &questions)?;
            wrong.extend(match self.refused {
                true => self.refused_by_command(&state, ringfence)?,
                false => by_command(&state, &cluster, &questions, ringfence)?,
            });
            asked += questions.len();
            differences.extend(wrong.into_iter().map(|(question, witness)| Difference {
                case: self.name.clone(),
                question: question.map_or("everything", |question| question.text).to_owned(),
                expected: question.is_some_and(|question| question.allowed),
                witness,
            }));
        }
        ensure!(asked > 0, "{}: nothing is expected", self.name);
        Ok((asked, differences))
    }

    fn by_library<'q>(
        &self,
        state: &State,
        cluster: &Cluster,
        questions: &'q [Question<'q>],
    ) -> anyhow::Result<Vec<(Option<&'q Question<'q>>, &'static str)>> {
        let fresh = state.cluster()?;
        let rules = compile(cluster, NODE);
        let mut wrong = Vec::new();
        if rules != compile(&fresh, NODE) {
            wrong.push((
                None,
                "the compiled rules, which differ by how the cluster came to be",
            ));
        }
        let has_defects = cluster
            .policies
            .values()
            .any(|policy: &Policy| !policy.defects.is_empty());
        ensure!(
            has_defects == self.refused,
            "{}: refused must be {has_defects}",
            self.name
        );
        for question in questions.iter().filter(|question| !question.is_about_a_service()) {
            let (from, to) = (end(cluster, question.from)?, end(cluster, question.to)?);
            if evaluate(cluster, from, to, question.transport).allowed() != question.allowed {
                wrong.push((Some(question), "the evaluator"));
            }
            if verdict(|_| Some(&rules), from, to, question.transport).allowed() != question.allowed {
                wrong.push((Some(question), "the compiled rules"));
            }
        }
        Ok(wrong)
    }

    /// Manifests that an API server would refuse are not judged, and lint names why.
    fn refused_by_command<'q>(
        &self,
        state: &State,
        ringfence: &Ringfence,
    ) -> anyhow::Result<Vec<(Option<&'q Question<'q>>, &'static str)>> {
        let folder = folder(state.objects())?;
        let path = folder.path().to_string_lossy();
        let listed = ringfence.run(&["connlist", &path])?;
        let linted = ringfence.run(&["lint", &path, "-o", "json"])?;
        let mut wrong = Vec::new();
        if listed.code != 2 {
            wrong.push((None, "connlist, which judges what an API server would refuse"));
        }
        if linted.code != 1 || !linted.out.contains("NP001") {
            wrong.push((None, "lint, which does not find it"));
        }
        Ok(wrong)
    }
}

/// The pod of that name, or whoever has that address.
fn end<'a>(cluster: &'a Cluster, text: &str) -> anyhow::Result<Endpoint<'a>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let has = |(_, pod): &(&Key, &ringfence_netpol::cluster::Pod)| {
            pod.is_governed() && pod.addresses.contains(&address)
        };
        let behind = cluster.pods.iter().find(has);
        return Ok(
            behind.map_or(Endpoint::Address(address), |(key, pod)| Endpoint::Pod {
                key,
                pod,
            }),
        );
    }
    let key = state::key(text)?;
    let found = cluster.pods.iter().find(|(other, _)| **other == key);
    let (key, _) = found.with_context(|| format!("there is no pod {text}"))?;
    Endpoint::of(cluster, key).with_context(|| format!("{text} is finished; ask about its address"))
}

fn by_command<'q>(
    state: &State,
    cluster: &Cluster,
    questions: &'q [Question<'q>],
    ringfence: &Ringfence,
) -> anyhow::Result<Vec<(Option<&'q Question<'q>>, &'static str)>> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let folder = folder(state.objects())?;
    let path = folder.path().to_string_lossy();
    let list = Listed::of(state.objects(), ringfence)?;
    let mut wrong = Vec::new();
    for question in questions {
        if let Transport::Port(protocol, port) = question.transport {
            let (protocol, port) = (protocol.to_string(), port.to_string());
            let ends = ["check", &path, "--from", question.from, "--to", question.to];
            let ran = ringfence.run(
                &[
                    &ends[..],
                    &["--port", &port, "--protocol", &protocol, "-o", "json"],
                ]
                .concat(),
            )?;
            let said: serde_json::Value = match ran.code {
                0 | 1 => serde_json::from_str(&ran.out)?,
                _ => bail!("check: {}: {}", question.text, ran.err),
            };
            if (said["allowed"] == true) != question.allowed || (ran.code == 0) != question.allowed {
                wrong.push((Some(question), "check"));
            }
        }
        if question.is_about_a_service() {
            continue;
        }
        let (from, to) = (end(cluster, question.from)?, end(cluster, question.to)?);
        if listed(&list, from, to, question.transport).is_some_and(|allowed| allowed != question.allowed) {
            wrong.push((Some(question), "connlist"));
        }
    }
    Ok(wrong)
}

/// Whether the list has the connection; `None` where it lists no such ends.
fn listed(list: &Listed, from: Endpoint<'_>, to: Endpoint<'_>, transport: Transport) -> Option<bool> {
    let is_address = |end: Endpoint<'_>| matches!(end, Endpoint::Address(_));
    let is_unlisted = |end: Endpoint<'_>| matches!(end, Endpoint::Address(IpAddr::V6(_))) && !list.has_ipv6();
    if from == to || (is_address(from) && is_address(to)) || is_unlisted(from) || is_unlisted(to) {
        return None;
    }
    Some(list.any(transport, |src, dst| is_called(src, from) && is_called(dst, to)))
}

/// Whether the list's name for an end is that of this one: a workload, or a range that holds the address.
fn is_called(text: &str, end: Endpoint<'_>) -> bool {
    match end {
        Endpoint::Pod { key, .. } => *text == format!("{key}[Pod]"),
        Endpoint::Address(address) => {
            let bounds = text
                .split_once('-')
                .map(|(first, last)| (first.parse::<IpAddr>(), last.parse::<IpAddr>()));
            matches!(bounds, Some((Ok(first), Ok(last))) if (first..=last).contains(&address))
        }
    }
}

#[cfg(test)]
mod tests;
