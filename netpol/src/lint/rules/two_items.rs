//! NP010: two items of a list where one that has both selectors was probably meant.

use std::collections::BTreeSet;

use crate::cluster::Cluster;
use crate::finding::{Mend, Severity};
use crate::lint::names::{count, some_of};
use crate::lint::peers::PeerAt;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::selector::Selector;

pub(super) const RULE: Rule = Rule {
    code: "NP010",
    name: "two-items",
    finds: "a namespaceSelector and a podSelector in two items next to each other, where the pods meant are in those namespaces",
    why: "The items of a list are alternatives: every pod of those namespaces, or such pods of the policy's own namespace. To mean such pods \
          of those namespaces, both selectors stand in one item. One dash makes the difference, and the policy lets in far more, or not \
          the one that was meant.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
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

/// How many pairs of neighbours are compared with the cluster.
const PAIRS: usize = 64;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(cluster) = subject.cluster else {
        return Vec::new();
    };
    let pairs = subject.peers().windows(2).filter_map(|pair| match pair {
        [first, second] if neighbours(first, second) => halves(first, second),
        _ => None,
    });
    pairs
        .take(PAIRS)
        .filter_map(|(namespaces, pods, at)| judge(subject, cluster, namespaces, pods, at))
        .collect()
}

fn neighbours(first: &PeerAt, second: &PeerAt) -> bool {
    (first.direction, first.rule, first.at + 1) == (second.direction, second.rule, second.at)
}

/// The selectors, if one item has only the one and the other only the other. To name all pods of a namespace beside others is
/// no mistake.
fn halves<'a>(first: &'a PeerAt, second: &'a PeerAt) -> Option<(&'a Selector, &'a Selector, &'a PeerAt)> {
    let (namespaces, pods) = match (&first.namespaces, &first.pods, &second.namespaces, &second.pods) {
        (Some(namespaces), None, None, Some(pods)) | (None, Some(pods), Some(namespaces), None) => {
            (namespaces, pods)
        }
        _ => return None,
    };
    (!pods.is_everything()).then_some((namespaces, pods, second))
}

fn judge(
    subject: &Subject<'_, '_>,
    cluster: &Cluster,
    namespaces: &Selector,
    pods: &Selector,
    at: &PeerAt,
) -> Option<Found> {
    let own = subject.namespace();
    let here = cluster
        .pods
        .in_namespace(own)
        .filter(|(_, pod)| pods.matches(&pod.labels))
        .count();
    if here > 0 {
        return None; // each of the two means somebody
    }
    let selected: BTreeSet<&str> = cluster
        .namespaces
        .iter()
        .filter(|(_, namespace)| namespaces.matches(&namespace.labels))
        .map(|(key, _)| key.name.as_str())
        .collect();
    let (mut all, mut both) = (0, 0);
    for name in &selected {
        for (_, pod) in cluster
            .pods
            .in_namespace(name)
            .filter(|(_, pod)| pod.is_governed())
        {
            all += 1;
            both += usize::from(pods.matches(&pod.labels));
        }
    }
    if both == 0 {
        return None;
    }
    let list = format!(
        "spec.{}[{}].{}",
        at.direction.field(),
        at.rule,
        at.direction.peers_field()
    );
    let number = |number| count(number, "pod", "pods");
    Some(Found {
        field: format!("{list}[{}]", at.at),
        message: format!(
            "two items mean every pod of {} ({}), or the pods {pods} of {own} (none is there); one item with both selectors means the \
             pods {pods} of {} ({})",
            some_of(&selected),
            number(all),
            some_of(&selected),
            number(both),
        ),
        consequence: match all - both {
            0 => "today both mean the same; with the next pod in those namespaces they do not".to_owned(),
            more => format!(
                "{} that may not be meant {} let through",
                number(more),
                if more == 1 { "is" } else { "are" }
            ),
        },
        mend: Some(Mend::yaml(
            "write both selectors into one item, if they belong together",
            PeerAt::yaml(Some(namespaces), Some(pods)),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn what_each_reading_lets_in_is_told() {
        let live = Live::default()
            .pod("monitoring", "grafana", &[("app", "grafana")])
            .pod("monitoring", "loki", &[("app", "loki")]);
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "
            podSelector: {}
            ingress:
            - from:
              - podSelector: {matchLabels: {app: prometheus}}
              - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
        "
        ));
    }

    #[test]
    fn items_that_each_mean_somebody_are_not_found() {
        let monitoring = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}";
        for peers in [
            // such pods are here
            format!("{{{monitoring}}}, {{podSelector: {{matchLabels: {{app: frontend}}}}}}"),
            // everyone here, and everyone there
            format!("{{{monitoring}}}, {{podSelector: {{}}}}"),
            // there are no such pods there either
            format!("{{{monitoring}}}, {{podSelector: {{matchLabels: {{app: later}}}}}}"),
            // not side by side
            format!(
                "{{{monitoring}}}, {{ipBlock: {{cidr: 192.0.2.0/24}}}}, {{podSelector: {{matchLabels: {{app: prometheus}}}}}}"
            ),
            format!("{{{monitoring}, podSelector: {{matchLabels: {{app: prometheus}}}}}}"),
        ] {
            good(
                &RULE,
                &Live::default(),
                &format!("{{podSelector: {{}}, ingress: [{{from: [{peers}]}}]}}"),
            );
        }
        good(
            &RULE,
            &Live::default(),
            &format!(
                "{{podSelector: {{}}, ingress: [{{from: [{{{monitoring}}}]}}, {{from: [{{podSelector: {{matchLabels: {{app: prometheus}}}}}}]}}]}}"
            ),
        );
    }
}
