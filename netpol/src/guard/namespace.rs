//! What happens to a namespace, as far as its baseline, its mode and what the platform team said of it are concerned.

use super::{AUDIT, EXEMPTIONS, Guard, LEAVES, MODE, MODE_LABEL, PLATFORM, SEVERITIES, UNREADABLE, finding};
use crate::api::NamespaceBaseline;
use crate::baseline::membership::takes;
use crate::baseline::object::{BASELINE, OPTED_IN};
use crate::baseline::template::Template;
use crate::cluster::{Key, Namespace};
use crate::finding::{Finding, Mend, Object};
use crate::requester::Requester;
use crate::rollout::Local;

/// What speaks against a namespace becoming so; `before` is `None` if it is new. Opting in, and raising the mode, is anyone's.
pub fn judge_namespace<'a>(
    name: &str,
    before: Option<&Namespace>,
    after: &Namespace,
    requester: &Requester,
    baselines: impl Iterator<Item = &'a NamespaceBaseline>,
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
        } else if let Some(baseline) = left(name, before, after, baselines) {
            found.push(finding(
                LEAVES,
                &object,
                "metadata.labels",
                format!("with these labels the baseline {baseline} no longer takes the namespace"),
                "the policies that close it would be removed",
                Mend::text(format!(
                    "keep the labels by which {baseline} selects, or ask the platform team"
                )),
            ));
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

/// A baseline that takes the namespace as it is, and would no longer.
fn left<'a>(
    name: &str,
    before: &Namespace,
    after: &Namespace,
    baselines: impl Iterator<Item = &'a NamespaceBaseline>,
) -> Option<String> {
    if before.labels == after.labels || after.terminating {
        return None;
    }
    baselines
        .filter_map(|baseline| Template::parse(baseline).ok())
        .find(|template| takes(template, name, before) && !takes(template, name, after))
        .map(|template| template.name)
}
