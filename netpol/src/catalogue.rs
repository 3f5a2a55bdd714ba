//! Every code that a finding can have, explained: the rules for policies, for labels, for standards, for what the generator owns,
//! and for what a change does.

use crate::finding::Severity;
use crate::{guard, lint, simulation, standard};

/// What a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Never reused for another meaning.
    pub code: &'static str,
    /// As `selector-misspelt`.
    pub name: &'static str,
    /// What it finds, in one sentence without a full stop.
    pub finds: &'static str,
    /// Why that matters, in a few.
    pub why: &'static str,
    /// What a finding weighs if nobody says anything else; of labels, the standard says.
    pub severity: Severity,
    /// Whether it compares with the live cluster, and so cannot judge without.
    pub needs_cluster: bool,
    /// Something that it finds something in, as YAML.
    pub bad: &'static str,
    /// What was probably meant.
    pub good: &'static str,
}

/// All of them: policies first, each group in the order of its codes.
pub fn entries() -> impl Iterator<Item = Entry> {
    let rules = lint::rules::ALL.iter().map(|rule| Entry {
        code: rule.code,
        name: rule.name,
        finds: rule.finds,
        why: rule.why,
        severity: rule.severity,
        needs_cluster: rule.needs_cluster(),
        bad: rule.bad,
        good: rule.good,
    });
    let others = [simulation::CATALOGUE, standard::catalogue::ALL, guard::CATALOGUE];
    rules.chain(others.into_iter().flatten().copied())
}

/// The entry of a code.
pub fn entry(code: &str) -> Option<Entry> {
    entries().find(|entry| entry.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_name_is_there_once_and_explained() {
        let all: Vec<Entry> = entries().collect();
        for (index, entry) in all.iter().enumerate() {
            let same = |other: &Entry| other.code == entry.code || other.name == entry.name;
            assert!(!all[index + 1..].iter().any(same), "{}", entry.code);
            for text in [entry.finds, entry.why, entry.bad, entry.good] {
                assert!(!text.trim().is_empty(), "{}", entry.code);
            }
            assert!(!entry.finds.ends_with('.'), "{}", entry.code);
        }
    }
}
