//! NP014: a policy that leaves to Kubernetes what it isolates for, and is taken by surprise.

use serde_json::json;

use crate::finding::{Fix, Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::Direction;

pub(super) const RULE: Rule = Rule {
    code: "NP014",
    name: "types-left-out",
    finds: "a policy without policyTypes for which Kubernetes assumes what one would not",
    why: "Where policyTypes is absent, Kubernetes assumes Ingress, always, and Egress only if there are egress rules. So a policy with egress \
          rules alone also denies all ingress, one with an empty egress list denies no egress, and one with just a podSelector, far from \
          changing nothing, denies all ingress.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {matchLabels: {app: api}}
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(spec) = &subject.object.spec else {
        return Vec::new();
    };
    // The API server fills them in before it asks anybody; the text still shows that they were left out.
    let named = match subject.written {
        Some(written) => written["spec"]["policyTypes"]
            .as_array()
            .is_some_and(|types| !types.is_empty()),
        None => spec.policy_types.as_ref().is_some_and(|types| !types.is_empty()),
    };
    if named {
        return Vec::new();
    }
    // Lists that are written, though empty, as far as the text is at hand.
    let written = |field: &str, typed: bool| {
        typed
            || subject
                .written
                .is_some_and(|written| written["spec"].get(field).is_some())
    };
    let ingress = written("ingress", spec.ingress.is_some());
    let egress = written("egress", spec.egress.is_some());
    let has_egress_rules = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let types = |types: &[&str]| json!({"policyTypes": types});
    let (message, consequence, mend) = match (ingress, egress, has_egress_rules) {
        // What others deny anyway is no surprise.
        (false, _, true) if !subject.others_isolate(Direction::Ingress) => (
            "policyTypes is left out, and there are egress rules only; Kubernetes assumes [Ingress, Egress]",
            "the selected pods are isolated for ingress too: nothing gets in but what other policies allow",
            Mend::yaml("name the directions that are meant, probably", types(&["Egress"])),
        ),
        (_, true, false) => (
            "policyTypes is left out, and the list of egress rules is empty; Kubernetes assumes [Ingress]",
            "the empty list denies nothing: the selected pods may connect to anyone",
            Mend::yaml(
                "name Egress to deny what is sent, and open what the pods need, DNS first",
                types(&if ingress {
                    vec!["Ingress", "Egress"]
                } else {
                    vec!["Egress"]
                }),
            ),
        ),
        (false, false, _) => (
            "policyTypes is left out, and there are no rules; Kubernetes assumes [Ingress]",
            "all ingress of the selected pods is denied, but what other policies allow",
            Mend::yaml("say so, if it is meant", types(&["Ingress"])).sure([Fix::Insert {
                field: "spec".to_owned(),
                key: "policyTypes".to_owned(),
                value: json!(["Ingress"]),
            }]),
        ),
        _ => return Vec::new(),
    };
    vec![Found {
        field: "spec.policyTypes".to_owned(),
        message: message.to_owned(),
        consequence: consequence.to_owned(),
        mend: Some(mend),
    }]
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_policy_for_egress_that_denies_all_ingress_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}"
        ));
    }

    #[test]
    fn an_empty_list_that_denies_nothing_is_found() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), "{podSelector: {}, egress: []}"));
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {}, ingress: [{}], egress: []}"
        ));
    }

    #[test]
    fn a_bare_pod_selector_is_found() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), "{podSelector: {}}"));
    }

    #[test]
    fn what_is_as_one_would_think_is_not_found() {
        for spec in [
            "{podSelector: {}, ingress: [{}]}",
            "{podSelector: {}, ingress: []}",
            "{podSelector: {}, ingress: [], egress: [{}]}",
            "{podSelector: {}, policyTypes: [Ingress]}",
            "{podSelector: {}, policyTypes: [Egress], egress: [{}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        let denied = Live::default().policy("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
        good(
            &RULE,
            &denied,
            "{podSelector: {matchLabels: {app: api}}, egress: [{}]}",
        );
    }
}
