//! NP024: a policy that the kernel's tables have no room for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ipnet::IpNet;

use crate::cluster::{Cluster, ContainerPort, Pod};
use crate::compile::compile;
use crate::finding::{Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject, Survey};
use crate::policy::{Direction, Peer, Peers, Policy, Port, Ports};
use crate::port::{PortRange, Protocol};
use crate::selector::Labels;

pub(super) const RULE: Rule = Rule {
    code: "NP024",
    name: "entry-budget",
    finds: "a policy that would take more than half of a table that a node's rules are kept in",
    why: "The tables of a node's kernel have a fixed size, and while a policy changes they hold the old rules beside the new ones. What does not fit \
          is not loaded: the rules that were in force before stay in force, for every pod of the node, until someone makes room.",
    severity: Severity::Deny,
    needs: Needs::Nothing,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - ipBlock: {cidr: 203.0.113.1/32}
  - ipBlock: {cidr: 203.0.113.3/32}
  # … and 40,000 more
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - ipBlock: {cidr: 203.0.113.0/24}
",
    check,
};

/// Of how much of the enforcer's tables one may make use: half of each, since a change needs room for what was and what will be.
/// The sizes are those of its README, under Limits.
struct Budget {
    prefixes: usize,
    port_classes: usize,
    decisions: usize,
}

const BUDGET: Budget = Budget {
    prefixes: 65_536 / 2,
    port_classes: 1_024 / 2,
    decisions: 1_048_576 / 2,
};
/// How many comparisons of pods with peers a compilation may take here.
const WORK: usize = 20_000_000;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    judge(subject, &BUDGET)
}

fn judge(subject: &Subject<'_, '_>, budget: &Budget) -> Vec<Found> {
    let mut found = Vec::new();
    let prefixes = prefixes(subject.policy);
    if prefixes > budget.prefixes {
        found.push(finding(
            format!(
                "it has {prefixes} different address ranges, and a node has room for {}",
                2 * budget.prefixes
            ),
            "write fewer, wider ranges",
        ));
    }
    let classes = port_classes(subject.policy, 4 * budget.port_classes);
    if classes > budget.port_classes {
        found.push(finding(
            format!(
                "its rules tell {classes} groups of ports apart, and a node has room for {}",
                2 * budget.port_classes
            ),
            "name the same ports in the rules, or ranges (endPort)",
        ));
    }
    if let (Some(survey), true) = (subject.survey, found.is_empty()) {
        found.extend(decisions(subject, survey, budget));
    }
    found
}

fn finding(message: String, mend: &str) -> Found {
    Found {
        field: "spec".to_owned(),
        message,
        consequence: "once a node does not have the room, its rules stay as they are, and no change of any policy takes effect there".to_owned(),
        mend: Some(Mend::text(mend)),
    }
}

/// How many entries its blocks take: each range, and each that is taken out of one.
fn prefixes(policy: &Policy) -> usize {
    let blocks = rules(policy).filter_map(|(peers, _)| match peers {
        Peers::Of(list) => Some(list),
        Peers::Any => None,
    });
    let nets: HashSet<&IpNet> = blocks
        .flatten()
        .filter_map(|peer| match peer {
            Peer::Block(block) => Some(std::iter::once(&block.cidr).chain(&block.except)),
            Peer::Pods { .. } => None,
        })
        .flatten()
        .filter(|net| matches!(net, IpNet::V4(_)))
        .collect();
    nets.len()
}

/// How many groups of ports its rules treat differently: ports share a class if the same rules name them. Not counted beyond `at_most`.
fn port_classes(policy: &Policy, at_most: usize) -> usize {
    let sets: BTreeSet<&Ports> = rules(policy).map(|(_, ports)| ports).collect();
    // Where a set begins or ends: with how many sets begin and end, the ports between are told apart.
    let mut edges: BTreeMap<(Protocol, u32), Vec<(usize, bool)>> = BTreeMap::new();
    for (index, ports) in sets.iter().enumerate() {
        let Ports::Of(ports) = ports else { continue };
        let ranges: crate::port::PortSet = ports.iter().filter_map(range).collect();
        for range in ranges.ranges() {
            let (first, after) = (u32::from(range.first), u32::from(range.last) + 1);
            edges
                .entry((range.protocol, first))
                .or_default()
                .push((index, true));
            edges
                .entry((range.protocol, after))
                .or_default()
                .push((index, false));
        }
    }
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut signatures: HashSet<Vec<usize>> = HashSet::new();
    for changes in edges.values() {
        for (index, opens) in changes {
            if *opens {
                open.insert(*index);
            } else {
                open.remove(index);
            }
        }
        signatures.insert(open.iter().copied().collect());
        if signatures.len() >= at_most {
            break;
        }
    }
    signatures.len()
}

fn range(port: &Port) -> Option<PortRange> {
    match port {
        Port::Range(range) => Some(*range),
        Port::Named(..) => None,
    }
}

fn rules(policy: &Policy) -> impl Iterator<Item = (&Peers, &Ports)> {
    let both = Direction::BOTH.into_iter();
    both.flat_map(|direction| policy.rules(direction).unwrap_or_default())
        .map(|rule| (&rule.peers, &rule.ports))
}

/// What the node with most of its pods has to decide, all policies together. Counted only where the policy alone could come near the limit.
fn decisions(subject: &Subject<'_, '_>, survey: &Survey<'_>, budget: &Budget) -> Option<Found> {
    let pods = survey.cluster.pods.len();
    // Not even if each pod of the cluster were told apart.
    let fits = |different: usize| different.saturating_mul(pods) <= budget.decisions;
    if fits(subject.selected().len()) {
        return None;
    }
    let (node, different) = busiest(subject)?;
    if fits(different) {
        return None;
    }
    let peers: usize = rules(subject.policy)
        .map(|(peers, _)| match peers {
            Peers::Any => 1,
            Peers::Of(list) => list.len(),
        })
        .sum();
    let others = survey.cluster.policies.len();
    if pods.saturating_mul(peers + others) > WORK {
        return None; // to know it would take longer than a lint may
    }
    let mut cluster = Cluster {
        namespaces: survey.cluster.namespaces.clone(),
        pods: survey.cluster.pods.clone(),
        policies: survey.cluster.policies.clone(),
        ..Cluster::default()
    };
    cluster
        .policies
        .apply(subject.policy.key.clone(), subject.policy.clone());
    let needed = compile(&cluster, node).decisions.len();
    (needed > budget.decisions).then(|| {
        finding(
            format!(
                "with it, the node {node} has {needed} decisions to keep, and room for {}",
                2 * budget.decisions
            ),
            "select peers by labels that more pods share, or spread the pods over more nodes",
        )
    })
}

/// The node with the most selected pods that differ, and how many they are.
fn busiest<'a>(subject: &Subject<'_, 'a>) -> Option<(&'a str, usize)> {
    let mut nodes: BTreeMap<&str, HashSet<(&Labels, &[ContainerPort])>> = BTreeMap::new();
    for (_, pod) in subject.selected() {
        let pod: &'a Pod = pod;
        if let Some(node) = &pod.node {
            nodes.entry(node).or_default().insert((&pod.labels, &pod.ports));
        }
    }
    let counted = nodes.into_iter().map(|(node, different)| (node, different.len()));
    counted.max_by_key(|(_, different)| *different)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::testing::{Live, good, policy, ports, shown};

    fn blocks(count: u32) -> String {
        let block = |index: u32| {
            format!(
                "{{ipBlock: {{cidr: {}/32}}}}",
                std::net::Ipv4Addr::from_bits(index << 4)
            )
        };
        let list: Vec<String> = (1..=count).map(block).collect();
        format!(
            "{{podSelector: {{}}, ingress: [{{from: [{}]}}]}}",
            list.join(", ")
        )
    }

    fn port_rules(count: u32) -> String {
        let rule = |index: u32| format!("{{ports: [{{port: {}}}]}}", 2 * index);
        let list: Vec<String> = (1..=count).map(rule).collect();
        format!("{{podSelector: {{}}, ingress: [{}]}}", list.join(", "))
    }

    /// What is found with room for a hundred of each.
    fn found(live: &Live, spec: &str) -> Vec<String> {
        let object = policy(spec);
        let policy = Policy::parse(&object);
        let survey = Survey::whole(&live.0);
        let small = Budget {
            prefixes: 50,
            port_classes: 50,
            decisions: 50,
        };
        let found = judge(&Subject::new(&object, &policy, Some(&survey), None), &small);
        found.into_iter().map(|found| found.message).collect()
    }

    #[test]
    fn more_ranges_or_groups_of_ports_than_half_a_table_are_found() {
        assert_eq!(
            found(&Live::default(), &blocks(51)),
            ["it has 51 different address ranges, and a node has room for 100"]
        );
        assert_eq!(
            found(&Live::default(), &port_rules(60)),
            ["its rules tell 61 groups of ports apart, and a node has room for 100"]
        );
        assert_eq!(found(&Live::default(), &blocks(50)), [""; 0]);
        assert_eq!(found(&Live::default(), &port_rules(49)), [""; 0]);
    }

    #[test]
    fn many_ports_of_one_rule_are_one_group() {
        let list: Vec<String> = (1..=2_000)
            .map(|port| format!("{{port: {}}}", 2 * port))
            .collect();
        let spec = format!(
            "{{podSelector: {{}}, ingress: [{{ports: [{}]}}]}}",
            list.join(", ")
        );
        assert_eq!(found(&Live::default(), &spec), [""; 0]);
    }

    #[test]
    fn pods_that_are_all_told_apart_are_counted_on_their_node() {
        let mut live = Live::default();
        for index in 0..10_u16 {
            let name = format!("p{index}");
            live = live
                .pod("shop", &name, &[("app", &name)])
                .with("shop", &name, |pod| {
                    pod.node = Some("node-3".to_owned());
                    pod.addresses = vec![[11, 0, 0, u8::try_from(index).unwrap()].into()];
                    // Each resolves the name to a port of its own.
                    pod.ports = ports(&[&format!("own TCP {}", 1000 + index)]);
                });
        }
        let each: Vec<String> = (0..10)
            .map(|index| format!("{{podSelector: {{matchLabels: {{app: p{index}}}}}}}"))
            .collect();
        let spec = |peers: &str| {
            format!("{{podSelector: {{}}, ingress: [{{from: [{peers}], ports: [{{port: own}}]}}]}}")
        };
        assert_eq!(
            found(&live, &spec(&each.join(", "))),
            ["with it, the node node-3 has 100 decisions to keep, and room for 100"]
        );
        // Not told apart, they share a decision.
        assert_eq!(found(&live, &spec("{podSelector: {}}")), [""; 0]);
    }

    #[test]
    fn a_policy_of_the_largest_size_is_found_and_large_ones_that_fit_are_not() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), &blocks(32_769)));
        good(&RULE, &Live::default(), &blocks(5_000));
        good(&RULE, &Live::default(), &port_rules(400));
    }
}
