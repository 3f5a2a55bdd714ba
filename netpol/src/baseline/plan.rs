//! What must be done in one namespace, from what it must have and what is stored.
//!
//! The order of the actions is their safety: what closes comes first, additions before removals, and while something that must
//! be there cannot be, nothing is removed that may be what closes the namespace instead. So a namespace that stays closed is
//! closed at every step, wherever the execution ends. But what opens goes, whatever stands in the way of the rest: who works in a
//! namespace can always put something in the way.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::baseline::{Adoption, Retention};
use crate::cluster::Store;

use super::object::{BASELINE, Closes, Digest, PolicyRecord, Stored};
use super::render::{Place, Rendered};
use super::wanted::{Wanted, WantedPolicy, wanted};
use super::{Baseline, Baselines};

pub use super::wanted::{Cause, Problem, Sort};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Server-side apply; forced only over an object of ours.
    Apply {
        policy: Box<NetworkPolicy>,
        digest: Digest,
        why: Why,
        basis: Option<Basis>,
    },
    /// Remove exactly this object.
    Delete {
        name: String,
        uid: String,
        /// That it comes from.
        baseline: String,
        basis: Option<Basis>,
    },
}

impl Action {
    /// The name of the policy.
    pub fn policy(&self) -> &str {
        match self {
            Self::Apply { policy, .. } => policy.metadata.name.as_deref().unwrap_or_default(),
            Self::Delete { name, .. } => name,
        }
    }

    /// That the policy comes from.
    pub fn baseline(&self) -> &str {
        match self {
            Self::Apply { policy, .. } => {
                let labels = policy.metadata.labels.as_ref();
                labels
                    .and_then(|labels| labels.get(BASELINE))
                    .map_or("", String::as_str)
            }
            Self::Delete { baseline, .. } => baseline,
        }
    }
}

/// What a step rests on that may be otherwise by now, and is to be looked at before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    pub baseline: String,
    /// `None`: there is no such baseline.
    pub generation: Option<i64>,
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

/// What must be done in a namespace.
pub fn plan(place: Place<'_>, baselines: &Baselines) -> Plan {
    let mut plan = Plan::default();
    if place.namespace.terminating {
        return plan; // nothing can be created any more, and everything goes by itself
    }
    let mut wanted = wanted(place, baselines);
    plan.matched = std::mem::take(&mut wanted.matched);
    plan.problems = std::mem::take(&mut wanted.problems);
    let mut missing = !wanted.unrenderable.is_empty();
    let mut closed = false;
    for (name, wanted) in &wanted.policies {
        let done = match step(name, wanted, place, baselines) {
            Ok(action) => {
                plan.actions.extend(action);
                true
            }
            Err(cause) => {
                plan.problems.push(Problem {
                    baseline: wanted.template.name.clone(),
                    policy: name.clone(),
                    cause,
                });
                false
            }
        };
        missing |= !done;
        closed |= done && wanted.rendered.closes == Closes::Everything;
    }
    // While something that must be there cannot be, what it was to take the place of stays; but where a default deny stands, no
    // other policy is what keeps the namespace closed, and what has no rule that opens anything any more is not held open.
    let held = |closes: Closes| missing && !(closed && closes == Closes::Nothing);
    remove(place, baselines, &wanted, held, &mut plan);
    plan
}

/// What must be done for a policy to be as it must, or why that cannot be.
fn step(
    name: &str,
    wanted: &WantedPolicy<'_>,
    place: Place<'_>,
    baselines: &Baselines,
) -> Result<Option<Action>, Cause> {
    let Rendered { policy, digest, .. } = &wanted.rendered;
    let stored = place.stored.get(name).copied();
    let why = match stored {
        None => Why::Missing,
        Some(PolicyRecord::Owned { digest: stored, .. }) if stored == digest => return Ok(None),
        Some(PolicyRecord::Owned { .. }) => Why::Differs,
        Some(PolicyRecord::Foreign { spec }) => {
            let equal = || {
                let wanted = policy.spec.as_ref().map(Digest::of_spec);
                wanted.is_some_and(|wanted| wanted == *spec)
            };
            match wanted.template.adoption {
                Adoption::Force => Why::Adopted,
                Adoption::IfEqual if equal() => Why::Adopted,
                Adoption::IfEqual => return Err(Cause::Unequal),
                Adoption::Never => return Err(Cause::Foreign),
            }
        }
    };
    Ok(Some(Action::Apply {
        policy: Box::new(policy.clone()),
        digest: *digest,
        why,
        basis: stored.and_then(|record| basis(record, baselines)),
    }))
}

/// Plans the removal of what no baseline wants any more, what closes last.
fn remove(
    place: Place<'_>,
    baselines: &Baselines,
    wanted: &Wanted<'_>,
    held: impl Fn(Closes) -> bool,
    plan: &mut Plan,
) {
    let names: BTreeSet<&str> = wanted.policies.iter().map(|(name, _)| name.as_str()).collect();
    let mut removals = Vec::new();
    for (policy, record) in place.stored {
        let PolicyRecord::Owned {
            baseline,
            uid,
            closes,
            kept,
            leaving,
            ..
        } = record
        else {
            continue;
        };
        let stays = match baselines.get(baseline) {
            Some(Baseline::Invalid { .. }) => true,
            Some(Baseline::Valid { template, .. }) if template.suspended => true,
            Some(Baseline::Valid { template, .. }) => match plan.matched.contains(baseline) {
                true => held(*closes),
                false => template.retention == Retention::Keep,
            },
            None => *kept,
        };
        if names.contains(policy) || wanted.unrenderable.contains(*policy) || stays {
            continue;
        }
        match leaving {
            None => removals.push((
                *closes,
                Action::Delete {
                    name: (*policy).to_owned(),
                    uid: uid.clone(),
                    baseline: baseline.clone(),
                    basis: basis(record, baselines),
                },
            )),
            Some(finalizers) if finalizers.is_empty() => {} // it is going
            Some(finalizers) => plan.problems.push(Problem {
                baseline: baseline.clone(),
                policy: (*policy).to_owned(),
                cause: Cause::Undeletable(finalizers.join(", ")),
            }),
        }
    }
    removals.sort_by_key(|(closes, _)| Reverse(*closes)); // what closes goes last
    plan.actions
        .extend(removals.into_iter().map(|(_, action)| action));
}

/// What to make sure of before a policy is touched that says that it comes from a baseline, or a state of one, that is not in view.
/// Only who looks can tell a view that is behind from a baseline that is gone, or from a policy that somebody edited.
fn basis(record: &PolicyRecord, baselines: &Baselines) -> Option<Basis> {
    let PolicyRecord::Owned {
        baseline, generation, ..
    } = record
    else {
        return None;
    };
    let known = baselines
        .get(baseline)
        .map(|baseline| baseline.template().generation);
    let doubtful = known.is_none_or(|known| known < *generation);
    (doubtful && !baseline.is_empty()).then(|| Basis {
        baseline: baseline.clone(),
        generation: known,
    })
}

/// What is stored in a namespace, for [`Place::stored`].
pub fn stored<'a>(records: &'a Store<PolicyRecord>, namespace: &str) -> Stored<'a> {
    records
        .in_namespace(namespace)
        .map(|(key, record)| (key.name.as_str(), record))
        .collect()
}

#[cfg(test)]
mod tests;
