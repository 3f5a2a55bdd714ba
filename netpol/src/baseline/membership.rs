//! Which namespaces a baseline takes.

use crate::api::baseline::ExistingNamespaces;
use crate::cluster::Namespace;

use super::object::{BASELINE, OPTED_IN};
use super::template::Template;

/// Never taken: to cut them is to cut the cluster, or the one who could mend it.
pub const ALWAYS_EXCLUDED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "ringfence-system",
];

/// Whether a baseline takes a namespace. One that is being deleted is taken by none.
pub fn takes(template: &Template, name: &str, namespace: &Namespace) -> bool {
    !namespace.terminating
        && !ALWAYS_EXCLUDED.contains(&name)
        && !template.excluded.contains(name)
        && template.selector.matches(&namespace.labels)
        && (template.existing == ExistingNamespaces::Include
            || is_new(template, namespace)
            || opted_in(namespace))
}

/// Both times are whole seconds: a namespace of the same second counts as new, since no traffic can have grown in it.
fn is_new(template: &Template, namespace: &Namespace) -> bool {
    match (template.created, namespace.created) {
        (Some(baseline), Some(namespace)) => namespace >= baseline,
        // In no cluster (yet): what will be created is new.
        (_, None) | (None, _) => true,
    }
}

fn opted_in(namespace: &Namespace) -> bool {
    namespace
        .labels
        .get(BASELINE)
        .is_some_and(|value| value == OPTED_IN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{namespace, template};
    use super::*;

    const TAKES_RED: &str = "{namespaceSelector: {matchLabels: {team: red}}, excludedNamespaces: [legacy],
        policies: [{name: deny, spec: {podSelector: {}, policyTypes: [Ingress]}}]}";

    #[test]
    fn the_selector_and_the_exclusions_decide() {
        let template = template("b", TAKES_RED);
        let red = namespace(&[("team", "red")]);
        assert!(takes(&template, "shop", &red));
        assert!(!takes(&template, "shop", &namespace(&[("team", "blue")])));
        for excluded in ALWAYS_EXCLUDED.into_iter().chain(["legacy"]) {
            assert!(!takes(&template, excluded, &red), "{excluded}");
        }
        assert!(!takes(
            &template,
            "shop",
            &Namespace {
                terminating: true,
                ..red
            }
        ));
    }

    #[test]
    fn an_older_namespace_is_taken_as_the_baseline_says() {
        let mut template = template("b", TAKES_RED);
        template.created = Some(1000);
        let older = Namespace {
            created: Some(999),
            ..namespace(&[("team", "red")])
        };
        let born_with_it = Namespace {
            created: Some(1000),
            ..older.clone()
        };
        let mut opted_in = older.clone();
        opted_in.labels.insert(BASELINE.to_owned(), OPTED_IN.to_owned());

        assert!(takes(&template, "shop", &older), "Include is the default");
        template.existing = ExistingNamespaces::OptIn;
        assert!(!takes(&template, "shop", &older));
        assert!(takes(&template, "shop", &born_with_it));
        assert!(takes(&template, "shop", &opted_in));
        opted_in.labels.insert("team".to_owned(), "blue".to_owned());
        assert!(
            !takes(&template, "shop", &opted_in),
            "opting in does not widen the selector"
        );
    }
}
