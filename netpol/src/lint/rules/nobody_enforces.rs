//! NP025: a policy that is stored, and that is all.

use std::collections::BTreeSet;

use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP025",
    name: "nobody-enforces",
    finds: "selected pods on nodes where nothing enforces policies",
    why: "The API server stores policies and enforces none; whoever connects the pods may leave it to others. Flannel does, and says nothing: the \
          policy is there, and every pod still reaches every other.",
    severity: Severity::Warn,
    needs: Needs::WholeCluster,
    bad: "\
podSelector: {matchLabels: {app: metered}}
policyTypes: [Ingress]
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: frontend}}
policyTypes: [Ingress]
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(survey) = subject.survey else {
        return Vec::new();
    };
    let agents = survey.agents();
    // A network that is not known here may well enforce; only what is known not to, or is missing where it is elsewhere, is told.
    let is_bare = |node: &str| {
        !agents.enforcing.contains(node)
            && (agents.connecting.contains_key(node) || !agents.enforcing.is_empty())
    };
    if agents.anywhere {
        return Vec::new();
    }
    let mut bare: BTreeSet<&str> = BTreeSet::new();
    let mut pods: BTreeSet<String> = BTreeSet::new();
    for (key, pod) in subject.selected() {
        if let Some(node) = pod.node.as_deref().filter(|node| is_bare(node)) {
            bare.insert(node);
            pods.insert(called(key, pod));
        }
    }
    if pods.is_empty() {
        return Vec::new();
    }
    let network = bare.iter().find_map(|node| agents.connecting.get(*node));
    vec![Found {
        field: "spec.podSelector".to_owned(),
        message: format!(
            "{} {} on {}, where nothing that enforces policies runs{}",
            some_of(&pods),
            if pods.len() == 1 { "is" } else { "are" },
            some_of(&bare),
            network
                .map(|key| format!(" ({key} does not)"))
                .unwrap_or_default()
        ),
        consequence: "there, the policy has no effect at all".to_owned(),
        mend: Some(Mend::text(match agents.enforcing.is_empty() {
            true => "install Ringfence's enforcer, or a network that enforces policies",
            false => "see why what enforces on other nodes does not run on these",
        })),
    }]
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::cluster::{Cluster, Key};
    use crate::lint::testing::{Live, good, shown};

    const ALL: &str = "{podSelector: {}, policyTypes: [Ingress]}";

    #[test]
    fn pods_beside_flannel_alone_are_found() {
        let mut live = Live::default();
        live.0.pods.delete(&Key::new("ringfence-system", "enforcer"));
        insta::assert_snapshot!(shown(&RULE, &live, ALL));
    }

    #[test]
    fn a_node_without_what_enforces_on_others_is_found() {
        let mut live = Live::default();
        live.0.pods.delete(&Key::new("kube-flannel", "flannel"));
        insta::assert_snapshot!(shown(&RULE, &live, ALL));
    }

    #[test]
    fn networks_and_nodes_that_are_not_known_are_not_found() {
        let mut live = Live::default();
        live.0.pods.delete(&Key::new("ringfence-system", "enforcer"));
        live.0.pods.delete(&Key::new("kube-flannel", "flannel"));
        good(&RULE, &live, ALL);
        // A DaemonSet in manifests, on no node yet.
        let planned = Live::default().pod("kube-system", "calico-node", &[("k8s-app", "calico-node")]);
        good(&RULE, &planned, ALL);
        good(&RULE, &Live(Cluster::default()), ALL);
    }
}
