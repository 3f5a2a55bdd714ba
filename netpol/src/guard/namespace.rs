//! What happens to a namespace, as far as its baseline, its mode and what the platform team said of it are concerned.

use super::{AUDIT, EXEMPTIONS, Guard, LEAVES, MODE, MODE_LABEL, PLATFORM, SEVERITIES, UNREADABLE, finding};
use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::baseline::{NamespaceBaselineSpec, PolicyTemplate};
use crate::baseline::membership::takes;
use crate::baseline::object::{BASELINE, OPTED_IN};
use crate::baseline::template::Template;
use crate::cluster::{Cluster, Key, Namespace};
use crate::finding::{Finding, Mend, Object};
use crate::requester::Requester;
use crate::rollout::Local;
use crate::standard;

/// What speaks against a namespace becoming so; `before` is `None` if it is new, `cluster` while it is not in view. Opting in, and raising the
/// mode, is anyone's.
pub fn judge_namespace(
    name: &str,
    before: Option<&Namespace>,
    after: &Namespace,
    requester: &Requester,
    cluster: Option<&Cluster>,
    guard: &Guard,
) -> Vec<Finding> {
    let object = Object::new("Namespace", &Key::cluster(name));
    if guard.is_platform(requester) || guard.is_generator(requester) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let ask = || Mend::text("leave it as it is, or ask the platform team");
    let opted_in = |namespace: &Namespace| {
        namespace
            .labels
            .get(BASELINE)
            .is_some_and(|value| value == OPTED_IN)
    };
    if let Some(before) = before {
        if opted_in(before) && !opted_in(after) {
            found.push(finding(
                LEAVES,
                &object,
                format!("metadata.labels[{BASELINE}]"),
                format!("{} takes the namespace out of its baseline", requester.shown()),
                "the policies that close it would be removed",
                ask(),
            ));
        } else if before.labels != after.labels {
            found.extend(let_go(&object, before, after, cluster));
        }
    }
    let audits = |namespace: &Namespace| namespace.labels.get(MODE_LABEL).is_some_and(|mode| mode == AUDIT);
    if audits(after) && !before.is_some_and(audits) {
        found.push(finding(
            MODE,
            &object,
            format!("metadata.labels[{MODE_LABEL}]"),
            format!("{} sets the namespace's mode to {AUDIT}", requester.shown()),
            "what its policies deny would pass",
            ask(),
        ));
    }
    for key in [SEVERITIES, EXEMPTIONS] {
        let old = before.and_then(|before| before.annotations.get(key));
        if old != after.annotations.get(key) {
            found.push(finding(
                PLATFORM,
                &object,
                format!("metadata.annotations[{key}]"),
                format!(
                    "{} changes how objects in this namespace are judged",
                    requester.shown()
                ),
                "only the platform team may",
                ask(),
            ));
        }
    }
    found
}

/// What newly stands in a namespace's annotations and would say nothing, in silence, whoever writes it.
pub fn judge_annotations(name: &str, before: Option<&Namespace>, after: &Namespace) -> Vec<Finding> {
    let object = Object::new("Namespace", &Key::cluster(name));
    let changed =
        |key: &str| before.and_then(|before| before.annotations.get(key)) != after.annotations.get(key);
    if !changed(SEVERITIES) && !changed(EXEMPTIONS) {
        return Vec::new();
    }
    let defects = Local::read(&after.annotations).defects.into_iter();
    defects
        .filter(|(key, _)| changed(key))
        .map(|(key, reason)| {
            finding(
                UNREADABLE,
                &object,
                format!("metadata.annotations[{key}]"),
                reason,
                "this part would say nothing, and rules weigh what they weigh elsewhere",
                Mend::text("correct it"),
            )
        })
        .collect()
}

/// What holds the namespace as it is, and would no longer, or less. What that is cannot be known without the cluster, and then it stays as it is.
fn let_go(
    object: &Object,
    before: &Namespace,
    after: &Namespace,
    cluster: Option<&Cluster>,
) -> Option<Finding> {
    let finding = |message: String, consequence: &str, mend: String| {
        let mend = Mend::text(format!("{mend}, or ask the platform team"));
        Some(finding(
            LEAVES,
            object,
            "metadata.labels",
            message,
            consequence,
            mend,
        ))
    };
    let Some(cluster) = cluster else {
        return finding(
            "the cluster is not in view yet, so whether a baseline takes the namespace with these labels too cannot be said".to_owned(),
            "the policies that close it might be removed",
            "try again in a moment".to_owned(),
        );
    };
    let name = object.name.as_str();
    let baselines: Vec<Known<'_>> = cluster
        .baselines
        .values()
        .filter_map(|baseline| Some((Template::parse(baseline).ok()?, &baseline.spec)))
        .collect();
    if let Some(baseline) = left(name, before, after, &baselines) {
        return finding(
            format!("with these labels the baseline {baseline} no longer takes the namespace"),
            "the policies that close it would be removed",
            format!("keep the labels by which {baseline} selects"),
        );
    }
    if let Some(Weaker { policy, own, instead }) = weakened(name, before, after, &baselines) {
        return finding(
            format!(
                "with these labels the baseline {instead} makes {policy} in place of {own}, and closes less"
            ),
            "what closes the namespace now would be replaced",
            format!("leave out the labels by which {instead} selects"),
        );
    }
    let standard = standard::released(name, &before.labels, &after.labels, &cluster.standards)?;
    finding(
        format!("with these labels the namespace is no longer held to the label standard {standard}"),
        "pods could take labels there that it keeps from them",
        format!("keep the labels by which {standard} selects"),
    )
}

/// A baseline, read and as it is written.
type Known<'a> = (Template, &'a NamespaceBaselineSpec);

/// A baseline that takes the namespace as it is, and would no longer.
fn left<'a>(
    name: &str,
    before: &Namespace,
    after: &Namespace,
    baselines: &'a [Known<'_>],
) -> Option<&'a str> {
    if after.terminating {
        return None;
    }
    baselines
        .iter()
        .find(|(template, _)| takes(template, name, before) && !takes(template, name, after))
        .map(|(template, _)| template.name.as_str())
}

/// A policy that another baseline makes than before.
struct Weaker<'a> {
    policy: &'a str,
    own: &'a str,
    instead: &'a str,
}

/// A policy that a baseline which newly takes the namespace would make in place of one that keeps it, and that closes less. (What baselines add
/// under other names is theirs to open.)
fn weakened<'a>(
    name: &str,
    before: &Namespace,
    after: &Namespace,
    baselines: &'a [Known<'_>],
) -> Option<Weaker<'a>> {
    // Of two that make a policy of one name, the higher does, and the first by name of equals.
    let rank = |template: &'a Template| (template.priority, Reverse(template.name.as_str()));
    let (kept, new): (Vec<_>, Vec<_>) = baselines
        .iter()
        .filter(|(template, _)| takes(template, name, after))
        .partition(|(template, _)| takes(template, name, before));
    let own = |policy: &str| {
        let making = kept.iter().filter_map(|(template, spec)| {
            let made = spec.policies.iter().find(|made| made.name == policy)?;
            Some((template, made))
        });
        making.max_by_key(|(template, _)| rank(template))
    };
    new.iter().find_map(|(template, spec)| {
        spec.policies.iter().find_map(|policy| {
            let (by, was) = own(&policy.name)?;
            let weaker = rank(template) > rank(by) && !closes_as_much(policy, was);
            weaker.then_some(Weaker {
                policy: &policy.name,
                own: &by.name,
                instead: &template.name,
            })
        })
    })
}

/// Whether a policy surely closes all that another does, and opens nothing beside what that one opens.
fn closes_as_much(policy: &PolicyTemplate, other: &PolicyTemplate) -> bool {
    let (spec, was) = (&policy.spec, &other.spec);
    let every_pod = spec.pod_selector == LabelSelector::default();
    let ingress = |rule| was.ingress.iter().flatten().any(|other| other == rule);
    let egress = |rule| was.egress.iter().flatten().any(|other| other == rule);
    policy.for_each == other.for_each
        && (every_pod || spec.pod_selector == was.pod_selector)
        && was
            .policy_types
            .iter()
            .all(|kind| spec.policy_types.contains(kind))
        && spec.ingress.iter().flatten().all(ingress)
        && spec.egress.iter().flatten().all(egress)
}
