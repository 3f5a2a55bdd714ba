//! NP021: metrics that can no longer be fetched.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cluster::{Cluster, Key, Pod, TargetPort};
use crate::evaluate::Endpoint;
use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::places::Place;
use crate::lint::reach::{Passage, is_peer, passage};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Direction, Policy};
use crate::port::{Protocol, Transport};

pub(super) const RULE: Rule = Rule {
    code: "NP021",
    name: "cuts-scraping",
    finds: "pods that ask to be scraped, are isolated for ingress by this policy, and let no Prometheus in",
    why: "Prometheus is a client like any other. A policy that forgets it takes the graphs and alerts away from just the pods that are being \
          closed, and nobody is told.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: metered}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: http
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: metered}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: http
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
    podSelector: {matchLabels: {app: prometheus}}
  ports:
  - port: metrics
",
    check,
};

/// What ports for metrics are called, by the charts that people use.
const NAMES: [&str; 4] = ["metrics", "http-metrics", "http-prom", "prometheus"];

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let (Some(survey), true) = (subject.survey, subject.policy.ingress.is_some()) else {
        return Vec::new();
    };
    let scraped: Vec<(&Key, &Pod, BTreeSet<u16>)> = subject
        .samples()
        .iter()
        .filter_map(|(key, pod)| Some((*key, *pod, asked(survey.cluster, key, pod)?)))
        .collect();
    if scraped.is_empty() || survey.prometheus().is_empty() {
        return Vec::new();
    }
    let mut cut: BTreeSet<String> = BTreeSet::new();
    let mut numbers: BTreeSet<u16> = BTreeSet::new();
    for (key, pod, ports) in &scraped {
        let policies = subject.policies_of(&pod.labels);
        let to = Endpoint::Pod { key, pod };
        let mut fetches = survey.prometheus().iter().flat_map(|place| place.ends());
        if is_told_here(subject, &policies)
            && !fetches.any(|from| gets_in(survey.cluster, &policies, from, to, ports))
        {
            cut.insert(called(key, pod));
            numbers.extend(ports);
        }
    }
    match (cut.is_empty(), survey.prometheus()) {
        (false, [place, ..]) => vec![finding(&cut, &numbers, place)],
        _ => Vec::new(),
    }
}

/// The ports on which a pod is to be scraped; empty if that is not said. `None`: it is not to be.
fn asked(cluster: &Cluster, key: &Key, pod: &Pod) -> Option<BTreeSet<u16>> {
    if let Some(scraping) = pod.scraping {
        return Some(scraping.port.into_iter().collect());
    }
    let services = cluster
        .services
        .in_namespace(&key.namespace)
        .map(|(_, service)| service);
    let in_front =
        services.filter(|service| service.selector.as_ref().is_some_and(|s| s.matches(&pod.labels)));
    let mut found = None;
    for service in in_front {
        if let Some(scraping) = service.scraping {
            found.get_or_insert_with(BTreeSet::new).extend(scraping.port);
        }
        // What a ServiceMonitor selects.
        for port in service
            .ports
            .iter()
            .filter(|port| port.name.as_deref().is_some_and(|n| NAMES.contains(&n)))
        {
            let numbers: &mut BTreeSet<u16> = found.get_or_insert_with(BTreeSet::new);
            match &port.target {
                TargetPort::Number(number) => numbers.extend([*number]),
                TargetPort::Name(name) => numbers.extend(pod.named_ports(port.protocol, name)),
            }
        }
    }
    found
}

/// A default deny says by design nothing of Prometheus: where others have rules for a pod, it is told of them.
fn is_told_here(subject: &Subject<'_, '_>, policies: &[&Policy]) -> bool {
    let has_rules = |policy: &Policy| policy.ingress.as_ref().is_some_and(|rules| !rules.is_empty());
    has_rules(subject.policy) || !policies.iter().any(|policy| has_rules(policy))
}

fn gets_in(
    cluster: &Cluster,
    policies: &[&Policy],
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    ports: &BTreeSet<u16>,
) -> bool {
    let open = |number: &u16| {
        let transport = Transport::Port(Protocol::Tcp, *number);
        passage(cluster, policies, Direction::Ingress, from, to, transport) != Passage::Denied
    };
    if !ports.is_empty() {
        return ports.iter().any(open);
    }
    // On some port, then.
    let mut rules = policies.iter().flat_map(|policy| policy.ingress.iter().flatten());
    rules.any(|rule| is_peer(cluster, rule, from))
}

fn finding(cut: &BTreeSet<String>, numbers: &BTreeSet<u16>, place: &Place) -> Found {
    let peer = &place.rule.peers;
    let ports: Vec<_> = numbers
        .iter()
        .map(|number| json!({"protocol": "TCP", "port": number}))
        .collect();
    let rule = match ports.is_empty() {
        true => json!({"from": peer}),
        false => json!({"from": peer, "ports": ports}),
    };
    let on = match numbers.is_empty() {
        true => String::new(),
        false => format!(" on {}", some_of(numbers.iter().map(u16::to_string))),
    };
    Found {
        field: "spec.ingress".to_owned(),
        message: format!(
            "{} {} to be scraped{on}, and no policy lets in {}",
            some_of(cut),
            if cut.len() == 1 { "is" } else { "are" },
            place.origin
        ),
        consequence: "their metrics, and the alerts that stand on them, are gone".to_owned(),
        mend: Some(Mend::yaml(
            "add the rule that lets it in",
            json!({"ingress": [rule]}),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn annotated_pods_and_those_behind_a_service_for_metrics_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {app: metered}}, policyTypes: [Ingress]}"
        ));
        let live = Live::default().service(
            "shop",
            "{metadata: {name: api}, spec: {selector: {app: api}, ports: [{name: http-metrics, port: 9100, targetPort: http}]}}",
        );
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]}"
        ));
    }

    #[test]
    fn pods_that_let_it_in_or_do_not_ask_for_it_are_not_found() {
        for spec in [
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress]}",
            "{podSelector: {matchLabels: {app: metered}}, policyTypes: [Egress]}",
            "{podSelector: {matchLabels: {app: metered}}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 9100}]}]}",
            "{podSelector: {matchLabels: {app: metered}}, ingress: [{}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        let metered = "{podSelector: {matchLabels: {app: metered}}, policyTypes: [Ingress]}";
        let open = Live::default().policy(
            "prometheus",
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        );
        good(&RULE, &open, metered);
        let mut none = Live::default();
        none.0
            .pods
            .delete(&crate::cluster::Key::new("monitoring", "prometheus"));
        good(&RULE, &none, metered);
    }
}
