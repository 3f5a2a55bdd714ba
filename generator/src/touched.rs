//! What of the cluster is other than at the last look.

use std::collections::BTreeSet;

use ringfence_netpol::cluster::{Changes, Cluster, Key, Store};

/// What a look must look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Namespaces, and what is in them.
    pub namespaces: BTreeSet<String>,
    /// Baselines, and what their facts are found in, but for which namespaces there are.
    pub baselines: bool,
    /// Some namespace.
    pub any_namespace: bool,
    /// More changed than is remembered, or what may concern any namespace.
    pub everything: bool,
}

/// The revisions of the stores at the last look.
#[derive(Debug, Default)]
pub struct Seen {
    namespaces: u64,
    policies: u64,
    ingresses: u64,
    services: u64,
    /// Of the stores of which only facts are made.
    facts: [u64; 7],
    gateways: u64,
    routes: u64,
    grants: u64,
}

impl Seen {
    /// What changed since the last call.
    pub fn follow(&mut self, cluster: &Cluster) -> Touched {
        let mut touched = Touched::default();
        let (namespaces, policies) = (&cluster.namespaces, &cluster.policy_records);
        let (ingresses, services) = (&cluster.ingresses, &cluster.services);
        let facts = [
            cluster.baselines.revision(),
            cluster.pods.revision(),
            cluster.nodes.revision(),
            cluster.ingress_classes.revision(),
            cluster.gateway_classes.revision(),
            cluster.endpoint_slices.revision(),
            cluster.service_ranges.revision(),
        ];
        let (routes, grants) = (&cluster.gateway_routes, &cluster.reference_grants);
        // Routes of any namespace may go through a Gateway, and with leave into any other.
        touched.everything = cluster.gateways.revision() != self.gateways;
        touched.baselines = facts != self.facts || services.revision() != self.services;
        touched.any_namespace = namespaces.revision() != self.namespaces;
        touched.note(namespaces, self.namespaces, |key| &key.name);
        touched.note(policies, self.policies, |key| &key.namespace);
        touched.note(ingresses, self.ingresses, |key| &key.namespace);
        touched.note(services, self.services, |key| &key.namespace);
        touched.note(grants, self.grants, |key| &key.namespace);
        let from = touched.routing(namespaces, self.namespaces, |key| &key.name);
        touched.note_granting(cluster, &from);
        let from = touched.routing(routes, self.routes, |key| &key.namespace);
        touched.note_granting(cluster, &from);
        touched.namespaces.extend(from);
        *self = Self {
            namespaces: namespaces.revision(),
            policies: policies.revision(),
            ingresses: ingresses.revision(),
            services: services.revision(),
            facts,
            gateways: cluster.gateways.revision(),
            routes: routes.revision(),
            grants: grants.revision(),
        };
        touched
    }
}

impl Touched {
    /// The namespaces whose routes may lead elsewhere than before: their labels say which listeners take these.
    fn routing<T>(
        &mut self,
        store: &Store<T>,
        since: u64,
        namespace: impl Fn(&Key) -> &String,
    ) -> BTreeSet<String> {
        match store.changes(since) {
            Changes::Everything => {
                self.everything = true;
                BTreeSet::new()
            }
            Changes::Keys(keys) => keys.into_iter().map(|key| namespace(key).clone()).collect(),
        }
    }

    /// Notes the namespaces that some others' routes may lead into, or might until now: only by leave can they.
    fn note_granting(&mut self, cluster: &Cluster, from: &BTreeSet<String>) {
        if from.is_empty() {
            return;
        }
        let grants = cluster.reference_grants.iter();
        let granting = grants.filter(|(_, grant)| grant.from.iter().any(|(_, name)| from.contains(name)));
        self.namespaces
            .extend(granting.map(|(key, _)| key.namespace.clone()));
    }

    fn note<T>(&mut self, store: &Store<T>, since: u64, namespace: impl Fn(&Key) -> &String) {
        match store.changes(since) {
            Changes::Everything => self.everything = true,
            Changes::Keys(keys) => self
                .namespaces
                .extend(keys.into_iter().map(|key| namespace(key).clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use ringfence_netpol::cluster::Observed;
    use ringfence_netpol::cluster::gateway::{GatewayObject, HttpRouteObject, ReferenceGrantObject};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn apply<K: Observed + DeserializeOwned>(cluster: &mut Cluster, object: Value) {
        cluster.apply(&serde_json::from_value::<K>(object).unwrap());
    }

    fn namespace(cluster: &mut Cluster, name: &str, labels: Value) {
        apply::<Namespace>(cluster, json!({"metadata": {"name": name, "labels": labels}}));
    }

    fn route(cluster: &mut Cluster, backend: &str) {
        let backend = json!({"name": "web", "namespace": backend, "port": 80});
        apply::<HttpRouteObject>(
            cluster,
            json!({"metadata": {"name": "r", "namespace": "front"},
                "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [backend]}]}}),
        );
    }

    /// A namespace whose routes may lead into one other.
    fn granted() -> (Seen, Cluster) {
        let mut cluster = Cluster::default();
        for name in ["front", "back", "other"] {
            namespace(&mut cluster, name, json!({"team": "a"}));
        }
        apply::<ReferenceGrantObject>(
            &mut cluster,
            json!({"metadata": {"name": "leave", "namespace": "back"}, "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "front"}],
                "to": [{"group": "", "kind": "Service"}]}}),
        );
        route(&mut cluster, "back");
        let mut seen = Seen::default();
        seen.follow(&cluster);
        (seen, cluster)
    }

    fn touched(seen: &mut Seen, cluster: &Cluster) -> (Vec<String>, bool) {
        let touched = seen.follow(cluster);
        (touched.namespaces.into_iter().collect(), touched.everything)
    }

    #[test]
    fn where_a_namespace_s_routes_lead_may_change_with_its_labels() {
        let (mut seen, mut cluster) = granted();
        namespace(&mut cluster, "front", json!({}));
        assert_eq!(
            touched(&mut seen, &cluster),
            (vec!["back".to_owned(), "front".to_owned()], false)
        );
    }

    #[test]
    fn a_route_concerns_its_namespace_and_those_that_it_may_lead_into_and_no_other() {
        let (mut seen, mut cluster) = granted();
        route(&mut cluster, "front");
        assert_eq!(
            touched(&mut seen, &cluster),
            (vec!["back".to_owned(), "front".to_owned()], false)
        );
    }

    #[test]
    fn a_grant_concerns_its_namespace_and_a_gateway_all() {
        let (mut seen, mut cluster) = granted();
        let grant = json!({"metadata": {"name": "leave", "namespace": "back"}});
        cluster.delete(&serde_json::from_value::<ReferenceGrantObject>(grant).unwrap());
        assert_eq!(touched(&mut seen, &cluster).0, ["back"]);
        apply::<GatewayObject>(
            &mut cluster,
            json!({"metadata": {"name": "g", "namespace": "front"}, "spec": {"gatewayClassName": "x"}}),
        );
        assert!(touched(&mut seen, &cluster).1);
    }
}
