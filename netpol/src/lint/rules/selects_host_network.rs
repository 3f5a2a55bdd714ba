//! NP026: pods that no policy can govern.

use std::collections::BTreeSet;

use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP026",
    name: "selects-host-network",
    finds: "a policy whose podSelector selects nothing but pods on their node's network",
    why: "A pod with hostNetwork has its node's address, and what it sends and gets cannot be told from what the node does. No policy \
          governs it.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: exporter}}
policyTypes: [Ingress]
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Ingress]
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let selector = &subject.policy.pods;
    if selector.is_everything() || !subject.selected().is_empty() {
        return Vec::new(); // whoever means all pods means those that can be meant
    }
    let own = subject
        .cluster
        .into_iter()
        .flat_map(|cluster| cluster.pods.in_namespace(subject.namespace()));
    let selected: Vec<_> = own.filter(|(_, pod)| selector.matches(&pod.labels)).collect();
    // A Job that is finished runs again.
    if selected.is_empty() || !selected.iter().all(|(_, pod)| pod.host_network) {
        return Vec::new();
    }
    let names: BTreeSet<String> = selected.iter().map(|(key, pod)| called(key, pod)).collect();
    vec![Found {
        field: "spec.podSelector".to_owned(),
        message: format!(
            "all pods that it selects are on their node's network: {}",
            some_of(&names)
        ),
        consequence: "the policy governs nobody".to_owned(),
        mend: Some(Mend::text(
            "run the pods on the pods' network (hostNetwork: false), or close their ports by the nodes' firewall",
        )),
    }]
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_policy_for_pods_on_the_hosts_network_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {app: exporter}}}"
        ));
    }

    #[test]
    fn all_pods_other_pods_and_pods_still_to_come_are_not_found() {
        for spec in [
            "{podSelector: {}}",
            "{podSelector: {matchExpressions: [{key: app, operator: In, values: [api, exporter]}]}}",
            "{podSelector: {matchLabels: {app: later}}}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
