//! NP012: a hole for DNS that large answers do not fit through.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::finding::{Fix, Mend, Severity};
use crate::lint::cover::{self, Effort};
use crate::lint::peers::is_dns;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Peers, Policy, Port, Ports, Rule as Opening};
use crate::port::{PortRange, Protocol};

pub(super) const RULE: Rule = Rule {
    code: "NP012",
    name: "dns-by-udp-only",
    finds: "an egress rule that opens port 53 by UDP only",
    why: "An answer that is too large for a datagram comes truncated, and is asked for again by TCP; some resolvers begin with TCP. With UDP \
          alone most names resolve and some do not, on some days.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  ports:
  - {protocol: UDP, port: 53}
",
    beside: "",
    good: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let (Some(spec), Some(typed)) = (&subject.object.spec, &subject.policy.egress) else {
        return Vec::new();
    };
    let rules = spec.egress.iter().flatten().enumerate();
    let mut effort = Effort::default();
    rules
        .filter(|(_, rule)| is_dns(rule.ports.as_deref()))
        .filter_map(|(index, rule)| {
            let missing = only_udp(rule)?;
            let peers = &typed.get(index)?.peers;
            let opened = is_opened(subject, peers, missing, &mut effort)?;
            (!opened).then(|| finding(index, missing))
        })
        .collect()
}

/// The number that is opened by UDP and by nothing else. Names may be several ports, one of each protocol.
fn only_udp(rule: &NetworkPolicyEgressRule) -> Option<u16> {
    let ports = rule.ports.as_deref()?;
    let udp = |port: &&NetworkPolicyPort| port.protocol.as_deref() == Some("UDP");
    if !ports.iter().all(|port| udp(&port)) {
        return None;
    }
    ports.iter().find_map(|port| match &port.port {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        _ => None,
    })
}

/// Whether this policy, or another that selects all of its pods, opens TCP to the same peers; `None` if it would take too long to know.
fn is_opened(subject: &Subject<'_, '_>, peers: &Peers, number: u16, effort: &mut Effort) -> Option<bool> {
    let wanted = Opening {
        peers: peers.clone(),
        ports: Ports::Of(vec![Port::Range(PortRange::single(Protocol::Tcp, number))]),
    };
    let selecting = |policy: &&Policy| subject.policy.pods.implies(&policy.pods);
    let others = subject.others().iter().copied().filter(selecting);
    let rules = others
        .chain([subject.policy])
        .flat_map(|policy| policy.egress.iter().flatten());
    cover::is_covered(&wanted, rules, effort)
}

fn finding(index: usize, number: u16) -> Found {
    let tcp = json!({"protocol": "TCP", "port": number});
    Found {
        field: format!("spec.egress[{index}].ports"),
        message: format!("the rule opens port {number} by UDP only"),
        consequence: "answers that do not fit into a datagram, and resolvers that ask by TCP, are cut"
            .to_owned(),
        mend: Some(
            Mend::yaml(
                "open it by TCP too",
                json!({"ports": [{"protocol": "UDP", "port": number}, tcp]}),
            )
            .sure([Fix::Append {
                field: format!("spec.egress[{index}].ports"),
                value: tcp,
            }]),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_hole_without_tcp_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {}, egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}]}"
        ));
    }

    #[test]
    fn tcp_in_another_rule_or_policy_is_enough() {
        let udp = "{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}";
        for more in [
            "{to: [{namespaceSelector: {}}], ports: [{port: 53}]}",
            "{ports: [{port: 53, protocol: TCP}]}",
            "{to: [{namespaceSelector: {}}]}",
        ] {
            good(
                &RULE,
                &Live::default(),
                &format!("{{podSelector: {{}}, egress: [{udp}, {more}]}}"),
            );
        }
        let live = Live::default().policy(
            "tcp",
            "{podSelector: {}, egress: [{to: [{namespaceSelector: {}}]}]}",
        );
        good(&RULE, &live, &format!("{{podSelector: {{}}, egress: [{udp}]}}"));
    }

    #[test]
    fn other_ports_and_rules_without_effect_are_not_found() {
        for spec in [
            "{egress: [{ports: [{port: 123, protocol: UDP}]}]}",
            "{egress: [{ports: [{protocol: UDP}]}]}",
            "{policyTypes: [Ingress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
            "{ingress: [{ports: [{port: 53, protocol: UDP}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
