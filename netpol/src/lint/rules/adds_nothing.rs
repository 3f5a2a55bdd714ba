//! NP023: what other rules do already.

use crate::finding::{Mend, Severity};
use crate::lint::cover::{self, Effort};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Direction, Peers, Policy, Rule as Opening};

pub(super) const RULE: Rule = Rule {
    code: "NP023",
    name: "adds-nothing",
    finds: "a policy, a rule or a peer that lets nobody through whom others do not let through anyway, and isolates nobody whom others do not",
    why: "It looks like protection, or like permission, and is neither: who takes it out changes nothing, and who believes that it narrows \
          something down is wrong. Policies add up, so the wider of two is the one that counts.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {}
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: 8080
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: 8080
- from:
  - podSelector: {matchLabels: {app: metered}}
",
    check,
};

/// How many rules are compared with how many at most, and likewise peers.
const COMPARED: usize = 64;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let policy = subject.policy;
    if subject.is_generated() || !policy.defects.is_empty() {
        return Vec::new();
    }
    // Of policies for the same pods only the later one is measured by the other, so that whoever follows every finding cuts nothing.
    let wider: Vec<&Policy> = subject
        .others()
        .iter()
        .copied()
        .filter(|other| policy.pods.implies(&other.pods))
        .filter(|other| other.key < policy.key || !other.pods.implies(&policy.pods))
        .collect();
    let mut effort = Effort::default();
    if let Some(whole) = whole(policy, &wider, &mut effort) {
        return vec![whole];
    }
    let mut found = Vec::new();
    for direction in Direction::BOTH {
        let rules = policy.rules(direction).unwrap_or_default();
        let mut kept: Vec<&Opening> = rules.iter().take(COMPARED).collect();
        // For the same reason what was found to add nothing covers nothing else: the last first.
        let mut of_direction = Vec::new();
        for (index, rule) in rules.iter().enumerate().take(COMPARED).rev() {
            let mut others = kept.clone();
            others.remove(index);
            others.extend(rules_of(&wider, direction).take(COMPARED * COMPARED));
            if cover::is_covered(rule, others.iter().copied(), &mut effort) == Some(true) {
                kept.remove(index);
                of_direction.push(vec![of_rule(direction, index)]);
            } else {
                let mut of_peers = Vec::new();
                peers(direction, index, rule, &mut of_peers);
                of_direction.push(of_peers);
            }
        }
        found.extend(of_direction.into_iter().rev().flatten());
    }
    found
}

fn rules_of<'a>(policies: &'a [&Policy], direction: Direction) -> impl Iterator<Item = &'a Opening> + Clone {
    policies
        .iter()
        .flat_map(move |policy| policy.rules(direction).unwrap_or_default())
}

/// The policy as a whole, if others isolate the same pods and open all that it opens.
fn whole(policy: &Policy, wider: &[&Policy], effort: &mut Effort) -> Option<Found> {
    for direction in Direction::BOTH {
        let Some(rules) = policy.rules(direction) else {
            continue;
        };
        let isolated = wider.iter().any(|other| other.rules(direction).is_some());
        if !isolated || rules.len() > COMPARED {
            return None;
        }
        let open = rules.iter().all(|rule| {
            let others = rules_of(wider, direction).take(COMPARED * COMPARED);
            cover::is_covered(rule, others, effort) == Some(true)
        });
        if !open {
            return None;
        }
    }
    let names: Vec<&str> = wider.iter().map(|other| other.key.name.as_str()).collect();
    Some(Found {
        field: "spec".to_owned(),
        message: format!(
            "other policies isolate all of its pods, and let through whomever it lets through: {}",
            crate::lint::names::some_of(names)
        ),
        consequence: "the policy adds nothing".to_owned(),
        mend: Some(Mend::text(
            "delete it, or narrow the other ones down, if this is what was meant",
        )),
    })
}

fn of_rule(direction: Direction, index: usize) -> Found {
    let field = format!("spec.{}[{index}]", direction.field());
    Found {
        field: field.clone(),
        message:
            "other rules for the same pods let through whomever this one lets through, on all of its ports"
                .to_owned(),
        consequence: "the rule adds nothing, and narrows nothing down".to_owned(),
        mend: Some(Mend::text(
            "delete it, or narrow the wider rules down, if this is what was meant",
        )),
    }
}

/// Peers that another one of the same rule covers.
fn peers(direction: Direction, index: usize, rule: &Opening, found: &mut Vec<Found>) {
    let Peers::Of(peers) = &rule.peers else { return };
    let peers = &peers[..peers.len().min(COMPARED)];
    for (at, peer) in peers.iter().enumerate() {
        let wider = peers.iter().enumerate().find(|(other, wider)| {
            *other != at && cover::peer(peer, wider) && !(cover::peer(wider, peer) && *other > at)
        });
        if let Some((other, _)) = wider {
            let list = format!("spec.{}[{index}].{}", direction.field(), direction.peers_field());
            found.push(Found {
                field: format!("{list}[{at}]"),
                message: format!(
                    "whomever it means, {}[{other}] means too",
                    direction.peers_field()
                ),
                consequence: "the peer adds nothing, and narrows nothing down".to_owned(),
                mend: Some(Mend::text(
                    "delete it, or narrow the wider one down, if this is what was meant",
                )),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::RULE;
    use crate::lint::Subject;
    use crate::lint::testing::{Live, good, policy, shown};
    use crate::policy::Policy;

    #[test]
    fn rules_and_peers_under_wider_ones_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {matchLabels: {app: api}}
            ingress:
            - from: [{podSelector: {matchLabels: {app: frontend}}}, {podSelector: {}}]
            - from: [{podSelector: {matchLabels: {app: metered}}}]
              ports: [{port: 80}]
            egress:
            - to: [{ipBlock: {cidr: 10.1.0.0/16}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}]
            - to: [{podSelector: {}}]
            - to: [{podSelector: {}}]
        "
        ));
    }

    #[test]
    fn a_policy_under_others_is_found_and_of_two_that_are_equal_the_later_one() {
        let api = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]}";
        let open = Live::default().policy(
            "open",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        );
        insta::assert_snapshot!(shown(&RULE, &open, api));
        insta::assert_snapshot!(shown(&RULE, &Live::default().policy("a", api), api));
        good(&RULE, &Live::default().policy("z", api), api);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // how long it takes is what is tested
    fn two_rules_of_very_many_peers_are_passed_over_in_time() {
        let peer = |index: usize| format!("{{podSelector: {{matchLabels: {{app: a{index}}}}}}}");
        let peers: Vec<String> = (0..30_000).map(peer).collect();
        let rule = format!("{{from: [{}]}}", peers.join(", "));
        let object = policy(&format!("{{podSelector: {{}}, ingress: [{rule}, {rule}]}}"));
        let policy = Policy::parse(&object);
        let start = Instant::now();
        (RULE.check)(&Subject::new(&object, &policy, None, None));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn what_adds_something_is_not_found() {
        let deny = || Live::default().policy("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
        for spec in [
            "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]}",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{podSelector: {}}], ports: [{port: 81}]}]}",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {a: b}}}]}]}",
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 192.168.0.0/16}}]}]}",
        ] {
            good(&RULE, &deny(), spec);
        }
        // isolates for egress, which the other does not
        let other = Live::default().policy("other", "{podSelector: {}, policyTypes: [Ingress]}");
        good(
            &RULE,
            &other,
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress]}",
        );
        // selects more
        let other = Live::default().policy(
            "other",
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress]}",
        );
        good(&RULE, &other, "{podSelector: {}, policyTypes: [Ingress]}");
    }
}
