//! NP001: a part of the policy that the enforcer could not understand.

use crate::finding::{Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP001",
    name: "unreadable",
    finds: "a part of the policy that cannot be understood",
    why: "The enforcer reads policies with this very parser and closes what it cannot understand: a peer or port then \
          matches nothing, and a policy whose podSelector is unreadable isolates its whole namespace.",
    severity: Severity::Deny,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
ingress:
- from:
  - ipBlock: {cidr: 10.0.0.0}
",
    beside: "",
    good: "\
podSelector: {}
ingress:
- from:
  - ipBlock: {cidr: 10.0.0.0/8}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let found = |defect: &crate::policy::Defect| Found {
        field: defect.field.clone(),
        message: defect.error.to_string(),
        consequence: if defect.field.starts_with("spec.podSelector") {
            "whom the policy means is unknown, so it would isolate every pod of its namespace".to_owned()
        } else if defect.field.starts_with("spec.policyTypes") {
            "the selected pods would be isolated in both directions".to_owned()
        } else {
            "this part would match nothing and allow nobody".to_owned()
        },
        mend: Some(Mend::text(format!("correct {}", defect.field))),
    };
    subject.policy.defects.iter().map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn an_address_that_is_no_cidr_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from:
              - ipBlock: {cidr: 10.0.0.0}
        "
        ));
    }

    #[test]
    fn an_unreadable_pod_selector_says_that_the_namespace_would_be_isolated() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {matchExpressions: [{key: app, operator: Like, values: [web]}]}
        "
        ));
    }

    #[test]
    fn what_the_api_server_accepts_though_odd_is_not_found() {
        for spec in [
            "{}",
            "{podSelector: {}}",
            "{podSelector: {}, ingress: [{}], egress: [{to: [], ports: []}]}",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}, namespaceSelector: {}}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 80}, {port: http}, {protocol: SCTP}]}]}",
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:1::/48']}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
