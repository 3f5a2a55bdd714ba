//! NP027: a policy in a namespace that is not there, beside one that is.

use crate::cluster::{Cluster, Key};
use crate::finding::{Mend, Severity};
use crate::lint::near::near_name;
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP027",
    name: "namespace-misspelt",
    finds: "a policy in a namespace that does not exist, where one with nearly the same name does",
    why: "A policy governs the pods of its own namespace. In a namespace of another spelling there are none, and whoever creates the missing \
          namespace to make the error go away has a policy that governs nobody.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
metadata: {name: api, namespace: monitring}
spec:
  podSelector: {}
  policyTypes: [Ingress]
",
    beside: "",
    good: "\
metadata: {name: api, namespace: monitoring}
spec:
  podSelector: {}
  policyTypes: [Ingress]
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(cluster) = subject.cluster else {
        return Vec::new();
    };
    let own = subject.namespace();
    if is_there(cluster, own) {
        return Vec::new();
    }
    let names = cluster.namespaces.iter().map(|(key, _)| key.name.as_str());
    let Some(near) = near_name(own, names.filter(|name| is_there(cluster, name))) else {
        return Vec::new();
    };
    vec![Found {
        field: "metadata.namespace".to_owned(),
        message: format!("there is no namespace {own}, but there is {near}"),
        consequence: format!("the policy governs nobody: the pods that are meant are in {near}"),
        mend: Some(Mend::text(format!("write {near}, if it is meant"))),
    }]
}

/// Whether somebody says that the namespace is there, or something that is no policy is in it.
fn is_there(cluster: &Cluster, name: &str) -> bool {
    let namespace = cluster.namespaces.get(&Key::cluster(name));
    namespace.is_some_and(|namespace| !namespace.implied)
        || cluster.pods.in_namespace(name).next().is_some()
        || cluster.services.in_namespace(name).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn a_misspelt_namespace_is_found() {
        insta::assert_snapshot!(shown(&RULE, &Live::default(), RULE.bad));
    }

    #[test]
    fn namespaces_that_are_there_and_names_of_their_own_are_not_found() {
        for namespace in ["shop", "empty", "shipping", "monitoring"] {
            let policy =
                format!("{{metadata: {{name: p, namespace: {namespace}}}, spec: {{podSelector: {{}}}}}}");
            good(&RULE, &Live::default(), &policy);
        }
    }
}
