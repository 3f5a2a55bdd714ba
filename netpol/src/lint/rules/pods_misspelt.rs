//! NP028: a policy that governs nobody, where pods with nearly its labels are.

use crate::finding::{Mend, Severity};
use crate::lint::near::near_miss;
use crate::lint::peers::written;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::selector::Labels;

pub(super) const RULE: Rule = Rule {
    code: "NP028",
    name: "pods-misspelt",
    finds: "a podSelector that selects no pod of its namespace, while one that is spelt almost so does",
    why: "A policy for pods that are not there is stored like any other, and the pods that were meant stay as open as they were.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: fronted}}
policyTypes: [Ingress]
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: frontend}}
policyTypes: [Ingress]
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(cluster) = subject.cluster else {
        return Vec::new();
    };
    let selector = &subject.policy.pods;
    if selector.is_everything() || !subject.selected().is_empty() {
        return Vec::new();
    }
    let own = cluster.pods.in_namespace(subject.namespace());
    let live: Vec<&Labels> = own.map(|(_, pod)| pod.labels.as_ref()).collect();
    if live.iter().any(|labels| selector.matches(labels)) {
        return Vec::new(); // on their node's network, or finished
    }
    let Some(near) = near_miss(selector, &live) else {
        return Vec::new(); // they may be still to come
    };
    vec![Found {
        field: "spec.podSelector".to_owned(),
        message: format!(
            "no pod of {} carries {selector}, but one carries {}",
            subject.namespace(),
            near.selector
        ),
        consequence: "the policy governs nobody, and the pods that are meant stay as they were".to_owned(),
        mend: Some(Mend::yaml(
            format!("write {}", near.change()),
            serde_json::json!({"podSelector": written(&near.selector)}),
        )),
    }]
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_misspelt_value_and_another_key_for_the_same_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {app: fronted}}}"
        ));
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {k8s-app: api}}}"
        ));
    }

    #[test]
    fn pods_that_are_there_or_still_to_come_are_not_found() {
        for spec in [
            "{podSelector: {}}",
            "{podSelector: {matchLabels: {app: frontend}}}",
            "{podSelector: {matchLabels: {app: billing}}}",
            "{podSelector: {matchLabels: {app: exporter}}}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
