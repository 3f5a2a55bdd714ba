//! Near misses: what a selector that matches nothing was probably meant to say.
//!
//! A near miss is a reason to refuse, so it must hardly ever be wrong: `team-a` is no misspelt `team-b`, `v1` no
//! misspelt `v2`. And it must be real: the mended selector matches something that lives.

use std::collections::{BTreeMap, BTreeSet};

use crate::selector::{Condition, Labels, Requirement, Selector};

/// The label that Kubernetes itself puts on each namespace: its name.
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Keys that different charts use for the same thing.
const ALIASES: &[&[&str]] = &[
    &["app", "k8s-app", "app.kubernetes.io/name", "name", "run"],
    &["component", "app.kubernetes.io/component", "tier"],
    &["instance", "release", "app.kubernetes.io/instance"],
];

/// Of how many values at most a misspelt one is looked for; lists of more are written by programs.
const VALUES: usize = 8;
/// How many guesses are tried for one requirement, the best first.
const GUESSES: usize = 8;

/// A selector that was probably meant, and the requirements in which it differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Near {
    pub selector: Selector,
    /// Written, and meant.
    pub changes: Vec<(Requirement, Requirement)>,
}

impl Near {
    /// As `kubernetes.io/metadata.name: kube-system instead of name: kube-system`.
    pub fn change(&self) -> String {
        let label = |requirement: &Requirement| match &requirement.condition {
            Condition::In(values) if values.len() == 1 => {
                format!(
                    "{}: {}",
                    requirement.key,
                    values.iter().map(String::as_str).collect::<String>()
                )
            }
            _ => requirement.to_string(),
        };
        let each = |(written, meant): &(Requirement, Requirement)| {
            format!("{} instead of {}", label(meant), label(written))
        };
        self.changes.iter().map(each).collect::<Vec<_>>().join(", and ")
    }
}

/// The selector that was probably meant by one that matches none of `candidates`.
pub(super) fn near_miss(selector: &Selector, candidates: &[&Labels]) -> Option<Near> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in candidates.iter().copied().flatten() {
        labels.entry(key).or_default().insert(value);
    }
    let broken: Vec<&Requirement> = selector
        .requirements()
        .filter(|requirement| !held_by_any(requirement, &labels))
        .collect();
    let changes: Vec<Vec<Requirement>> = broken
        .iter()
        .map(|requirement| meant(requirement, &labels))
        .collect();
    if broken.is_empty() || changes.iter().any(Vec::is_empty) {
        return None;
    }
    // With one misspelt requirement every guess is tried; with more, only the best of each.
    let tries = if changes.len() == 1 { changes[0].len() } else { 1 };
    (0..tries).find_map(|index| {
        let chosen: Vec<(Requirement, Requirement)> = broken
            .iter()
            .zip(&changes)
            .filter_map(|(written, guesses)| Some(((*written).clone(), guesses.get(index)?.clone())))
            .collect();
        let mend = |requirement| {
            let change = chosen.iter().find(|(written, _)| written == requirement);
            change.map_or(requirement, |(_, meant)| meant).clone()
        };
        let mended: Selector = selector.requirements().map(mend).collect();
        candidates
            .iter()
            .any(|labels| mended.matches(labels))
            .then_some(Near {
                selector: mended,
                changes: chosen,
            })
    })
}

/// The name that was probably meant by one that nothing has.
pub(super) fn near_name<'a>(written: &str, live: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    live.filter_map(|name| Some((spelling_distance(written, name)?, name)))
        .min()
        .map(|(_, name)| name)
}

/// Only requirements that ask for a label can be misspelt so that nothing matches.
fn held_by_any(requirement: &Requirement, labels: &BTreeMap<&str, BTreeSet<&str>>) -> bool {
    let key = requirement.key.as_str();
    match &requirement.condition {
        Condition::In(values) => labels
            .get(key)
            .is_some_and(|live| values.iter().any(|value| live.contains(value.as_str()))),
        Condition::Exists => labels.contains_key(key),
        Condition::NotIn(_) | Condition::DoesNotExist => true,
    }
}

/// What a requirement was probably meant to be, best guess first.
fn meant(requirement: &Requirement, labels: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Requirement> {
    let mut guesses: Vec<(usize, Requirement)> = Vec::new();
    match &requirement.condition {
        Condition::In(values) if values.len() <= VALUES => {
            for (&key, live) in labels {
                let Some(key_distance) = key_distance(&requirement.key, key) else {
                    continue;
                };
                for value in values {
                    for &meant in live {
                        let Some(value_distance) = value_distance(value, meant) else {
                            continue;
                        };
                        let mended = values.iter().map(|v| if v == value { meant } else { v.as_str() });
                        let condition = Condition::In(mended.map(str::to_owned).collect());
                        guesses.push((
                            key_distance + value_distance,
                            Requirement {
                                key: key.to_owned(),
                                condition,
                            },
                        ));
                    }
                }
            }
        }
        Condition::Exists => {
            for &key in labels.keys() {
                // An alias says the same only together with a value.
                if let Some(distance) = spelling_distance(&requirement.key, key) {
                    guesses.push((
                        distance,
                        Requirement {
                            key: key.to_owned(),
                            condition: Condition::Exists,
                        },
                    ));
                }
            }
        }
        Condition::In(_) | Condition::NotIn(_) | Condition::DoesNotExist => {}
    }
    guesses.sort();
    guesses.dedup();
    guesses.truncate(GUESSES);
    guesses.into_iter().map(|(_, requirement)| requirement).collect()
}

fn value_distance(written: &str, live: &str) -> Option<usize> {
    if written == live {
        Some(0)
    } else {
        spelling_distance(written, live)
    }
}

/// How far a written key is from one that is in use; `None` if they have nothing to do with each other.
fn key_distance(written: &str, live: &str) -> Option<usize> {
    if written == live {
        return Some(0);
    }
    if live == NAMESPACE_NAME && is_named_like_a_name(written) {
        return Some(1);
    }
    let aliases = |set: &&[&str]| set.contains(&written) && set.contains(&live);
    if ALIASES.iter().any(aliases) {
        return Some(1);
    }
    spelling_distance(written, live)
}

/// `name`, `namespace`, `kubernetes.io/name` and the like, where Kubernetes's own label for the name was meant.
fn is_named_like_a_name(key: &str) -> bool {
    let last = key.rsplit(['/', '.']).next().unwrap_or(key);
    matches!(last, "name" | "namespace" | "ns" | "namespace-name")
}

/// How far two spellings are apart, if one is probably meant by the other: 0 if they differ in case and separators
/// only. Words are compared one by one; short ones, and those with another number, are different words.
fn spelling_distance(a: &str, b: &str) -> Option<usize> {
    // Lengths first: that is cheap, and most labels of a cluster have nothing to do with each other.
    if a == b || a.len().abs_diff(b.len()) > 4 {
        return None;
    }
    if folded(a) == folded(b) {
        return Some(0);
    }
    let (a, b) = (words(a), words(b));
    if a.len() != b.len() {
        return None;
    }
    let apart = a.iter().zip(&b).filter(|(a, b)| a != b);
    let distances: Option<Vec<usize>> = apart.map(|(a, b)| word_distance(a, b)).collect();
    distances
        .map(|distances| distances.iter().sum::<usize>())
        .filter(|sum| *sum <= 2)
}

fn word_distance(a: &str, b: &str) -> Option<usize> {
    let digits = |word: &str| word.chars().filter(char::is_ascii_digit).collect::<String>();
    let allowed = match a.chars().count().min(b.chars().count()) {
        0..=4 => 0,
        5..=8 => 1,
        _ => 2,
    };
    let distance = strsim::osa_distance(a, b);
    (digits(a) == digits(b) && distance <= allowed).then_some(distance)
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(['-', '_', '.', '/']).map(str::to_owned).collect()
}

fn folded(text: &str) -> String {
    words(text).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_near_and_another_word_is_not() {
        let near = [
            ("kubesystem", "kube-system"),
            ("kube_system", "kube-system"),
            ("Frontend", "frontend"),
            ("fronted", "frontend"),
            ("frnotend", "frontend"),
            ("kube-sytem", "kube-system"),
            ("ingres-nginx", "ingress-nginx"),
            ("monitring", "monitoring"),
            ("app.kubernetes.io/nmae", "app.kubernetes.io/naem"),
        ];
        for (a, b) in &near[..8] {
            assert!(spelling_distance(a, b).is_some(), "{a} is probably {b}");
        }
        let far = [
            ("team-a", "team-b"),
            ("v1", "v2"),
            ("shop-1", "shop-2"),
            ("worker1", "worker2"),
            ("dev", "dew"),
            ("test", "rest"),
            ("east", "west"),
            ("db", "dbs"),
            ("payments", "shipments"),
            ("shop", "shop-admin"),
            ("api", "api"),
        ];
        for (a, b) in far.iter().chain(&near[8..]) {
            assert_eq!(spelling_distance(a, b), None, "{a} is not {b}");
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn guess(written: &[(&str, &str)], live: &[&[(&str, &str)]]) -> Option<String> {
        let live: Vec<Labels> = live.iter().map(|pairs| labels(pairs)).collect();
        let selector: Selector = labels(written).into_iter().collect();
        near_miss(&selector, &live.iter().collect::<Vec<_>>()).map(|near| near.selector.to_string())
    }

    #[test]
    fn what_was_meant_is_found_by_key_by_alias_and_by_value() {
        const NAME: &str = NAMESPACE_NAME;
        type Pairs = &'static [(&'static str, &'static str)];
        let table: &[(Pairs, &[Pairs], Option<&str>)] = &[
            (
                &[("name", "kube-system")],
                &[&[(NAME, "kube-system")]],
                Some("kubernetes.io/metadata.name=kube-system"),
            ),
            (
                &[("name", "kubesystem")],
                &[&[(NAME, "kube-system")]],
                Some("kubernetes.io/metadata.name=kube-system"),
            ),
            (
                &[("app", "web")],
                &[&[("app.kubernetes.io/name", "web")]],
                Some("app.kubernetes.io/name=web"),
            ),
            (&[("App", "web")], &[&[("app", "web")]], Some("app=web")),
            (
                &[("app", "fronted")],
                &[&[("app", "frontend")]],
                Some("app=frontend"),
            ),
            (&[("app", "web")], &[&[("app", "api")]], None),
            (&[("team", "web")], &[&[("app", "web")]], None),
            // one right, one misspelt: the mended whole must live
            (
                &[("app", "web"), ("teir", "front")],
                &[&[("app", "web"), ("tier", "front")]],
                None,
            ),
            (
                &[("app", "web"), ("track", "stabel")],
                &[&[("app", "web"), ("track", "stable")]],
                Some("app=web,track=stable"),
            ),
            (
                &[("app", "web"), ("track", "stabel")],
                &[&[("app", "web")], &[("app", "api"), ("track", "stable")]],
                None,
            ),
            // each lives, but on different objects: not a matter of spelling
            (&[("a", "1"), ("b", "2")], &[&[("a", "1")], &[("b", "2")]], None),
        ];
        for (written, live, expected) in table {
            assert_eq!(
                guess(written, live).as_deref(),
                *expected,
                "{written:?} among {live:?}"
            );
        }
    }
}
