//! The policies that a namespace must have, of all baselines that take it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::facts::Facts;

use super::membership::takes_in;
use super::object::PolicyRecord;
use super::render::{self, Place, Rendered, render_plain, render_routed};
use super::template::Template;
use super::{Baseline, Baselines};

/// A policy that cannot be as its baseline says.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub baseline: String,
    pub policy: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error(
        "there is a NetworkPolicy of that name that is not Ringfence's; rename or delete it, or set spec.adoption"
    )]
    Foreign,
    #[error(
        "there is a NetworkPolicy of that name that is not Ringfence's and says something else; rename or delete it, or make it equal"
    )]
    Unequal,
    #[error("the baseline {0} makes a policy of that name too, and comes first by name; set spec.priority")]
    MadeBy(String),
    #[error(
        "the baseline {0} makes a policy of that name too; this one comes first by name; set spec.priority"
    )]
    AlsoMadeBy(String),
    #[error(
        "the baseline {0} has a policy of that name, whose place one for a Service does not take; rename the Service, or the template"
    )]
    Written(String),
    #[error(transparent)]
    Unrenderable(render::Error),
    #[error("it was deleted, and stays until whoever set its finalizers takes them away: {0}")]
    Undeletable(String),
    #[error(
        "it was restored {times} times within a minute: somebody undoes what the baseline says; `kubectl get networkpolicy -o yaml --show-managed-fields` names who wrote to it"
    )]
    Undone { times: usize },
}

/// What sort of cause it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The name is another's.
    Conflict,
    Unrenderable,
    /// Somebody keeps it from being as it must.
    Obstructed,
}

impl Cause {
    pub fn sort(&self) -> Sort {
        match self {
            Self::Unrenderable(_) => Sort::Unrenderable,
            Self::Undeletable(_) | Self::Undone { .. } => Sort::Obstructed,
            _ => Sort::Conflict,
        }
    }
}

/// Everything that a namespace must have.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// By name, what closes first.
    pub policies: Vec<(String, WantedPolicy<'a>)>,
    /// The names of those that must be there but cannot be rendered.
    pub unrenderable: BTreeSet<String>,
    /// The baselines that take the namespace, but for those that cannot be understood.
    pub matched: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

/// A policy that a namespace must have.
#[derive(Debug)]
pub struct WantedPolicy<'a> {
    pub template: &'a Template,
    pub rendered: Rendered,
}

/// A baseline that has a say in a namespace.
#[derive(Clone, Copy)]
struct Say<'a> {
    template: &'a Template,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Makes(&'a Facts),
    /// Suspended.
    Rests,
    /// It cannot be understood.
    Unreadable,
}

/// The policies that a namespace must have. Baselines add up; of several that make a policy of one name the highest by priority makes
/// it, and with equal priority the first by name, which all of them report.
///
/// A baseline that makes nothing at the moment, and one whose policy cannot be rendered, keeps what it made here before: no other
/// baseline overwrites that. What it did not make, the next baseline makes, so that nothing is open for it.
///
/// Policies for Services come last, whatever the priorities: who names a Service must not so take the name of a policy that a
/// platform team wrote down.
pub fn wanted<'a>(place: Place<'_>, baselines: &'a Baselines) -> Wanted<'a> {
    let says = says(place, baselines);
    let mut names = Names::default();
    for Say { template, part } in &says {
        for policy in template.plain() {
            names.written.entry(&policy.name).or_insert(template);
        }
        match part {
            Part::Makes(facts) => render_plain(template, facts, place)
                .into_iter()
                .for_each(|named| names.take(template, named, place)),
            Part::Rests | Part::Unreadable => names.keep(template, place),
        }
    }
    for Say { template, part } in &says {
        if let Part::Makes(facts) = part {
            render_routed(template, facts, place)
                .into_iter()
                .for_each(|named| names.take_routed(template, named, place));
        }
    }
    let mut wanted = names.wanted;
    let taken = says.iter().filter(|say| !matches!(say.part, Part::Unreadable));
    wanted.matched = taken.map(|say| say.template.name.clone()).collect();
    wanted.policies.sort_by_key(|(_, wanted)| wanted.rendered.closes); // stable: the templates' order otherwise
    wanted
}

/// The baselines that have a say in a namespace, the highest first.
fn says<'a>(place: Place<'_>, baselines: &'a Baselines) -> Vec<Say<'a>> {
    let say = |baseline: &'a Baseline| {
        let (template, part, has_one) = match baseline {
            Baseline::Valid { template, facts } => {
                let part = match template.suspended {
                    true => Part::Rests,
                    false => Part::Makes(facts),
                };
                (template, part, takes_in(template, place))
            }
            // Whom it was to take is not known: it speaks where it made something.
            Baseline::Invalid { template, .. } => {
                let made = made_here(template, place).next().is_some();
                (template, Part::Unreadable, made)
            }
        };
        has_one.then_some(Say { template, part })
    };
    let mut says: Vec<_> = baselines
        .iter()
        .filter_map(|(_, baseline)| say(baseline))
        .collect();
    says.sort_by_key(|say| Reverse(say.template.priority)); // stable: by name otherwise
    says
}

/// The names of what a baseline made in a namespace.
fn made_here<'a>(template: &'a Template, place: Place<'a>) -> impl Iterator<Item = &'a str> {
    let own = |record: &PolicyRecord| matches!(record, PolicyRecord::Owned { baseline, .. } if *baseline == template.name);
    place
        .stored
        .iter()
        .filter(move |(_, record)| own(record))
        .map(|(name, _)| *name)
}

/// Whose each name is.
#[derive(Default)]
struct Names<'a> {
    /// The names that stand in some template, and the first of these.
    written: BTreeMap<&'a str, &'a Template>,
    taken: BTreeMap<String, &'a Template>,
    wanted: Wanted<'a>,
}

impl<'a> Names<'a> {
    fn take(&mut self, template: &'a Template, (policy, rendered): render::Named, place: Place<'_>) {
        if let Some(first) = self.taken.get(&policy).copied() {
            if first.priority == template.priority && first.name != template.name {
                self.problem(template, &policy, Cause::MadeBy(first.name.clone()));
                self.problem(first, &policy, Cause::AlsoMadeBy(template.name.clone()));
            }
            return;
        }
        match rendered {
            Ok(rendered) => {
                self.taken.insert(policy.clone(), template);
                self.wanted
                    .policies
                    .push((policy, WantedPolicy { template, rendered }));
            }
            Err(error) => {
                self.problem(template, &policy, Cause::Unrenderable(error));
                if made_here(template, place).any(|made| made == policy) {
                    self.taken.insert(policy.clone(), template);
                }
                self.wanted.unrenderable.insert(policy);
            }
        }
    }

    fn take_routed(&mut self, template: &'a Template, named: render::Named, place: Place<'_>) {
        match self.written.get(named.0.as_str()) {
            Some(first) => self.problem(template, &named.0, Cause::Written(first.name.clone())),
            None => self.take(template, named, place),
        }
    }

    /// Keeps what a baseline made that makes nothing now.
    fn keep(&mut self, template: &'a Template, place: Place<'_>) {
        for policy in made_here(template, place) {
            self.taken.entry(policy.to_owned()).or_insert(template);
        }
    }

    fn problem(&mut self, template: &Template, policy: &str, cause: Cause) {
        self.wanted.problems.push(Problem {
            baseline: template.name.clone(),
            policy: policy.to_owned(),
            cause,
        });
    }
}
