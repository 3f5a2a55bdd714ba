//! NP003: a peer that matches nothing, and nothing like it lives either.

use crate::finding::{Mend, Severity};
use crate::lint::dead::{Cause, DeadPeer};
use crate::lint::names::some_of;
use crate::lint::near::NAMESPACE_NAME;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::selector::{Condition, Selector};

pub(super) const RULE: Rule = Rule {
    code: "NP003",
    name: "selector-matches-nothing",
    finds: "a peer whose selector matches nothing in the live cluster, with no near miss",
    why: "What it should match may come later, so this is a warning. Until then the peer lets nobody through.",
    severity: Severity::Warn,
    needs: Needs::WholeCluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: billing-importer}}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let mut found: Vec<Found> = subject.dead_peers().iter().filter_map(judge).collect();
    let left_out = subject.peers_not_examined();
    if left_out > 0 {
        found.push(Found {
            field: "spec".to_owned(),
            message: format!(
                "the policy has so many peers that {left_out} of them were not compared with the cluster"
            ),
            consequence: "what they match is not known".to_owned(),
            mend: Some(Mend::text("split the policy, or select by fewer, broader labels")),
        });
    }
    found
}

fn judge(dead: &DeadPeer) -> Option<Found> {
    let peer = &dead.peer;
    let (field, message, mend) = match &dead.cause {
        Cause::NoNamespace { selector, near: None } => (
            "namespaceSelector",
            format!("no namespace carries {selector}"),
            by_name(selector),
        ),
        Cause::NoPod {
            selector,
            near: None,
            elsewhere,
            on_host,
        } => {
            let scope = match &peer.namespaces {
                None => "in this namespace",
                Some(_) => "in the selected namespaces",
            };
            let (message, mend) = if *on_host {
                (
                    format!("the pods {scope} that carry {selector} are on their nodes' network"),
                    Mend::text("name their nodes' addresses by an ipBlock: no selector finds such pods"),
                )
            } else if elsewhere.is_empty() {
                (format!("no pod {scope} carries {selector}"), later())
            } else {
                (
                    format!(
                        "no pod {scope} carries {selector}; in {} some do",
                        some_of(elsewhere)
                    ),
                    Mend::text("check the namespaceSelector, unless the pods are still to come"),
                )
            };
            ("podSelector", message, mend)
        }
        _ => return None,
    };
    Some(Found {
        field: format!("{}.{field}", peer.field),
        message,
        consequence: format!("until something does, {}", peer.consequence()),
        mend: Some(mend),
    })
}

fn later() -> Mend {
    Mend::text("nothing, if it is still to come; check the spelling otherwise")
}

/// Who writes `name: …` means the namespace of that name, which may not be there yet.
fn by_name(selector: &Selector) -> Mend {
    let name = selector
        .requirements()
        .find_map(|requirement| match &requirement.condition {
            Condition::In(values) if requirement.key == "name" => values.first(),
            _ => None,
        });
    name.map_or_else(later, |name| {
        Mend::text(format!(
            "write {NAMESPACE_NAME}: {name} if the namespace of that name is meant: Kubernetes puts that label on each, \
             and no label `name`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn labels_that_nothing_carries_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from:
              - namespaceSelector: {matchLabels: {team: payments}}
              - podSelector: {matchLabels: {app: reports}}
              - namespaceSelector: {matchLabels: {name: tracing}}
        "
        ));
    }

    #[test]
    fn of_very_many_peers_the_first_are_compared_and_the_rest_are_counted() {
        let peers = "{podSelector: {matchLabels: {app: frontend}}},".repeat(1_000);
        let spec = format!("{{podSelector: {{}}, ingress: [{{from: [{peers}]}}]}}");
        insta::assert_snapshot!(shown(&RULE, &Live::default(), &spec));
    }

    #[test]
    fn pods_in_another_namespace_or_on_their_nodes_network_are_named() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            egress:
            - to:
              - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
                podSelector: {matchLabels: {k8s-app: kube-dns}}
            - to:
              - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
                podSelector: {matchLabels: {k8s-app: kube-proxy}}
        "
        ));
    }

    #[test]
    fn what_matches_is_not_found_nor_what_others_explain_better() {
        for spec in [
            "{ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]}",
            "{ingress: [{from: [{podSelector: {matchLabels: {app: fronted}}}]}]}",
            "{ingress: [{from: [{podSelector: {matchLabels: {app: prometheus}}}]}]}",
            "{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: empty}}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
