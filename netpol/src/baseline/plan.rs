//! What must be done in one namespace, from what it must have and what is stored.
//!
//! The order of the actions is their safety: what closes comes first, additions before removals, and while something that must
//! be there cannot be, nothing of a baseline that still takes the namespace is removed. So a namespace that stays closed is
//! closed at every step, wherever the execution ends.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::cluster::{Namespace, Store};

use super::membership::takes;
use super::object::{Digest, PolicyRecord};
use super::render::{self, Rendered, render};
use super::{Baseline, Baselines};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Server-side apply; forced only over an object of ours.
    Apply {
        policy: Box<NetworkPolicy>,
        digest: Digest,
        why: Why,
    },
    /// Remove exactly this object.
    Delete { name: String, uid: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not there.
    Missing,
    /// It is there, is ours, and is not as it must be.
    Differs,
}

/// What must be done in a namespace, and what is wrong there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// The valid baselines that take the namespace.
    pub matched: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

/// A policy that cannot be as its baseline says.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub baseline: String,
    pub policy: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error("there is a NetworkPolicy of that name that is not Ringfence's; rename or delete it")]
    Foreign,
    #[error("the baseline {0} makes a policy of that name too, and comes first by name")]
    MadeBy(String),
    #[error("the baseline {0} makes a policy of that name too; this one comes first by name")]
    AlsoMadeBy(String),
    #[error(transparent)]
    Unrenderable(render::Error),
}

impl Cause {
    pub fn is_conflict(&self) -> bool {
        !matches!(self, Self::Unrenderable(_))
    }
}

/// A policy that a namespace must have.
struct Wanted {
    baseline: String,
    rendered: Rendered,
}

/// What must be done in a namespace. `stored` is what is there, by name.
pub fn plan(
    name: &str,
    namespace: &Namespace,
    baselines: &Baselines,
    stored: &BTreeMap<&str, &PolicyRecord>,
) -> Plan {
    let mut plan = Plan::default();
    if namespace.terminating {
        return plan; // nothing can be created any more, and everything goes by itself
    }
    let (wanted, unrenderable) = wanted(name, namespace, baselines, &mut plan);

    let mut blocked = !unrenderable.is_empty();
    for (policy, Wanted { baseline, rendered }) in &wanted {
        let why = match stored.get(policy.as_str()) {
            None => Why::Missing,
            Some(PolicyRecord::Owned { digest, .. }) if *digest == rendered.digest => continue,
            Some(PolicyRecord::Owned { .. }) => Why::Differs,
            Some(PolicyRecord::Foreign) => {
                blocked = true;
                plan.problems.push(Problem {
                    baseline: baseline.clone(),
                    policy: policy.clone(),
                    cause: Cause::Foreign,
                });
                continue;
            }
        };
        let (policy, digest) = (Box::new(rendered.policy.clone()), rendered.digest);
        plan.actions.push(Action::Apply { policy, digest, why });
    }
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    for (policy, record) in stored {
        let PolicyRecord::Owned { baseline, uid, .. } = record else {
            continue;
        };
        let stays = match baselines.get(baseline) {
            Some(Baseline::Invalid { .. }) => true,
            Some(Baseline::Valid { .. }) => plan.matched.contains(baseline) && blocked,
            None => false,
        };
        if !names.contains(policy) && !unrenderable.contains(*policy) && !stays {
            plan.actions.push(Action::Delete {
                name: (*policy).to_owned(),
                uid: uid.clone(),
            });
        }
    }
    plan
}

/// The policies that a namespace must have, what closes first; and the names of those that must be there but cannot be rendered.
fn wanted(
    name: &str,
    namespace: &Namespace,
    baselines: &Baselines,
    plan: &mut Plan,
) -> (Vec<(String, Wanted)>, BTreeSet<String>) {
    let mut wanted: Vec<(String, Wanted)> = Vec::new();
    let mut unrenderable = BTreeSet::new();
    for (baseline, entry) in baselines.iter() {
        let Baseline::Valid { template, facts } = entry else {
            continue;
        };
        if !takes(template, name, namespace) {
            continue;
        }
        plan.matched.insert(baseline.to_owned());
        for (policy, rendered) in render(template, facts, name, namespace) {
            let mut problem = |baseline: &str, cause| {
                plan.problems.push(Problem {
                    baseline: baseline.to_owned(),
                    policy: policy.clone(),
                    cause,
                });
            };
            if let Some((_, first)) = wanted.iter().find(|(name, _)| *name == policy) {
                problem(baseline, Cause::MadeBy(first.baseline.clone()));
                problem(&first.baseline, Cause::AlsoMadeBy(baseline.to_owned()));
                continue;
            }
            match rendered {
                Ok(rendered) => wanted.push((
                    policy,
                    Wanted {
                        baseline: baseline.to_owned(),
                        rendered,
                    },
                )),
                Err(error) => {
                    problem(baseline, Cause::Unrenderable(error));
                    unrenderable.insert(policy);
                }
            }
        }
    }
    wanted.sort_by_key(|(_, wanted)| !wanted.rendered.denies); // stable: the templates' order otherwise
    (wanted, unrenderable)
}

/// What is stored in a namespace, for [`plan`].
pub fn stored<'a>(records: &'a Store<PolicyRecord>, namespace: &str) -> BTreeMap<&'a str, &'a PolicyRecord> {
    records
        .in_namespace(namespace)
        .map(|(key, record)| (key.name.as_str(), record))
        .collect()
}

#[cfg(test)]
mod tests;
