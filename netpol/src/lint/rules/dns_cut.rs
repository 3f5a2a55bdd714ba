//! NP011: pods that can no longer resolve names.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::{Key, Pod};
use crate::evaluate::Endpoint;
use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::places::Place;
use crate::lint::reach::{Passage, passage};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Direction, Policy, Port, Ports};
use crate::port::{Protocol, Transport};

pub(super) const RULE: Rule = Rule {
    code: "NP011",
    name: "dns-cut",
    finds: "pods that this policy isolates for egress, and that no policy lets ask the cluster's DNS",
    why: "A pod that cannot resolve names fails in a thousand odd ways. What counts is the port on which the DNS pods listen, which need \
          not be 53, since policy sees the address behind a Service; and where NodeLocal DNSCache runs, pods ask it at an address of \
          their node.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: frontend}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: api}}
  ports:
  - port: 8080
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: frontend}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: api}}
  ports:
  - port: 8080
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
  # where these DNS pods listen
  - {protocol: UDP, port: 5353}
  - {protocol: TCP, port: 5353}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let (Some(survey), Some(rules)) = (subject.survey, &subject.policy.egress) else {
        return Vec::new();
    };
    let resolvers = survey.dns();
    if resolvers.is_empty() {
        // Where DNS is cannot be seen; that nothing is open on any port of DNS can.
        return match survey.complete && !rules.is_empty() {
            true => unseen(subject).into_iter().collect(),
            false => Vec::new(),
        };
    }
    let (services, caches): (Vec<&Place>, Vec<_>) =
        resolvers.iter().partition(|resolver| !resolver.node_local);
    let mut found = Vec::new();
    for group in [services, caches] {
        let cut = cut_from(subject, &group);
        if let (Some(first), false) = (group.first(), cut.is_empty()) {
            found.push(finding(first, &cut));
        }
    }
    found
}

/// The selected pods that reach none of these by UDP, though this policy could let them.
fn cut_from(subject: &Subject<'_, '_>, resolvers: &[&Place]) -> BTreeSet<String> {
    let mut cut = BTreeSet::new();
    let imagined;
    let samples = match subject.samples() {
        [] => {
            imagined = subject.imagined();
            vec![(&imagined.0, &imagined.1)]
        }
        samples => samples.to_vec(),
    };
    for (key, pod) in samples {
        let policies = subject.policies_of(&pod.labels);
        if resolvers.iter().any(|resolver| resolver.is(key)) || !is_told_here(subject, &policies) {
            continue;
        }
        if !resolvers
            .iter()
            .any(|resolver| reaches(subject, &policies, resolver, Protocol::Udp))
        {
            cut.insert(name(key, pod, subject));
        }
    }
    cut
}

fn name(key: &Key, pod: &Pod, subject: &Subject<'_, '_>) -> String {
    match key.name.is_empty() {
        true => format!("the pods {}", subject.policy.pods),
        false => called(key, pod),
    }
}

/// A default deny says by design nothing of DNS: where others have rules for a pod, it is told of them.
fn is_told_here(subject: &Subject<'_, '_>, policies: &[&Policy]) -> bool {
    let has_rules = |policy: &Policy| policy.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    has_rules(subject.policy) || !policies.iter().any(|policy| has_rules(policy))
}

/// Whether policies let the pod that they select ask a resolver.
pub(super) fn reaches(
    subject: &Subject<'_, '_>,
    policies: &[&Policy],
    resolver: &Place,
    protocol: Protocol,
) -> bool {
    let Some(cluster) = subject.cluster else {
        return true;
    };
    let open = |end: Endpoint<'_>, number: u16| {
        let transport = Transport::Port(protocol, number);
        passage(cluster, policies, Direction::Egress, end, end, transport) != Passage::Denied
    };
    let ends = resolver.ends();
    resolver
        .numbers(protocol)
        .any(|number| ends.clone().any(|end| open(end, number)))
}

fn finding(resolver: &Place, cut: &BTreeSet<String>) -> Found {
    let numbers: BTreeSet<u16> = resolver.numbers(Protocol::Udp).collect();
    let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
    let hint = match resolver.node_local {
        true => "; pods ask it in place of the cluster's DNS",
        false if numbers != ["53"] => "; its pods listen there, and policy sees the pod's port",
        false => "",
    };
    Found {
        field: "spec.egress".to_owned(),
        message: format!(
            "no policy lets {} reach {} on UDP {}{hint}",
            some_of(cut),
            resolver.origin,
            numbers.join(", ")
        ),
        consequence: "these pods cannot resolve names".to_owned(),
        mend: Some(Mend::yaml("add the rule that opens it", rule(resolver))),
    }
}

/// The egress rule that opens a resolver.
pub(super) fn rule(resolver: &Place) -> Value {
    json!({"egress": [{"to": resolver.rule.peers, "ports": resolver.rule.ports}]})
}

/// That nothing is open that DNS could be behind, where no DNS is in view.
fn unseen(subject: &Subject<'_, '_>) -> Option<Found> {
    const PORTS: [u16; 3] = [53, 5353, 1053];
    let may_be_dns = |ports: &Ports| match ports {
        Ports::Any => true,
        Ports::Of(ports) => ports.iter().any(|port| match port {
            Port::Range(range) => PORTS.iter().any(|port| range.contains(Protocol::Udp, *port)),
            Port::Named(protocol, _) => *protocol == Protocol::Udp,
        }),
    };
    let (_, pod) = subject.imagined();
    let mut policies = subject.policies_of(&pod.labels);
    policies.extend(
        subject
            .samples()
            .iter()
            .flat_map(|(_, pod)| subject.policies_of(&pod.labels)),
    );
    let mut rules = policies.iter().flat_map(|policy| policy.egress.iter().flatten());
    if rules.any(|rule| may_be_dns(&rule.ports)) {
        return None;
    }
    Some(Found {
        field: "spec.egress".to_owned(),
        message:
            "no policy opens a port of DNS to the selected pods; where the cluster's DNS is cannot be seen"
                .to_owned(),
        consequence: "unless they need no names, these pods cannot resolve them".to_owned(),
        mend: Some(Mend::text(
            "open UDP and TCP to the pods of the cluster's DNS, on the port where they listen",
        )),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::RULE;
    use crate::cluster::{Cluster, ContainerPort, Key, Pod};
    use crate::lint::testing::{Live, good, shown};
    use crate::port::Protocol;

    const TO_THE_SERVICE: &str = "
        podSelector: {}
        policyTypes: [Egress]
        egress:
        - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
          ports: [{port: 53, protocol: UDP}, {port: 53}]
    ";

    #[test]
    fn a_hole_for_the_port_of_the_service_is_none_for_the_pods() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), TO_THE_SERVICE));
    }

    #[test]
    fn pods_that_are_still_to_come_are_found_by_the_selector() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {app: later}}, policyTypes: [Egress]}"
        ));
    }

    #[test]
    fn a_cache_on_each_node_has_to_be_reached_too() {
        let live = Live::default().pod("kube-system", "node-local-dns", &[("k8s-app", "node-local-dns")]);
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "{podSelector: {}, egress: [{to: [{namespaceSelector: {}}], ports: [{protocol: UDP}]}]}"
        ));
    }

    #[test]
    fn where_no_dns_is_in_view_a_set_that_opens_no_port_of_it_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live(Cluster::default()),
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}"
        ));
        for spec in [
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}",
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 5353, protocol: UDP}]}]}",
            "{podSelector: {}, policyTypes: [Egress]}",
        ] {
            good(&RULE, &Live(Cluster::default()), spec);
        }
    }

    #[test]
    fn what_some_policy_opens_and_what_is_not_isolated_is_not_found() {
        let dns = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: dns, protocol: UDP}]}]}";
        let open = Live::default().policy("dns", dns);
        for spec in [
            "{podSelector: {}, policyTypes: [Egress]}",
            "{podSelector: {matchLabels: {app: api}}, egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]}",
        ] {
            good(&RULE, &open, spec);
        }
        for spec in [
            "{podSelector: {}}",
            "{podSelector: {}, egress: [{}]}",
            // the addresses of these DNS pods are not known
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{protocol: UDP}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }

    #[test]
    fn a_default_deny_is_not_told_of_the_dns_that_others_forget() {
        let live = Live::default().policy(
            "api",
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}",
        );
        good(&RULE, &live, "{podSelector: {}, policyTypes: [Egress]}");
    }

    #[test]
    fn a_dns_server_is_not_asked_to_reach_itself() {
        let mut live = Live::default();
        let server = Pod {
            labels: Arc::new([("k8s-app".to_owned(), "kube-dns".to_owned())].into()),
            ports: vec![ContainerPort {
                name: Some("dns".to_owned()),
                protocol: Protocol::Udp,
                number: 5353,
            }],
            ..Pod::default()
        };
        live.0.pods.apply(Key::new("kube-system", "coredns"), server);
        let mut policy = crate::lint::testing::policy("{podSelector: {}, policyTypes: [Egress]}");
        policy.metadata.namespace = Some("kube-system".to_owned());
        let found = crate::lint::lint(&policy, Some(&live.0), &Default::default());
        assert!(
            found.iter().all(|finding| finding.code != RULE.code),
            "{found:#?}"
        );
    }
}
