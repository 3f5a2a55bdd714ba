//! What is said of a baseline: counts, facts and conditions, each with its reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::api::NamespaceBaselineStatus;
use crate::api::baseline::{FactState, NamespaceCounts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Baseline;
use super::plan::{Problem, Sort};

/// The reason of `Ready` while nothing is wrong and not everything is done.
pub const PROGRESSING: &str = "Progressing";

/// What became of one baseline in one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Nothing was left to do and nothing is wrong.
    pub ready: bool,
    /// By policy; from [`super::plan::Plan`].
    pub problems: Vec<Problem>,
    /// The last attempt that failed, in words.
    pub failure: Option<String>,
}

/// The counts of a baseline, and the first things that are wrong, gathered namespace by namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    counts: NamespaceCounts,
    unrenderable: Examples,
    conflicts: Examples,
    obstructed: Examples,
    failures: Examples,
}

/// Some of many, and how many there are.
#[derive(Debug, Clone, Default, PartialEq)]
struct Examples {
    all: usize,
    some: BTreeSet<String>,
}

impl Examples {
    const SHOWN: usize = 3;

    fn add(&mut self, example: String) {
        self.all += 1;
        if self.some.len() < Self::SHOWN {
            self.some.insert(example);
        }
    }

    fn text(&self) -> String {
        let mut text = self
            .some
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ");
        if self.all > self.some.len() {
            let _ = write!(text, "; and {} more", self.all - self.some.len()); // writing to a String cannot fail
        }
        text
    }
}

impl Tally {
    /// Adds a namespace that the baseline matches.
    pub fn add(&mut self, namespace: &str, outcome: &Outcome) {
        self.counts.matched += 1;
        self.counts.ready += i64::from(outcome.ready);
        let conflicts = |problem: &Problem| problem.cause.sort() == Sort::Conflict;
        self.counts.conflicting += i64::from(outcome.problems.iter().any(conflicts));
        for Problem { policy, cause, .. } in &outcome.problems {
            let examples = match cause.sort() {
                Sort::Unrenderable => &mut self.unrenderable,
                Sort::Obstructed => &mut self.obstructed,
                Sort::Conflict => &mut self.conflicts,
            };
            examples.add(format!("{namespace}/{policy}: {cause}"));
        }
        if let Some(failure) = &outcome.failure {
            self.failures.add(format!("{namespace}: {failure}"));
        }
    }

    pub fn counts(&self) -> NamespaceCounts {
        self.counts
    }
}

/// The status of a baseline. Conditions that did not change keep the time of their last transition.
pub fn status(
    baseline: &Baseline,
    tally: &Tally,
    before: Option<&NamespaceBaselineStatus>,
    now: &Time,
) -> NamespaceBaselineStatus {
    let (generation, facts, conditions) = match baseline {
        Baseline::Valid { template, facts } => {
            let valid = (
                "Valid",
                true,
                "Understood",
                "every template could be understood".to_owned(),
            );
            let facts: Vec<_> = facts.values().cloned().collect();
            let mut ready = match template.suspended {
                true => suspended_condition(tally),
                false => ready_condition(tally),
            };
            for fact in facts.iter().filter(|fact| fact.state == FactState::Unresolved) {
                let _ = write!(ready.3, "; {} stands for nothing", fact.name); // writing to a String cannot fail
            }
            let conditions = vec![
                valid,
                facts_condition(&facts),
                matched_condition(tally),
                ready,
                conflicting_condition(tally),
                degraded_condition(tally, &facts),
            ];
            (template.generation, facts, conditions)
        }
        Baseline::Invalid { template, defects } => {
            let text = defects
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            let facts = before.map(|status| status.facts.clone()).unwrap_or_default();
            let consequence = "nothing is rendered from it, and what was rendered before stays";
            let first = defects.first().map(ToString::to_string).unwrap_or_default();
            let more = match defects.len() {
                0 | 1 => String::new(),
                count => format!("; and {} more", count - 1),
            };
            let ready = (
                "Ready",
                false,
                "Invalid",
                format!("{first}{more} ({consequence})"),
            );
            let degraded = ("Degraded", true, "Invalid", text.clone());
            (
                template.generation,
                facts,
                vec![("Valid", false, "Defect", text), ready, degraded],
            )
        }
    };
    let condition = |(kind, holds, reason, message): (&str, bool, &str, String)| {
        let holds = if holds { "True" } else { "False" };
        let same = before
            .into_iter()
            .flat_map(|status| &status.conditions)
            .find(|condition| condition.type_ == kind && condition.status == holds);
        Condition {
            type_: kind.to_owned(),
            status: holds.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: same
                .map_or_else(|| now.clone(), |condition| condition.last_transition_time.clone()),
        }
    };
    NamespaceBaselineStatus {
        observed_generation: Some(generation),
        namespaces: tally.counts,
        facts,
        conditions: conditions.into_iter().map(condition).collect(),
    }
}

type Said = (&'static str, bool, &'static str, String);

fn facts_condition(facts: &[crate::api::baseline::Fact]) -> Said {
    let of = |state: FactState| {
        let texts: Vec<_> = facts
            .iter()
            .filter(|fact| fact.state == state)
            .map(|fact| format!("{}: {}", fact.name, fact.message))
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    if let Some(unresolved) = of(FactState::Unresolved) {
        (
            "FactsResolved",
            false,
            "Unresolved",
            format!("{unresolved} (the rules that use it are left out)"),
        )
    } else if let Some(last_known) = of(FactState::LastKnown) {
        ("FactsResolved", false, "LastKnown", last_known)
    } else {
        (
            "FactsResolved",
            true,
            "Resolved",
            "every fact that is used stands for something".to_owned(),
        )
    }
}

fn matched_condition(tally: &Tally) -> Said {
    match tally.counts.matched {
        0 => (
            "Matched",
            false,
            "NoNamespace",
            "no namespace is selected; look at namespaceSelector, and at existingNamespaces for older ones"
                .to_owned(),
        ),
        1 => ("Matched", true, "Selected", "1 namespace is selected".to_owned()),
        count => (
            "Matched",
            true,
            "Selected",
            format!("{count} namespaces are selected"),
        ),
    }
}

fn suspended_condition(tally: &Tally) -> Said {
    let message = format!(
        "spec.suspend is true: {} namespaces are left as they are; nothing is made, mended or removed",
        tally.counts.matched
    );
    ("Ready", false, "Suspended", message)
}

fn ready_condition(tally: &Tally) -> Said {
    let NamespaceCounts { matched, ready, .. } = tally.counts;
    let (reason, message) = if ready == matched {
        (
            "Holding",
            format!("{matched} of {matched} namespaces have what they must"),
        )
    } else if tally.failures.all > 0 {
        ("Failing", tally.failures.text())
    } else if tally.conflicts.all > 0 {
        ("Conflicting", tally.conflicts.text())
    } else if tally.unrenderable.all > 0 {
        ("Unrenderable", tally.unrenderable.text())
    } else if tally.obstructed.all > 0 {
        ("Obstructed", tally.obstructed.text())
    } else {
        (
            PROGRESSING,
            format!("{ready} of {matched} namespaces have what they must"),
        )
    };
    ("Ready", ready == matched, reason, message)
}

fn conflicting_condition(tally: &Tally) -> Said {
    match tally.conflicts.all {
        0 => (
            "Conflicting",
            false,
            "None",
            "no name is taken by anything else".to_owned(),
        ),
        _ => ("Conflicting", true, "NameTaken", tally.conflicts.text()),
    }
}

fn degraded_condition(tally: &Tally, facts: &[crate::api::baseline::Fact]) -> Said {
    let unresolved = facts.iter().filter(|fact| fact.state == FactState::Unresolved);
    let unresolved: Vec<_> = unresolved
        .map(|fact| format!("{} stands for nothing", fact.name))
        .collect();
    let causes = [
        ("Failing", tally.failures.text()),
        ("Unrenderable", tally.unrenderable.text()),
        ("Obstructed", tally.obstructed.text()),
        ("FactsUnresolved", unresolved.join("; ")),
    ];
    let mut causes = causes.into_iter().filter(|(_, text)| !text.is_empty());
    let Some((reason, first)) = causes.next() else {
        return ("Degraded", false, "None", "nothing is wanting".to_owned());
    };
    let rest = causes.map(|(_, text)| text);
    let text: Vec<_> = std::iter::once(first).chain(rest).collect();
    ("Degraded", true, reason, text.join("; "))
}

#[cfg(test)]
mod tests;
