//! NP006: a rule that is open to everyone.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};

use crate::finding::{Mend, Severity};
use crate::lint::peers::is_dns;
use crate::lint::{Found, Needs, Rule, Subject, TOLD};
use crate::policy::Direction;
use crate::selector::Selector;

pub(super) const RULE: Rule = Rule {
    code: "NP006",
    name: "allows-anyone",
    finds: "a rule without peers, or with a peer that is everyone",
    why: "An empty or absent peer list means anyone, also from outside of the cluster, and so does 0.0.0.0/0 as a source; an empty \
          namespaceSelector means every pod of every tenant. It may be meant; it should not happen by omission.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- ports:
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
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(spec) = &subject.object.spec else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if subject.policy.ingress.is_some() {
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            // A hole for DNS that stands here by mistake is NP005's.
            if rule.from.as_ref().is_some_and(|from| !from.is_empty()) || !is_dns(rule.ports.as_deref()) {
                judge(
                    Direction::Ingress,
                    index,
                    rule.from.as_deref(),
                    rule.ports.as_deref(),
                    &mut found,
                );
            }
        }
    }
    if subject.policy.egress.is_some() {
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            judge(
                Direction::Egress,
                index,
                rule.to.as_deref(),
                rule.ports.as_deref(),
                &mut found,
            );
        }
    }
    found
}

fn judge(
    direction: Direction,
    index: usize,
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
    found: &mut Vec<Found>,
) {
    let ports = if ports.unwrap_or_default().is_empty() {
        "on every port"
    } else {
        "on these ports"
    };
    let effect = |who: &str| match direction {
        Direction::Ingress => format!("{who} may connect to the selected pods {ports}"),
        Direction::Egress => format!("the selected pods may connect to {who} {ports}"),
    };
    let list = direction.peers_field();
    let rule = format!("spec.{}[{index}]", direction.field());
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        found.push(Found {
            field: rule.clone(),
            message: format!("the rule has no `{list}`"),
            consequence: effect("anyone, in the cluster and outside,"),
            mend: Some(Mend::text(format!("list under `{list}` who is meant"))),
        });
    }
    for (at, peer) in peers.iter().enumerate() {
        if found.len() > TOLD {
            return;
        }
        let field = format!("{rule}.{list}[{at}]");
        if is_every_pod(peer) {
            found.push(Found {
                field: format!("{field}.namespaceSelector"),
                message:
                    "an empty namespaceSelector selects every namespace, and nothing narrows down the pods"
                        .to_owned(),
                consequence: effect("every pod of the cluster"),
                mend: Some(Mend::text(
                    "select the namespaces, or add a podSelector to the same item",
                )),
            });
        }
        // Towards the world it is another rule's, which looks at what is inside of it.
        if let (Direction::Ingress, Some(cidr)) = (direction, whole_family(peer)) {
            found.push(Found {
                field: format!("{field}.ipBlock.cidr"),
                message: format!("{cidr} is every address"),
                consequence: effect("anyone, in the cluster and outside,"),
                mend: Some(Mend::text(
                    "write the ranges that are meant, or take out by `except` those that are not",
                )),
            });
        }
    }
}

fn is_every_pod(peer: &NetworkPolicyPeer) -> bool {
    let everything = |selector| Selector::parse(selector).is_ok_and(|selector| selector.is_everything());
    peer.ip_block.is_none()
        && peer.namespace_selector.as_ref().is_some_and(everything)
        && peer.pod_selector.as_ref().is_none_or(everything)
}

fn whole_family(peer: &NetworkPolicyPeer) -> Option<&str> {
    let block = peer.ip_block.as_ref()?;
    let cidr: IpNet = block.cidr.parse().ok()?;
    let narrowed = block.except.as_ref().is_some_and(|except| !except.is_empty());
    (cidr.prefix_len() == 0 && !narrowed).then_some(block.cidr.as_str())
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn rules_and_peers_that_are_open_to_everyone_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            policyTypes: [Ingress, Egress]
            ingress:
            - {}
            - from: [{namespaceSelector: {}}]
              ports: [{port: 80}]
            - from: [{ipBlock: {cidr: '::/0'}}]
            egress:
            - ports: [{port: 443}]
        "
        ));
    }

    #[test]
    fn rules_that_are_narrowed_down_are_not_found() {
        for spec in [
            "{ingress: [{from: [{podSelector: {}}]}]}",
            "{ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: prometheus}}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}",
            "{policyTypes: [Ingress], egress: [{}]}",
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}",
            "{ingress: []}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
