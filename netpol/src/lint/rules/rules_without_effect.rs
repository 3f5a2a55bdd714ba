//! NP007: rules for a direction that policyTypes leaves out.

use serde_json::json;

use crate::finding::{Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::Direction;

pub(super) const RULE: Rule = Rule {
    code: "NP007",
    name: "rules-without-effect",
    finds: "rules for a direction that policyTypes does not name",
    why: "policyTypes alone says for which directions a policy isolates. Rules of another direction are stored and ignored: \
          the pods stay as open, or as closed by other policies, as they were.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
policyTypes: [Ingress]
egress:
- to:
  - podSelector: {}
",
    beside: "",
    good: "\
podSelector: {}
policyTypes: [Ingress, Egress]
egress:
- to:
  - podSelector: {}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(spec) = &subject.object.spec else {
        return Vec::new();
    };
    let given = |direction| match direction {
        Direction::Ingress => spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Direction::Egress => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    };
    Direction::BOTH
        .into_iter()
        .filter(|direction| given(*direction) && subject.policy.rules(*direction).is_none())
        .map(|direction| {
            let (field, kind) = match direction {
                Direction::Ingress => ("spec.ingress", "Ingress"),
                Direction::Egress => ("spec.egress", "Egress"),
            };
            Found {
                field: field.to_owned(),
                message: format!("policyTypes does not name {kind}"),
                consequence: format!("the rules under {} are ignored", direction.field()),
                mend: Some(Mend::yaml(
                    "name both directions, or delete the rules",
                    json!({"policyTypes": ["Ingress", "Egress"]}),
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn egress_rules_of_a_policy_for_ingress_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            policyTypes: [Ingress]
            egress: [{ports: [{port: 53, protocol: UDP}]}]
        "
        ));
    }

    #[test]
    fn rules_of_the_named_directions_and_empty_lists_are_not_found() {
        for spec in [
            "{policyTypes: [Ingress], ingress: [{}], egress: []}",
            "{policyTypes: [Ingress, Egress], egress: [{}]}",
            "{ingress: [{}], egress: [{}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
