//! NP017: an allow that leaves nothing of the namespace's default deny.

use crate::finding::{Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject, cover};
use crate::policy::{Direction, Policy};

pub(super) const RULE: Rule = Rule {
    code: "NP017",
    name: "voids-baseline",
    finds: "a rule for all pods of a namespace that lets everyone through on every port, where a default deny is in force",
    why: "Policies add up: what one allows, no other takes back. One such rule, and the default deny of the namespace still stands there, and means \
          nothing.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- {}
",
    beside: "{podSelector: {}, policyTypes: [Ingress, Egress]}",
    good: "\
podSelector: {matchLabels: {app: frontend}}
policyTypes: [Ingress]
ingress:
- ports:
  - port: 8000
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    if subject.is_generated() || !selects_all(subject) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for direction in Direction::BOTH {
        let Some(deny) = subject
            .others()
            .iter()
            .find(|other| is_default_deny(other, direction))
        else {
            continue;
        };
        let rules = subject
            .policy
            .rules(direction)
            .unwrap_or_default()
            .iter()
            .enumerate();
        for (index, _) in rules.filter(|(_, rule)| cover::is_open_to_all(rule)) {
            found.push(finding(subject, direction, index, deny));
        }
    }
    found
}

fn is_default_deny(policy: &Policy, direction: Direction) -> bool {
    policy.pods.is_everything() && policy.rules(direction).is_some_and(<[_]>::is_empty)
}

/// Whether it selects every pod of its namespace, by what it says or as things are.
fn selects_all(subject: &Subject<'_, '_>) -> bool {
    if subject.policy.pods.is_everything() {
        return true;
    }
    let own = subject
        .cluster
        .into_iter()
        .flat_map(|cluster| cluster.pods.in_namespace(subject.namespace()));
    let governed = own.filter(|(_, pod)| pod.is_governed()).count();
    // One pod is no namespace: its allow is its own.
    subject.samples().len() > 1 && subject.selected().len() == governed
}

fn finding(subject: &Subject<'_, '_>, direction: Direction, index: usize, deny: &Policy) -> Found {
    let who = match direction {
        Direction::Ingress => "every pod of the cluster may connect to its pods",
        Direction::Egress => "its pods may connect to every pod of the cluster",
    };
    Found {
        field: format!("spec.{}[{index}]", direction.field()),
        message: format!(
            "it lets everyone through on every port, for all pods of {}",
            subject.namespace()
        ),
        consequence: format!(
            "for {1}, the namespace's default deny {0} means nothing: {who}, at the least",
            deny.key.name,
            direction.field()
        ),
        mend: Some(Mend::text(format!(
            "select the pods that need it, list under `{}` who is meant, and name ports",
            direction.peers_field()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    fn denied() -> Live {
        Live::default().policy(
            "default-deny",
            "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        )
    }

    #[test]
    fn an_allow_of_everything_under_a_default_deny_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &denied(),
            "
            podSelector: {matchExpressions: [{key: app, operator: Exists}]}
            ingress: [{from: [{podSelector: {}}]}, {from: [{namespaceSelector: {}}]}]
            egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]
        "
        ));
    }

    #[test]
    fn what_leaves_something_of_it_is_not_found() {
        for spec in [
            "{podSelector: {matchLabels: {app: api}}, ingress: [{}]}",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}",
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}",
        ] {
            good(&RULE, &denied(), spec);
        }
        good(&RULE, &Live::default(), "{podSelector: {}, ingress: [{}]}");
    }
}
