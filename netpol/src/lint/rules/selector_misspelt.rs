//! NP002: a peer that matches nothing, where something much like it lives.

use crate::finding::{Mend, Severity};
use crate::lint::dead::Cause;
use crate::lint::near::{NAMESPACE_NAME, Near};
use crate::lint::peers::PeerAt;
use crate::lint::{Found, Rule, Subject};
use crate::selector::Selector;

pub(super) const RULE: Rule = Rule {
    code: "NP002",
    name: "selector-misspelt",
    finds: "a peer whose selector matches nothing in the live cluster, while one that is spelt almost so does",
    why: "The API server stores any well-formed selector. One that matches nothing lets nobody through, without a word: \
          the classic is `name: kube-system`, a label that no namespace carries by itself, so that DNS stays cut.",
    severity: Severity::Deny,
    needs_cluster: true,
    bad: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {name: kube-system}}
",
    good: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
",
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for dead in subject.dead_peers() {
        let peer = &dead.peer;
        match &dead.cause {
            Cause::NoNamespace {
                selector,
                near: Some(near),
            } => {
                let yaml = PeerAt::yaml(Some(&near.selector), peer.pods.as_ref());
                found.push(misspelt(
                    peer,
                    "namespaceSelector",
                    "namespace",
                    selector,
                    near,
                    yaml,
                ));
            }
            Cause::NoPod {
                selector,
                near: Some(near),
                ..
            } => {
                let yaml = PeerAt::yaml(peer.namespaces.as_ref(), Some(&near.selector));
                found.push(misspelt(peer, "podSelector", "pod", selector, near, yaml));
            }
            _ => {}
        }
    }
    found
}

fn misspelt(
    peer: &PeerAt,
    field: &str,
    kind: &str,
    selector: &Selector,
    near: &Near,
    yaml: serde_json::Value,
) -> Found {
    let scope = match (kind, &peer.namespaces) {
        ("pod", None) => " in this namespace",
        ("pod", Some(_)) => " in the selected namespaces",
        _ => "",
    };
    let by_name = near
        .changes
        .iter()
        .any(|(written, meant)| meant.key == NAMESPACE_NAME && written.key != NAMESPACE_NAME);
    let hint = if by_name {
        " (the label that Kubernetes puts on each namespace)"
    } else {
        ""
    };
    Found {
        field: format!("{}.{field}", peer.field),
        message: format!(
            "no {kind}{scope} carries {selector}, but one carries {}",
            near.selector
        ),
        consequence: peer.consequence(),
        mend: Some(Mend::yaml(format!("write {}{hint}", near.change()), yaml)),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn the_name_of_a_namespace_under_a_key_that_no_namespace_carries_is_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            policyTypes: [Egress]
            egress:
            - to:
              - namespaceSelector: {matchLabels: {name: kube-system}}
                podSelector: {matchLabels: {k8s-app: kube-dns}}
              ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
        "
        ));
    }

    #[test]
    fn a_misspelt_value_is_found_in_the_own_namespace() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from:
              - podSelector: {matchLabels: {app: fronted}}
              - podSelector: {}
        "
        ));
    }

    #[test]
    fn a_misspelt_expression_is_found() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), "
            podSelector: {}
            ingress:
            - from:
              - namespaceSelector:
                  matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [monitring, tracing]}]
        "));
    }

    #[test]
    fn a_selector_that_matches_or_has_no_near_miss_is_not_found() {
        for spec in [
            "{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]}]}",
            "{ingress: [{from: [{namespaceSelector: {}}]}]}",
            "{ingress: [{from: [{podSelector: {}}]}]}",
            "{ingress: [{from: [{namespaceSelector: {matchLabels: {team: payments}}}]}]}",
            "{ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [frontend, api]}]}}]}]}",
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
            // selects pods that are still to come: that is what podSelector of the policy is for
            "{podSelector: {matchLabels: {app: fronted}}}",
            // without effect, since the policy does not isolate for egress
            "{policyTypes: [Ingress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
