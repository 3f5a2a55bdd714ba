//! NP002: a peer that matches nothing, where something much like it lives.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;

use crate::finding::{Fix, Mend, Severity};
use crate::lint::dead::Cause;
use crate::lint::near::{NAMESPACE_NAME, Near};
use crate::lint::peers::{PeerAt, in_object};
use crate::lint::{Found, Needs, Rule, Subject};
use crate::selector::{Requirement, Selector};

pub(super) const RULE: Rule = Rule {
    code: "NP002",
    name: "selector-misspelt",
    finds: "a peer whose selector matches nothing in the live cluster, while one that is spelt almost so does",
    why: "The API server stores any well-formed selector. One that matches nothing lets nobody through, without a word: \
          the classic is `name: kube-system`, a label that no namespace carries by itself, so that DNS stays cut.",
    severity: Severity::Deny,
    needs: Needs::Cluster,
    bad: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {name: kube-system}}
",
    beside: "",
    good: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let mut found = Vec::new();
    for dead in subject.dead_peers() {
        let peer = &dead.peer;
        match &dead.cause {
            Cause::NoNamespace {
                selector,
                near: Some(near),
            } => {
                let yaml = PeerAt::yaml(Some(&near.selector), peer.pods.as_ref());
                let mut finding = misspelt(peer, "namespaceSelector", "namespace", selector, near, yaml);
                let fixes = in_object(subject.object, peer).and_then(|written| by_name(written, near, peer));
                finding.mend = finding.mend.map(|mend| mend.sure(fixes.into_iter().flatten()));
                found.push(finding);
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

/// The changes, if all that is wrong is that a namespace's name stands under a key which no namespace carries. Another
/// spelling is a guess, however good.
fn by_name(written: &NetworkPolicyPeer, near: &Near, peer: &PeerAt) -> Option<Vec<Fix>> {
    let labels = written.namespace_selector.as_ref()?.match_labels.as_ref()?;
    let rename = |(written, meant): &(Requirement, Requirement)| {
        let sure = meant.key == NAMESPACE_NAME
            && written.condition == meant.condition
            && labels.contains_key(&written.key)
            && !labels.contains_key(NAMESPACE_NAME);
        sure.then(|| Fix::Rename {
            field: format!("{}.namespaceSelector.matchLabels.{}", peer.field, written.key),
            key: NAMESPACE_NAME.to_owned(),
        })
    };
    let fixes: Option<Vec<Fix>> = near.changes.iter().map(rename).collect();
    fixes.filter(|fixes| fixes.len() == 1) // two keys for one name are no matter of spelling
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::finding::Fix;
    use crate::lint::testing::{Live, found, good, shown};

    #[test]
    fn only_a_name_under_another_key_is_sure_to_be_meant() {
        let fixes = |labels: &str| {
            let spec = format!("{{ingress: [{{from: [{{namespaceSelector: {{matchLabels: {labels}}}}}]}}]}}");
            let mut found = found(&RULE, &Live::default(), &spec);
            found.remove(0).mend.unwrap().fixes
        };
        assert_eq!(
            fixes("{name: monitoring}"),
            [Fix::Rename {
                field: "spec.ingress[0].from[0].namespaceSelector.matchLabels.name".to_owned(),
                key: "kubernetes.io/metadata.name".to_owned(),
            }]
        );
        assert_eq!(fixes("{name: monitring}"), []);
    }

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
