//! What baselines will have made, before they have: so that who enforces need not wait for who generates.
//!
//! A policy that a namespace must have and that is not stored is enforced as if it were, until an object of its name is there; then that
//! object is what counts, whatever it says. A pod that starts in the very moment in which its namespace is made, or while the
//! generator is down, is closed from its first packet.
//!
//! The policies stand among the cluster's under names that no object can have, so that everything which follows the
//! cluster sees them come and go like others. Rules for what an Ingress or a Gateway routes are left out here: they open, and can wait.

use std::collections::{BTreeMap, BTreeSet};

use super::render::Place;
use super::wanted::wanted;
use super::{Baseline, Baselines};
use crate::api::baseline::FactState;
use crate::cluster::{Changes, Cluster, Key};
use crate::policy::Policy;

/// Keeps what is ahead of the stored policies among the policies of one cluster.
#[derive(Debug, Default)]
pub struct Ahead {
    baselines: Baselines,
    /// Revisions of the stores of namespaces, policies, baselines and Services that were followed.
    seen: Option<[u64; 4]>,
    /// By namespace.
    held: BTreeMap<String, BTreeSet<Key>>,
}

impl Ahead {
    /// Takes what changed of the cluster since the last time; it must be the same each time, or what became of it.
    /// Where nothing changed that matters here, this costs a comparison.
    pub fn follow(&mut self, cluster: &mut Cluster) {
        let now = revisions(cluster);
        if self.seen == Some(now) {
            return;
        }
        // The first time everything is new.
        let [namespaces, policies, baselines, services] = self.seen.unwrap_or([u64::MAX; 4]);
        let mut reread = baselines != now[2] || (services != now[3] && self.is_a_fact_wanting());
        if reread {
            // Each status that is written is a change of a baseline, and nearly none of them changes what follows from it.
            let fresh = Baselines::read(cluster, &self.baselines.facts());
            reread = fresh != self.baselines;
            self.baselines = fresh;
        }
        let touched = match (
            reread,
            cluster.namespaces.changes(namespaces),
            cluster.policies.changes(policies),
        ) {
            (false, Changes::Keys(namespaces), Changes::Keys(policies)) => {
                let names = namespaces.into_iter().map(|key| &key.name);
                let names = names.chain(policies.into_iter().map(|key| &key.namespace));
                names.cloned().collect()
            }
            _ => {
                let names = cluster.namespaces.keys().map(|key| &key.name);
                names
                    .chain(self.held.keys())
                    .cloned()
                    .collect::<BTreeSet<String>>()
            }
        };
        for name in touched {
            self.settle(cluster, &name);
        }
        self.seen = Some(revisions(cluster));
    }

    /// How many policies are ahead.
    pub fn len(&self) -> usize {
        self.held.values().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn settle(&mut self, cluster: &mut Cluster, name: &str) {
        let ahead = self.ahead(cluster, name);
        let before = self.held.remove(name).unwrap_or_default();
        for key in before.iter().filter(|key| !ahead.contains_key(*key)) {
            cluster.policies.delete(key);
        }
        let keys: BTreeSet<Key> = ahead.keys().cloned().collect();
        for (key, policy) in ahead {
            cluster.policies.apply(key, policy);
        }
        if !keys.is_empty() {
            self.held.insert(name.to_owned(), keys);
        }
    }

    fn ahead(&self, cluster: &Cluster, name: &str) -> BTreeMap<Key, Policy> {
        let Some(namespace) = cluster.namespaces.get(&Key::cluster(name)) else {
            return BTreeMap::new();
        };
        if namespace.terminating {
            return BTreeMap::new();
        }
        // What is stored needs no look at who made it: whatever is held under a name is stored under it.
        let missing = wanted(Place::of(name, namespace), &self.baselines)
            .policies
            .into_iter()
            .filter(|(policy, _)| cluster.policies.get(&Key::new(name, policy.as_str())).is_none());
        missing
            .map(|(policy, wanted)| {
                let baseline = &wanted.template.name;
                let key = Key::new(name, format!("{policy} (of baseline {baseline}, not stored yet)"));
                let parsed = Policy::parse(&wanted.rendered.policy);
                (key.clone(), Policy { key, ..parsed })
            })
            .collect()
    }

    /// Whether some fact stands for nothing as yet: the baselines may have been seen before the Services.
    fn is_a_fact_wanting(&self) -> bool {
        let facts = self.baselines.iter().filter_map(|(_, baseline)| match baseline {
            Baseline::Valid { facts, .. } => Some(facts),
            Baseline::Invalid { .. } => None,
        });
        facts
            .flat_map(BTreeMap::values)
            .any(|fact| fact.state == FactState::Unresolved)
    }
}

fn revisions(cluster: &Cluster) -> [u64; 4] {
    [
        cluster.namespaces.revision(),
        cluster.policies.revision(),
        cluster.baselines.revision(),
        cluster.services.revision(),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::json;

    use super::super::testing::baseline;
    use super::*;

    const CLOSED: &str = "{namespaceSelector: {matchLabels: {team: red}}, policies: [
        {name: deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}},
        {name: friends, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}}]}";

    fn namespace(name: &str, team: &str) -> core::Namespace {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}})).unwrap()
    }

    fn stored(namespace: &str, name: &str) -> NetworkPolicy {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name}, "spec": {"podSelector": {}},
        }))
        .unwrap()
    }

    fn names(cluster: &Cluster) -> Vec<String> {
        let keys = cluster.policies.keys();
        keys.map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    fn start() -> (Ahead, Cluster) {
        let mut cluster = Cluster::default();
        cluster.baselines.apply(Key::cluster("b"), baseline("b", CLOSED));
        let mut ahead = Ahead::default();
        ahead.follow(&mut cluster);
        (ahead, cluster)
    }

    #[test]
    fn a_namespace_has_its_policies_from_the_moment_in_which_it_is_known() {
        let (mut ahead, mut cluster) = start();
        cluster.apply(&namespace("shop", "red"));
        cluster.apply(&namespace("lab", "blue"));
        ahead.follow(&mut cluster);
        assert_eq!(
            names(&cluster),
            [
                "shop/deny (of baseline b, not stored yet)",
                "shop/friends (of baseline b, not stored yet)"
            ]
        );
        assert_eq!(ahead.len(), 2);
    }

    #[test]
    fn an_object_of_the_name_takes_its_place_and_gives_it_back() {
        let (mut ahead, mut cluster) = start();
        cluster.apply(&namespace("shop", "red"));
        ahead.follow(&mut cluster);
        cluster.apply(&stored("shop", "deny"));
        ahead.follow(&mut cluster);
        assert_eq!(
            names(&cluster),
            ["shop/deny", "shop/friends (of baseline b, not stored yet)"]
        );
        cluster.delete(&stored("shop", "deny"));
        ahead.follow(&mut cluster);
        assert_eq!(ahead.len(), 2);
    }

    #[test]
    fn what_is_not_taken_any_more_has_none() {
        let (mut ahead, mut cluster) = start();
        cluster.apply(&namespace("shop", "red"));
        ahead.follow(&mut cluster);
        cluster.apply(&namespace("shop", "blue"));
        ahead.follow(&mut cluster);
        assert!(ahead.is_empty() && names(&cluster).is_empty());
        cluster.apply(&namespace("shop", "red"));
        ahead.follow(&mut cluster);
        assert_eq!(ahead.len(), 2);
        cluster.baselines.delete(&Key::cluster("b"));
        ahead.follow(&mut cluster);
        assert!(ahead.is_empty() && names(&cluster).is_empty());
    }

    #[test]
    fn a_new_list_of_policies_does_not_lose_them() {
        let (mut ahead, mut cluster) = start();
        cluster.apply(&namespace("shop", "red"));
        ahead.follow(&mut cluster);
        let list = [(Key::new("shop", "deny"), Policy::parse(&stored("shop", "deny")))];
        cluster.policies.reset(list);
        ahead.follow(&mut cluster);
        assert_eq!(
            names(&cluster),
            ["shop/deny", "shop/friends (of baseline b, not stored yet)"]
        );
    }
}
