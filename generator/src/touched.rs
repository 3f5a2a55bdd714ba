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
    /// Of what routes lead through, from any namespace into any other.
    gateways: [u64; 3],
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
        let gateways = [
            cluster.gateways.revision(),
            cluster.gateway_routes.revision(),
            cluster.reference_grants.revision(),
        ];
        touched.everything = gateways != self.gateways;
        touched.baselines = facts != self.facts || services.revision() != self.services;
        touched.any_namespace = namespaces.revision() != self.namespaces;
        touched.note(namespaces, self.namespaces, |key| &key.name);
        touched.note(policies, self.policies, |key| &key.namespace);
        touched.note(ingresses, self.ingresses, |key| &key.namespace);
        touched.note(services, self.services, |key| &key.namespace);
        *self = Self {
            namespaces: namespaces.revision(),
            policies: policies.revision(),
            ingresses: ingresses.revision(),
            services: services.revision(),
            facts,
            gateways,
        };
        touched
    }
}

impl Touched {
    fn note<T>(&mut self, store: &Store<T>, since: u64, namespace: impl Fn(&Key) -> &String) {
        match store.changes(since) {
            Changes::Everything => self.everything = true,
            Changes::Keys(keys) => self
                .namespaces
                .extend(keys.into_iter().map(|key| namespace(key).clone())),
        }
    }
}
