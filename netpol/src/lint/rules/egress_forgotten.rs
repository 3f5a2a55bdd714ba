//! NP015: pods that are closed on one side only.

use std::collections::BTreeSet;

use serde_json::json;

use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Direction, Policy};

pub(super) const RULE: Rule = Rule {
    code: "NP015",
    name: "egress-forgotten",
    finds: "a default deny for ingress only, or pods left free to send in a namespace whose other pods are not",
    why: "Whoever gets into a pod sends from it: to scan, to spread, to carry data away. A default deny that names Ingress alone leaves all of \
          that open.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
policyTypes: [Ingress]
",
    beside: "",
    good: "\
podSelector: {}
policyTypes: [Ingress, Egress]
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let policy = subject.policy;
    let Some(rules) = &policy.ingress else {
        return Vec::new();
    };
    // Of a bare podSelector it is not known whether it means to deny anything.
    let spec = subject.object.spec.as_ref();
    if spec.is_none_or(|spec| spec.policy_types.is_none() && spec.ingress.is_none()) {
        return Vec::new();
    }
    if policy.egress.is_some() || subject.is_generated() || subject.others_isolate(Direction::Egress) {
        return Vec::new();
    }
    if rules.is_empty() && policy.pods.is_everything() {
        return vec![finding(
            "this default deny is for ingress only, and no other policy isolates all pods of the namespace for egress".to_owned(),
        )];
    }
    let sending: Vec<&Policy> = subject
        .others()
        .iter()
        .copied()
        .filter(|other| other.egress.is_some())
        .collect();
    if sending.is_empty() || denies_ingress_only(subject) {
        return Vec::new(); // nobody here thinks of egress, or it is said at the default deny
    }
    let free: BTreeSet<String> = subject
        .samples()
        .iter()
        .filter(|(_, pod)| !sending.iter().any(|other| other.pods.matches(&pod.labels)))
        .map(|(key, pod)| called(key, pod))
        .collect();
    if free.is_empty() {
        return Vec::new();
    }
    vec![finding(format!(
        "{} {} isolated for ingress only; other pods of {} are isolated for egress too",
        some_of(&free),
        if free.len() == 1 { "is" } else { "are" },
        subject.namespace()
    ))]
}

/// Whether the namespace has a default deny that has the finding already.
fn denies_ingress_only(subject: &Subject<'_, '_>) -> bool {
    subject.others().iter().any(|other| {
        other.pods.is_everything()
            && other.egress.is_none()
            && other.ingress.as_ref().is_some_and(Vec::is_empty)
    })
}

fn finding(message: String) -> Found {
    Found {
        field: "spec.policyTypes".to_owned(),
        message,
        consequence: "these pods may connect to anyone, in the cluster and outside".to_owned(),
        mend: Some(Mend::yaml(
            "isolate for egress too, and open what the pods need, DNS first",
            json!({"policyTypes": ["Ingress", "Egress"]}),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_default_deny_for_ingress_only_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {}, policyTypes: [Ingress]}"
        ));
    }

    #[test]
    fn pods_that_are_free_where_others_are_not_are_found() {
        let live = Live::default().policy(
            "api",
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}",
        );
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "{podSelector: {matchLabels: {app: frontend}}, policyTypes: [Ingress], ingress: [{}]}"
        ));
    }

    #[test]
    fn a_namespace_that_uses_no_egress_and_pods_that_others_isolate_are_not_found() {
        let allow = "{podSelector: {matchLabels: {app: frontend}}, policyTypes: [Ingress], ingress: [{}]}";
        good(&RULE, &Live::default(), allow);
        good(&RULE, &Live::default(), "{podSelector: {}}");
        let both = Live::default().policy("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
        good(&RULE, &both, allow);
        good(&RULE, &both, "{podSelector: {}, policyTypes: [Ingress]}");
        let egress = Live::default().policy("deny-egress", "{podSelector: {}, policyTypes: [Egress]}");
        good(&RULE, &egress, "{podSelector: {}, policyTypes: [Ingress]}");
    }
}
