//! When a rule surely lets in, or out, all that another one does.
//!
//! What is said here is proved from the typed rules alone, whatever lives in the cluster; what would take more than one requirement,
//! or the addresses of pods, to see is not seen. So the answer "no" means nothing.

use crate::cluster::NAMESPACE_NAME;
use crate::policy::{IpBlock, Namespaces, Peer, Peers, Port, Ports, Rule};
use crate::port::{PortRange, PortSet};
use crate::selector::{Condition, Selector};

/// How many comparisons are made for one policy. Two rules with tens of thousands of peers each would take a second, in which
/// nobody else's policy is judged.
const EFFORT: usize = 200_000;

/// What is left of the comparisons that may be made.
#[derive(Debug)]
pub(super) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(EFFORT)
    }
}

impl Effort {
    /// Whether so much more may be done. What is too much takes nothing from what is small.
    fn spend(&mut self, comparisons: usize) -> bool {
        let left = self.0.checked_sub(comparisons);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Whether some rule of `others` lets each peer of `rule` through, on all of its ports; `None` if it would take too long to know.
pub(super) fn is_covered<'a>(
    rule: &Rule,
    others: impl Iterator<Item = &'a Rule>,
    effort: &mut Effort,
) -> Option<bool> {
    let mut wide: Vec<&Rule> = Vec::new();
    for other in others {
        let named = |ports: &Ports| match ports {
            Ports::Any => 1,
            Ports::Of(list) => list.len().max(1),
        };
        if !effort.spend(named(&rule.ports).saturating_mul(named(&other.ports))) {
            return None;
        }
        if ports(&rule.ports, &other.ports) {
            wide.push(other);
        }
    }
    if wide.iter().any(|other| other.peers == Peers::Any) {
        return Some(true);
    }
    let Peers::Of(list) = &rule.peers else {
        return Some(false);
    };
    let wider: Vec<&Peer> = wide
        .iter()
        .filter_map(|other| match &other.peers {
            Peers::Any => None,
            Peers::Of(peers) => Some(peers),
        })
        .flatten()
        .collect();
    if !effort.spend(list.len().saturating_mul(wider.len())) {
        return None;
    }
    let covered = |inner: &Peer| wider.iter().any(|outer| peer(inner, outer));
    Some(list.iter().all(covered))
}

/// Whether everyone who is `inner` is `outer` too.
pub(super) fn peer(inner: &Peer, outer: &Peer) -> bool {
    match (inner, outer) {
        (Peer::Block(inner), Peer::Block(outer)) => block(inner, outer),
        (
            Peer::Pods { namespaces, pods },
            Peer::Pods {
                namespaces: wider,
                pods: more,
            },
        ) => pods.implies(more) && self::namespaces(namespaces, wider),
        _ => false,
    }
}

fn namespaces(inner: &Namespaces, outer: &Namespaces) -> bool {
    let named = |name: &String| Selector::label(NAMESPACE_NAME, name);
    match (inner, outer) {
        (Namespaces::Own(inner), Namespaces::Own(outer)) => inner == outer,
        // Every namespace carries its name; what else it carries may change.
        (Namespaces::Own(name), Namespaces::Selected(outer)) => named(name).implies(outer),
        (Namespaces::Selected(inner), Namespaces::Own(name)) => inner.implies(&named(name)),
        (Namespaces::Selected(inner), Namespaces::Selected(outer)) => inner.implies(outer),
    }
}

fn block(inner: &IpBlock, outer: &IpBlock) -> bool {
    let excepted = |part: &ipnet::IpNet| {
        inner
            .except
            .iter()
            .any(|except| except.contains(part) || *except == *part)
    };
    outer.cidr.contains(&inner.cidr)
        && outer.except.iter().all(|except| {
            let apart = !except.contains(&inner.cidr) && !inner.cidr.contains(except);
            apart || excepted(except)
        })
}

/// Whether every port of `inner` is one of `outer`.
pub(super) fn ports(inner: &Ports, outer: &Ports) -> bool {
    match (inner, outer) {
        (_, Ports::Any) => true,
        (Ports::Any, Ports::Of(_)) => false,
        (Ports::Of(inner), Ports::Of(outer)) => {
            let ranges: PortSet = outer.iter().filter_map(range).collect();
            inner.iter().all(|port| match port {
                Port::Range(range) => within(range, &ranges),
                Port::Named(protocol, _) => {
                    outer.contains(port) || within(&PortRange::whole(*protocol), &ranges)
                }
            })
        }
    }
}

fn range(port: &Port) -> Option<PortRange> {
    match port {
        Port::Range(range) => Some(*range),
        Port::Named(..) => None,
    }
}

fn within(range: &PortRange, set: &PortSet) -> bool {
    let holds = |outer: &PortRange| {
        outer.protocol == range.protocol && outer.first <= range.first && range.last <= outer.last
    };
    set.ranges().iter().any(holds)
}

/// Whether the rule lets everyone of the cluster through on every port, whatever else it says.
pub(super) fn is_open_to_all(rule: &Rule) -> bool {
    rule.ports == Ports::Any
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(list) => list.iter().any(is_everyone),
        }
}

/// Whether a peer is every pod of the cluster, or every address of a family.
pub(super) fn is_everyone(peer: &Peer) -> bool {
    match peer {
        Peer::Block(block) => block.cidr.prefix_len() == 0 && block.except.is_empty(),
        Peer::Pods { namespaces, pods } => {
            pods.is_everything()
                && matches!(namespaces, Namespaces::Selected(selector) if selector.is_everything())
        }
    }
}

/// The value of a label that a selector asks for, if it is one.
pub(super) fn only_value<'a>(selector: &'a Selector, key: &str) -> Option<&'a str> {
    selector
        .requirements()
        .find_map(|requirement| match &requirement.condition {
            Condition::In(values) if requirement.key == key && values.len() == 1 => {
                values.first().map(String::as_str)
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::testing::policy;
    use crate::policy::Policy;

    fn rule(yaml: &str) -> Rule {
        let policy = Policy::parse(&policy(&format!("{{podSelector: {{}}, ingress: [{yaml}]}}")));
        assert_eq!(policy.defects, [], "{yaml}");
        policy.ingress.unwrap().remove(0)
    }

    #[test]
    fn a_rule_is_covered_by_those_that_let_all_of_it_through() {
        let table: &[(&str, &[&str], bool)] = &[
            ("{}", &["{}"], true),
            ("{}", &["{from: [{namespaceSelector: {}}]}"], false),
            ("{from: [{podSelector: {}}]}", &["{}"], true),
            (
                "{from: [{podSelector: {matchLabels: {a: b}}}]}",
                &["{from: [{podSelector: {}}]}"],
                true,
            ),
            (
                "{from: [{podSelector: {}}]}",
                &["{from: [{podSelector: {matchLabels: {a: b}}}]}"],
                false,
            ),
            (
                "{from: [{podSelector: {}}]}",
                &["{from: [{namespaceSelector: {}}]}"],
                true,
            ),
            (
                "{from: [{podSelector: {}}]}",
                &["{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}"],
                true,
            ),
            (
                "{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop, x: y}}}]}",
                &["{from: [{podSelector: {}}]}"],
                true,
            ),
            (
                "{from: [{namespaceSelector: {matchLabels: {x: y}}}]}",
                &["{from: [{podSelector: {}}]}"],
                false,
            ),
            ("{ports: [{port: 80}]}", &["{}"], true),
            (
                "{ports: [{port: 80}]}",
                &["{ports: [{port: 1, endPort: 79}, {port: 80, endPort: 90}]}"],
                true,
            ),
            (
                "{ports: [{port: 80}]}",
                &["{ports: [{port: 80, protocol: UDP}]}"],
                false,
            ),
            ("{ports: [{port: http}]}", &["{ports: [{protocol: TCP}]}"], true),
            (
                "{ports: [{port: http}]}",
                &["{ports: [{port: http}, {port: 81}]}"],
                true,
            ),
            ("{ports: [{port: http}]}", &["{ports: [{port: 80}]}"], false),
            (
                "{}",
                &["{ports: [{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}"],
                false,
            ),
            (
                "{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}",
                &["{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}]}"],
                true,
            ),
            (
                "{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}",
                &["{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.2.0/24]}}]}"],
                false,
            ),
            (
                "{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.2.0/23]}}]}",
                &["{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.2.0/24]}}]}"],
                true,
            ),
            (
                "{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}",
                &["{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}}]}"],
                false,
            ),
            // each peer by another rule
            (
                "{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}",
                &[
                    "{from: [{podSelector: {}}]}",
                    "{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}",
                ],
                true,
            ),
            (
                "{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}",
                &[
                    "{from: [{podSelector: {}}]}",
                    "{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 81}]}",
                ],
                false,
            ),
        ];
        for (inner, outer, expected) in table {
            let outer: Vec<Rule> = outer.iter().map(|yaml| rule(yaml)).collect();
            assert_eq!(
                is_covered(&rule(inner), outer.iter(), &mut Effort::default()),
                Some(*expected),
                "{inner} by {outer:?}"
            );
        }
    }
}
