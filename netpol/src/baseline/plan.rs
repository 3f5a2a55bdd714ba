//! What must be done in one namespace, from what it must have and what is stored.
//!
//! The order of the actions is their safety: what closes comes first, additions before removals, and while something that must
//! be there cannot be, nothing of a baseline that still takes the namespace is removed. So a namespace that stays closed is
//! closed at every step, wherever the execution ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::baseline::{Adoption, Retention};
use crate::cluster::Store;

use super::object::{Digest, PolicyRecord};
use super::render::{Place, Rendered};
use super::wanted::{Wanted, wanted};
use super::{Baseline, Baselines};

pub use super::wanted::{Cause, Problem};

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
    /// It is there and is somebody else's, and the baseline takes such ones over.
    Adopted,
}

/// What must be done in a namespace, and what is wrong there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// The valid baselines that take the namespace.
    pub matched: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

/// What must be done in a namespace. `stored` is what is there, by name.
pub fn plan(place: Place<'_>, baselines: &Baselines, stored: &BTreeMap<&str, &PolicyRecord>) -> Plan {
    let mut plan = Plan::default();
    if place.namespace.terminating {
        return plan; // nothing can be created any more, and everything goes by itself
    }
    let Wanted {
        policies,
        unrenderable,
        matched,
        problems,
    } = wanted(place, baselines);
    (plan.matched, plan.problems) = (matched, problems);

    let mut blocked = !unrenderable.is_empty();
    for (name, wanted) in policies.iter().filter(|(_, wanted)| !wanted.template.suspended) {
        let Rendered { policy, digest, .. } = &wanted.rendered;
        let why = match stored.get(name.as_str()) {
            None => Why::Missing,
            Some(PolicyRecord::Owned { digest: stored, .. }) if stored == digest => continue,
            Some(PolicyRecord::Owned { .. }) => Why::Differs,
            Some(PolicyRecord::Foreign { spec }) => {
                let equal = || {
                    policy
                        .spec
                        .as_ref()
                        .is_some_and(|wanted| Digest::of_spec(wanted) == *spec)
                };
                match wanted.template.adoption {
                    Adoption::Force => Why::Adopted,
                    Adoption::IfEqual if equal() => Why::Adopted,
                    adoption => {
                        blocked = true;
                        plan.problems.push(Problem {
                            baseline: wanted.template.name.clone(),
                            policy: name.clone(),
                            cause: match adoption {
                                Adoption::IfEqual => Cause::Unequal,
                                _ => Cause::Foreign,
                            },
                        });
                        continue;
                    }
                }
            }
        };
        plan.actions.push(Action::Apply {
            policy: Box::new(policy.clone()),
            digest: *digest,
            why,
        });
    }
    let names: BTreeSet<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    let mut removals = Vec::new();
    for (policy, record) in stored {
        let PolicyRecord::Owned {
            baseline,
            uid,
            closes,
            kept,
            ..
        } = record
        else {
            continue;
        };
        let stays = match baselines.get(baseline) {
            Some(Baseline::Invalid { .. }) => true,
            Some(Baseline::Valid { template, .. }) if template.suspended => true,
            Some(Baseline::Valid { template, .. }) => match plan.matched.contains(baseline) {
                true => blocked,
                false => template.retention == Retention::Keep,
            },
            None => *kept,
        };
        if !names.contains(policy) && !unrenderable.contains(*policy) && !stays {
            let action = Action::Delete {
                name: (*policy).to_owned(),
                uid: uid.clone(),
            };
            removals.push((*closes, action));
        }
    }
    removals.sort_by_key(|(closes, _)| Reverse(*closes)); // what closes goes last
    plan.actions
        .extend(removals.into_iter().map(|(_, action)| action));
    plan
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
