//! What happens to a NetworkPolicy, as far as the generator's own are concerned.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{CHANGED, DELETED, FORGED, Guard, MARKS, NAME_TAKEN, PREFIX, empties_namespaces, finding};
use crate::api::NamespaceBaseline;
use crate::api::baseline::{ForEach, PolicyTemplate};
use crate::baseline::membership::takes;
use crate::baseline::object::{BASELINE, Digest, MANAGED_BY, MANAGER, PolicyRecord};
use crate::baseline::template::Template;
use crate::cluster::{Key, Namespace};
use crate::finding::{Finding, Mend, Object};
use crate::requester::Requester;

/// What somebody is about to do to a policy.
#[derive(Debug, Clone, Copy)]
pub enum Attempt<'a> {
    Create(&'a NetworkPolicy),
    Update {
        before: &'a NetworkPolicy,
        after: &'a NetworkPolicy,
    },
    Delete(&'a NetworkPolicy),
}

impl<'a> Attempt<'a> {
    pub fn before(self) -> Option<&'a NetworkPolicy> {
        match self {
            Self::Create(_) => None,
            Self::Update { before, .. } | Self::Delete(before) => Some(before),
        }
    }

    pub fn after(self) -> Option<&'a NetworkPolicy> {
        match self {
            Self::Create(after) | Self::Update { after, .. } => Some(after),
            Self::Delete(_) => None,
        }
    }
}

/// What speaks against the attempt. `namespace` is the policy's, `None` while it is not known or no more.
pub fn judge_policy<'a>(
    attempt: Attempt<'_>,
    key: &Key,
    requester: &Requester,
    namespace: Option<&Namespace>,
    baselines: impl Iterator<Item = &'a NamespaceBaseline>,
    guard: &Guard,
) -> Vec<Finding> {
    if guard.is_generator(requester) {
        return Vec::new();
    }
    let object = Object::new("NetworkPolicy", key);
    let owner = attempt.before().and_then(owner);
    match (attempt, owner) {
        (Attempt::Delete(_), Some(_))
            if empties_namespaces(requester) && namespace.is_none_or(|namespace| namespace.terminating) =>
        {
            Vec::new()
        }
        (Attempt::Delete(_), Some(baseline)) => vec![finding(
            DELETED,
            &object,
            "metadata.name",
            format!(
                "{} deletes what the baseline {baseline} has here",
                requester.shown()
            ),
            "its namespace would be open until the generator brings it back",
            Mend::text(elsewhere(&baseline)),
        )],
        (Attempt::Delete(_), None) => Vec::new(),
        (Attempt::Update { before, after }, Some(baseline)) => {
            changed(before, after, &baseline, &object, requester)
        }
        (Attempt::Update { after, .. }, None) => forged(after, &object).into_iter().collect(),
        (Attempt::Create(after), _) => match (forged(after, &object), namespace) {
            (Some(found), _) => vec![found],
            (None, namespace) => name_taken(key, &object, namespace, baselines)
                .into_iter()
                .collect(),
        },
    }
}

/// The baseline of a policy that the generator owns.
fn owner(policy: &NetworkPolicy) -> Option<String> {
    match PolicyRecord::of(policy) {
        PolicyRecord::Foreign { .. } => None,
        PolicyRecord::Owned { baseline, .. } if baseline.is_empty() => Some("that made it".to_owned()),
        PolicyRecord::Owned { baseline, .. } => Some(baseline),
    }
}

fn elsewhere(baseline: &str) -> String {
    format!(
        "leave it, and have the platform team change the NamespaceBaseline {baseline}; a policy of your own can allow more"
    )
}

fn changed(
    before: &NetworkPolicy,
    after: &NetworkPolicy,
    baseline: &str,
    object: &Object,
    requester: &Requester,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let spec = |policy: &NetworkPolicy| policy.spec.as_ref().map(Digest::of_spec);
    if spec(before) != spec(after) {
        found.push(finding(
            CHANGED,
            object,
            "spec",
            format!(
                "{} changes what the baseline {baseline} says here",
                requester.shown()
            ),
            "the namespace would be without it until the generator puts it back",
            Mend::text(elsewhere(baseline)),
        ));
    }
    let mut mark = |field: String| {
        found.push(finding(
            MARKS,
            object,
            field,
            format!(
                "{} changes what marks this as the baseline {baseline}'s",
                requester.shown()
            ),
            "the generator knows its own by it, and others what it is",
            Mend::text("leave it as it is; labels and annotations of your own are free"),
        ));
    };
    for (field, before, after) in [
        ("labels", &before.metadata.labels, &after.metadata.labels),
        (
            "annotations",
            &before.metadata.annotations,
            &after.metadata.annotations,
        ),
    ] {
        let (before, after) = (marks(before.as_ref()), marks(after.as_ref()));
        let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        for key in keys.into_iter().filter(|key| before.get(key) != after.get(key)) {
            mark(format!("metadata.{field}[{key}]"));
        }
    }
    let (before, after) = (&before.metadata, &after.metadata);
    // An owner that does not exist has the garbage collector delete it; a finalizer keeps the generator from doing so.
    if before.owner_references.as_deref().unwrap_or_default()
        != after.owner_references.as_deref().unwrap_or_default()
    {
        mark("metadata.ownerReferences".to_owned());
    }
    if before.finalizers.as_deref().unwrap_or_default() != after.finalizers.as_deref().unwrap_or_default() {
        mark("metadata.finalizers".to_owned());
    }
    found
}

/// What Ringfence reads of labels or annotations.
fn marks(map: Option<&BTreeMap<String, String>>) -> BTreeMap<&str, &str> {
    map.into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(PREFIX) || *key == MANAGED_BY)
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// A policy that is not the generator's, and says that it is.
fn forged(policy: &NetworkPolicy, object: &Object) -> Option<Finding> {
    owner(policy)?;
    let labels = policy.metadata.labels.as_ref();
    let labelled = labels.is_some_and(|labels| {
        labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER) && labels.contains_key(BASELINE)
    });
    let (field, mend) = if labelled {
        (
            format!("metadata.labels[{BASELINE}]"),
            format!("leave out {BASELINE} and {MANAGED_BY}: {MANAGER}"),
        )
    } else {
        (
            "metadata.managedFields".to_owned(),
            "apply it with a field manager of your own".to_owned(),
        )
    };
    Some(finding(
        FORGED,
        object,
        field,
        "it is marked as the generator's, which did not make it".to_owned(),
        "the generator would overwrite it or take it away, and whoever reads it would take it for the baseline",
        Mend::text(mend),
    ))
}

/// A policy under the name that a baseline's must have, or will have once a route names some Service: the generator overwrites nothing
/// that is not its own, so the namespace would stay without that policy. A namespace that was born just now may be taken by any
/// baseline.
fn name_taken<'a>(
    key: &Key,
    object: &Object,
    namespace: Option<&Namespace>,
    baselines: impl Iterator<Item = &'a NamespaceBaseline>,
) -> Option<Finding> {
    let names = |policy: &PolicyTemplate| match (policy.for_each, key.name.strip_prefix(&policy.name)) {
        (None, Some(rest)) => rest.is_empty(),
        (Some(ForEach::RoutedService), Some(rest)) => rest.starts_with('-'),
        (_, None) => false,
    };
    let template = baselines
        .filter(|baseline| baseline.spec.policies.iter().any(names))
        .filter_map(|baseline| Template::parse(baseline).ok())
        .find(|template| namespace.is_none_or(|namespace| takes(template, &key.namespace, namespace)))?;
    let (has, mend) = match namespace {
        Some(_) => ("has a policy of this name here", "choose another name"),
        None => (
            "has a policy of this name, and it cannot be said yet whether it takes this namespace",
            "choose another name, or try again in a moment",
        ),
    };
    Some(finding(
        NAME_TAKEN,
        object,
        "metadata.name",
        format!("the baseline {} {has}", template.name),
        "the generator overwrites nothing that is not its own, so the namespace would stay without that policy",
        Mend::text(mend),
    ))
}
