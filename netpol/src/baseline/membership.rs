//! Which namespaces a baseline takes.

use crate::api::baseline::ExistingNamespaces;
use crate::cluster::Namespace;

use super::object::{BASELINE, OPTED_IN, PolicyRecord};
use super::render::Place;
use super::template::Template;

/// Never taken: to cut them is to cut the cluster, or the one who could mend it.
pub const ALWAYS_EXCLUDED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "ringfence-system",
];

/// Whether a baseline takes a namespace of which it is not known what is stored there. One that is being deleted is taken by none.
pub fn takes(template: &Template, name: &str, namespace: &Namespace) -> bool {
    takes_in(template, Place::of(name, namespace))
}

/// Whether a baseline takes a namespace.
pub fn takes_in(template: &Template, place: Place<'_>) -> bool {
    !place.namespace.terminating
        && !ALWAYS_EXCLUDED.contains(&place.name)
        && !template.excluded.contains(place.name)
        && template.selector.matches(&place.namespace.labels)
        && (template.existing == ExistingNamespaces::Include
            || counts_as_new(template, place)
            || opted_in(place.namespace))
}

/// Whether a namespace is new to a baseline, or was to an earlier one of its name: what was deleted and made again, as by
/// `kubectl replace --force` or from a backup, must not find every namespace older than itself and leave it open.
pub(super) fn counts_as_new(template: &Template, place: Place<'_>) -> bool {
    let noted = |record: &&PolicyRecord| matches!(record, PolicyRecord::Owned { baseline, as_new: true, .. } if *baseline == template.name);
    is_new(template, place.namespace) || place.stored.values().any(noted)
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
