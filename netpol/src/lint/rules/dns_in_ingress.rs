//! NP005: a hole for DNS on the wrong side.

use serde_json::json;

use crate::finding::{Mend, Severity};
use crate::lint::near::NAMESPACE_NAME;
use crate::lint::peers::is_dns;
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP005",
    name: "dns-in-ingress",
    finds: "an ingress rule for port 53 on pods that do not serve DNS",
    why: "Pods ask DNS, they are not asked: the hole belongs under egress. Written under ingress with `to`, the API server \
          drops `to` as unknown, and what remains admits anyone on port 53, while DNS stays cut.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
ingress:
- ports:
  - {port: 53, protocol: UDP}
",
    beside: "",
    good: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let rules = subject
        .object
        .spec
        .iter()
        .flat_map(|spec| spec.ingress.iter().flatten());
    let mut suspects = rules
        .enumerate()
        .filter(|(_, rule)| is_dns(rule.ports.as_deref()))
        .peekable();
    // Only then are the pods looked at, which takes longer.
    if suspects.peek().is_none() || subject.policy.ingress.is_none() || serves_dns(subject) {
        return Vec::new();
    }
    suspects
        .map(|(index, rule)| {
            let (who, consequence) = if rule.from.as_ref().is_none_or(Vec::is_empty) {
                (
                    " and names no peer",
                    "anyone, also from outside of the cluster, gets in on port 53, and the pods' own DNS queries are not opened",
                )
            } else {
                ("", "these peers get in on port 53, and the pods' own DNS queries are not opened")
            };
            Found {
                field: format!("spec.ingress[{index}]"),
                message: format!("an ingress rule opens only port 53{who}; the selected pods are not known to serve DNS"),
                consequence: consequence.to_owned(),
                mend: Some(Mend::yaml(
                    "to let the pods resolve names, write the rule under egress (and Egress into policyTypes)",
                    json!({"egress": [{
                        "to": [{
                            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "kube-system"}},
                            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                        }],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    }]}),
                )),
            }
        })
        .collect()
}

/// Whether a selected pod has a container port 53, or is the cluster's DNS by its usual label.
fn serves_dns(subject: &Subject<'_, '_>) -> bool {
    let Some(cluster) = subject.cluster else {
        return false;
    };
    cluster
        .pods
        .in_namespace(subject.namespace())
        .filter(|(_, pod)| subject.policy.pods.matches(&pod.labels))
        .any(|(_, pod)| {
            pod.ports.iter().any(|port| port.number == 53)
                || pod.labels.get("k8s-app").is_some_and(|app| app == "kube-dns")
        })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::cluster::{ContainerPort, Key, Pod};
    use crate::lint::testing::{Live, good, shown};
    use crate::port::Protocol;

    #[test]
    fn what_remains_of_an_egress_rule_under_ingress_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            policyTypes: [Ingress]
            ingress:
            - ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
        "
        ));
    }

    #[test]
    fn other_ports_other_directions_and_dns_servers_are_not_found() {
        let mut live = Live::default();
        for spec in [
            "{ingress: [{ports: [{port: 53, protocol: UDP}, {port: 80}]}]}",
            "{ingress: [{}]}",
            "{policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
            "{policyTypes: [Egress], ingress: [{ports: [{port: 53, protocol: UDP}]}]}",
        ] {
            good(&RULE, &live, spec);
        }
        let server = Pod {
            ports: vec![ContainerPort {
                name: None,
                protocol: Protocol::Udp,
                number: 53,
            }],
            ..Pod::default()
        };
        live.0.pods.apply(Key::new("shop", "resolver"), server);
        good(&RULE, &live, "{ingress: [{ports: [{port: 53, protocol: UDP}]}]}");
    }
}
