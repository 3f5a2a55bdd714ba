//! The policies that a namespace must have, of all baselines that take it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::membership::takes;
use super::render::{self, Place, Rendered, render};
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
    #[error(transparent)]
    Unrenderable(render::Error),
}

impl Cause {
    pub fn is_conflict(&self) -> bool {
        !matches!(self, Self::Unrenderable(_))
    }
}

/// Everything that a namespace must have.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// By name, what closes first.
    pub policies: Vec<(String, WantedPolicy<'a>)>,
    /// The names of those that must be there but cannot be rendered.
    pub unrenderable: BTreeSet<String>,
    /// The valid baselines that take the namespace.
    pub matched: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

/// A policy that a namespace must have.
#[derive(Debug)]
pub struct WantedPolicy<'a> {
    pub template: &'a Template,
    pub rendered: Rendered,
}

/// The policies that a namespace must have. Baselines add up; of several that make a policy of one name the highest by priority makes
/// it, and with equal priority the first by name, which all of them report.
pub fn wanted<'a>(place: Place<'_>, baselines: &'a Baselines) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    let mut ordered: Vec<_> = baselines
        .iter()
        .filter_map(|(name, baseline)| match baseline {
            Baseline::Valid { template, facts } => Some((name, template.as_ref(), facts)),
            Baseline::Invalid { .. } => None,
        })
        .filter(|(_, template, _)| takes(template, place.name, place.namespace))
        .collect();
    ordered.sort_by_key(|(_, template, _)| Reverse(template.priority)); // stable: by name otherwise
    for (baseline, template, facts) in ordered {
        wanted.matched.insert(baseline.to_owned());
        for (policy, rendered) in render(template, facts, place) {
            let mut problem = |baseline: &str, cause| {
                wanted.problems.push(Problem {
                    baseline: baseline.to_owned(),
                    policy: policy.clone(),
                    cause,
                });
            };
            if let Some((_, first)) = wanted.policies.iter().find(|(name, _)| *name == policy) {
                if first.template.priority == template.priority {
                    problem(baseline, Cause::MadeBy(first.template.name.clone()));
                    problem(&first.template.name, Cause::AlsoMadeBy(baseline.to_owned()));
                }
                continue;
            }
            match rendered {
                Ok(rendered) => wanted
                    .policies
                    .push((policy, WantedPolicy { template, rendered })),
                Err(error) => {
                    problem(baseline, Cause::Unrenderable(error));
                    wanted.unrenderable.insert(policy);
                }
            }
        }
    }
    wanted.policies.sort_by_key(|(_, wanted)| wanted.rendered.closes); // stable: the templates' order otherwise
    wanted
}
