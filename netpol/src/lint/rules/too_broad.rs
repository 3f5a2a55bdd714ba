//! NP016: a hole in pods that do not need it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::{Key, Pod};
use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::peers::written;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Port, Ports};
use crate::port::PortRange;
use crate::selector::{Condition, Requirement, Selector};

pub(super) const RULE: Rule = Rule {
    code: "NP016",
    name: "too-broad",
    finds: "an ingress rule for a port that only some of the selected pods have, though labels tell these from the others",
    why: "A hole in a pod that does not need it is one that nobody watches: whatever listens there one day is open from the start. The labels by \
          which the namespace tells its pods apart can tell here too.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {}
ingress:
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
",
    check,
};

/// Keys that are different on each pod, or say nothing of what it is.
const PASSING: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "pod-template-generation",
    "job-name",
];
/// Keys that are tried first: most say by these what a pod is.
const USUAL: [&str; 4] = [
    "app",
    "app.kubernetes.io/name",
    "k8s-app",
    "app.kubernetes.io/component",
];
/// A selector that lists more values is no better than the broad one.
const VALUES: usize = 4;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    // A pod that names no port may listen on any.
    let telling: Vec<(&Key, &Pod)> = subject
        .samples()
        .iter()
        .copied()
        .filter(|(_, pod)| !pod.ports.is_empty())
        .collect();
    if subject.is_generated() || telling.len() < 2 {
        return Vec::new();
    }
    let rules = subject.policy.ingress.iter().flatten().enumerate();
    rules
        .filter_map(|(index, rule)| {
            let ranges = numbers(&rule.ports)?;
            let (having, lacking): (Vec<_>, Vec<_>) = telling.iter().copied().partition(|(_, pod)| {
                pod.ports.iter().any(|port| {
                    ranges
                        .iter()
                        .any(|range| range.contains(port.protocol, port.number))
                })
            });
            // All of them lack it: that is another rule's.
            if having.is_empty() || lacking.is_empty() {
                return None;
            }
            let narrower = narrower(&subject.policy.pods, &having, &lacking)?;
            Some(finding(index, &ranges, &having, &lacking, narrower))
        })
        .collect()
}

/// The ports of a rule, if it names numbers only. A name opens nothing on pods that lack it.
fn numbers(ports: &Ports) -> Option<Vec<PortRange>> {
    let Ports::Of(ports) = ports else { return None };
    let single = |port: &Port| match port {
        Port::Range(range) if range.first == range.last => Some(*range),
        Port::Range(_) | Port::Named(..) => None,
    };
    let ranges: Option<Vec<PortRange>> = ports.iter().map(single).collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

/// The selector with a label that all pods that have the port carry with other values than those that lack it.
fn narrower(selector: &Selector, having: &[(&Key, &Pod)], lacking: &[(&Key, &Pod)]) -> Option<Selector> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in having.iter().flat_map(|(_, pod)| pod.labels.iter()) {
        values.entry(key).or_default().insert(value);
    }
    let tells = |key: &str, values: &BTreeSet<&str>| {
        values.len() <= VALUES
            && !PASSING.contains(&key)
            && having.iter().all(|(_, pod)| pod.labels.contains_key(key))
            && lacking.iter().all(|(_, pod)| {
                pod.labels
                    .get(key)
                    .is_none_or(|value| !values.contains(value.as_str()))
            })
    };
    let rank = |key: &str| {
        USUAL
            .iter()
            .position(|usual| *usual == key)
            .unwrap_or(USUAL.len())
    };
    let (key, values) = values
        .iter()
        .filter(|(key, values)| tells(key, values))
        .min_by_key(|(key, values)| (values.len(), rank(key)))?;
    let own = Requirement {
        key: (*key).to_owned(),
        condition: Condition::In(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    Some(selector.requirements().cloned().chain([own]).collect())
}

fn finding(
    index: usize,
    ranges: &[PortRange],
    having: &[(&Key, &Pod)],
    lacking: &[(&Key, &Pod)],
    narrower: Selector,
) -> Found {
    let names = |pods: &[(&Key, &Pod)]| -> BTreeSet<String> {
        pods.iter().map(|(key, pod)| called(key, pod)).collect()
    };
    let ports: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    let selector: Value = written(&narrower);
    Found {
        field: "spec.podSelector".to_owned(),
        message: format!(
            "ingress[{index}] opens {} in all selected pods; {} {} it, and {} {} not",
            some_of(&ports),
            some_of(names(having)),
            if having.len() == 1 { "has" } else { "have" },
            some_of(names(lacking)),
            if lacking.len() == 1 { "does" } else { "do" },
        ),
        consequence: "whatever listens there one day, in pods that need no such hole, is open to these peers"
            .to_owned(),
        mend: Some(Mend::yaml(
            "give the rule a policy of its own, for the pods that need it",
            json!({"podSelector": selector}),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::RULE;
    use crate::lint::testing::{Live, good, ports, shown};

    #[test]
    fn the_pods_that_need_it_are_told_by_a_label() {
        let live = Live::default().pod("shop", "db", &[("app", "db"), ("tier", "backend")]);
        let live = live.with("shop", "db", |pod| pod.ports = ports(&["sql TCP 5432"]));
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "
            podSelector: {matchLabels: {tier: backend}}
            ingress:
            - from: [{podSelector: {}}]
              ports: [{port: 5432}]
        "
        ));
    }

    #[test]
    fn what_all_need_what_opens_nothing_and_what_cannot_be_told_is_not_found() {
        for spec in [
            "{podSelector: {}, ingress: [{ports: [{port: 8080}, {port: 8000}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: http}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 65535}]}]}",
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
            "{podSelector: {}, egress: [{ports: [{port: 8080}]}]}",
            // nobody has it
            "{podSelector: {}, ingress: [{ports: [{port: 9090}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        let undeclared = Live::default().with("shop", "frontend", |pod| pod.ports.clear());
        good(
            &RULE,
            &undeclared,
            "{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}, ingress: [{ports: [{port: 8080}]}]}",
        );
        let alike = Live::default().with("shop", "frontend", |pod| {
            let labels = [("app", "api"), ("tier", "backend")];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            pod.labels = Arc::new(labels.into());
        });
        good(
            &RULE,
            &alike,
            "{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}, ingress: [{ports: [{port: 8080}]}]}",
        );
    }
}
