//! NP004: a bare podSelector that finds nobody at home, but would elsewhere.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::finding::{Mend, Severity};
use crate::lint::dead::Cause;
use crate::lint::names::some_of;
use crate::lint::near::NAMESPACE_NAME;
use crate::lint::peers::PeerAt;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::selector::{Condition, Requirement, Selector};

pub(super) const RULE: Rule = Rule {
    code: "NP004",
    name: "own-namespace-only",
    finds: "a peer with just a podSelector that matches no pod of the policy's own namespace, but pods of others",
    why: "A podSelector without a namespaceSelector looks only in the policy's own namespace. It is often read as \"pods \
          with these labels, wherever they are\".",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: prometheus}}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
    podSelector: {matchLabels: {app: prometheus}}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let mut found = Vec::new();
    for dead in subject.dead_peers() {
        let Cause::OnlyElsewhere { selector, namespaces } = &dead.cause else {
            continue;
        };
        let own = subject.namespace();
        let yet = match subject.cluster {
            Some(cluster) if is_empty(cluster, own) => format!(" ({own} has no pods yet)"),
            _ => String::new(),
        };
        found.push(Found {
            field: format!("{}.podSelector", dead.peer.field),
            message: format!(
                "it looks only in this policy's own namespace, {own}, where no pod carries {selector}{yet}; pods in {} do",
                some_of(namespaces)
            ),
            consequence: dead.peer.consequence(),
            mend: Some(Mend::yaml(
                "write a namespaceSelector into the same item, if those pods are meant",
                both(namespaces.iter().cloned(), selector),
            )),
        });
    }
    found
}

fn is_empty(cluster: &Cluster, namespace: &str) -> bool {
    cluster.pods.in_namespace(namespace).next().is_none()
}

/// The peer that looks in these namespaces, by their names.
fn both(namespaces: impl Iterator<Item = String>, pods: &Selector) -> Value {
    let names = Requirement {
        key: NAMESPACE_NAME.to_owned(),
        condition: Condition::In(namespaces.take(SHOWN).collect()),
    };
    PeerAt::yaml(Some(&Selector::from_iter([names])), Some(pods))
}

/// A list of more names is no answer: whoever means so many selects them by a label.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn pods_that_live_elsewhere_are_found_and_their_namespace_is_in_the_mend() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from:
              - podSelector: {matchLabels: {app: prometheus}}
        "
        ));
    }

    #[test]
    fn many_namespaces_are_counted() {
        let mut live = Live::default();
        for name in ["a", "b", "c", "d", "e"] {
            live = live.pod(name, "x", &[("app", "batch")]);
        }
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "
            podSelector: {}
            egress:
            - to:
              - podSelector: {matchLabels: {app: batch}}
        "
        ));
    }

    #[test]
    fn pods_at_home_pods_nowhere_and_peers_that_look_elsewhere_are_not_found() {
        for spec in [
            "{ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]}",
            "{ingress: [{from: [{podSelector: {matchLabels: {app: nowhere}}}]}]}",
            "{ingress: [{from: [{podSelector: {}}]}]}",
            "{ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: prometheus}}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
