//! NP019: addresses in place of the pods that have them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::Key;
use crate::finding::{Mend, Severity};
use crate::lint::names::{count, some_of};
use crate::lint::subject::EXAMINED;
use crate::lint::{Found, Needs, Rule, Subject, Survey};
use crate::policy::{Direction, IpBlock, Peer, Peers};

pub(super) const RULE: Rule = Rule {
    code: "NP019",
    name: "block-of-pods",
    finds: "an ipBlock that covers addresses of pods",
    why: "A packet's address is what counts, so a block lets through every pod in it, of every namespace, whatever its labels; and the address that \
          a pod has today is another pod's tomorrow. CNIs differ, too, in whether a block matches pods at all. What lives in the cluster is named \
          by selectors.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - ipBlock: {cidr: 10.244.0.0/16}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  - ipBlock: {cidr: 203.0.113.0/24}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(survey) = subject
        .survey
        .filter(|_| subject.policy.defects.is_empty() && !subject.is_generated())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut examined = 0;
    for direction in Direction::BOTH {
        for (index, rule) in subject
            .policy
            .rules(direction)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let Peers::Of(peers) = &rule.peers else { continue };
            let left = EXAMINED - examined;
            examined += peers.len().min(left);
            for (at, peer) in peers.iter().enumerate().take(left) {
                // Whoever writes the whole family is told by others.
                if let Peer::Block(block) = peer
                    && block.cidr.prefix_len() > 0
                {
                    let field = format!(
                        "spec.{}[{index}].{}[{at}].ipBlock.cidr",
                        direction.field(),
                        direction.peers_field()
                    );
                    found.extend(judge(survey, direction, field, block));
                }
            }
        }
    }
    found
}

/// The pods whose addresses a block has.
fn covered<'a>(survey: &'a Survey<'_>, block: &IpBlock) -> Vec<&'a Key> {
    let range: std::ops::RangeInclusive<IpAddr> = match block.cidr {
        IpNet::V4(net) => IpAddr::V4(net.network())..=IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => IpAddr::V6(net.network())..=IpAddr::V6(net.broadcast()),
    };
    let within = survey.pod_addresses().range(range);
    within
        .filter(|(address, _)| block.contains(**address))
        .map(|(_, key)| key)
        .collect()
}

fn judge(survey: &Survey<'_>, direction: Direction, field: String, block: &IpBlock) -> Option<Found> {
    let pods = covered(survey, block);
    if pods.is_empty() {
        return None;
    }
    let namespaces: BTreeSet<&str> = pods.iter().map(|key| key.namespace.as_str()).collect();
    let nodes = survey
        .node_addresses()
        .iter()
        .filter(|address| block.contains(**address))
        .count();
    let also = match nodes {
        0 => String::new(),
        nodes => format!(", and of {}", count(nodes, "node", "nodes")),
    };
    let whose = match pods.as_slice() {
        [one] => format!("of the pod {one}"),
        _ => format!("of {} pods in {}", pods.len(), some_of(&namespaces)),
    };
    let effect = match direction {
        Direction::Ingress => "whichever pods have these addresses at the moment get in",
        Direction::Egress => {
            "the selected pods may connect to whichever pods have these addresses at the moment"
        }
    };
    Some(Found {
        field,
        message: format!("{} covers the addresses {whose}{also}", block.cidr),
        consequence: format!("{effect}, whatever their labels and namespaces"),
        mend: Some(Mend::text(
            "select the pods that are meant; for what is outside, write its own ranges, or take the pods' out by `except`",
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn pods_and_nodes_in_a_block_are_counted() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from: [{ipBlock: {cidr: 10.0.0.0/8}}]
            egress:
            - to: [{ipBlock: {cidr: 10.244.1.3/32}}]
        "
        ));
    }

    #[test]
    fn what_is_outside_of_the_cluster_or_a_node_is_not_found() {
        for spec in [
            "{ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}",
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.244.0.0/16]}}]}]}",
            "{ingress: [{from: [{ipBlock: {cidr: 10.10.0.1/32}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.168.0.0/16]}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 'fd00::/8'}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
