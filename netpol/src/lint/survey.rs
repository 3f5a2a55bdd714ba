//! What is known beside the policy under judgement, found out once for all policies of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::agents::{self, Agents};
use super::places::{self, Place};
use crate::cluster::{Cluster, Key, Mesh};
use crate::facts;

/// A cluster, and what several rules want to know of it.
pub struct Survey<'a> {
    pub cluster: &'a Cluster,
    /// Whether what is not in view is nowhere.
    pub complete: bool,
    known: Arc<Known>,
}

/// What a survey finds out by looking at every object of a kind; nothing is looked for before it is asked for. It may be kept from one
/// survey to the next of the same cluster, for as long as nothing of these kinds changes.
#[derive(Debug, Default)]
pub struct Known {
    /// Of all that is looked at.
    revisions: [u64; 6],
    dns: OnceLock<Vec<Place>>,
    prometheus: OnceLock<Vec<Place>>,
    istio: OnceLock<Vec<Place>>,
    linkerd: OnceLock<Vec<Place>>,
    api_server: OnceLock<Vec<Place>>,
    agents: OnceLock<Agents>,
    pod_addresses: OnceLock<BTreeMap<IpAddr, Key>>,
    node_addresses: OnceLock<BTreeSet<IpAddr>>,
    service_addresses: OnceLock<BTreeMap<IpAddr, Key>>,
}

impl Known {
    /// Nothing yet, of a cluster as it is now.
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            revisions: Self::revisions(cluster),
            ..Self::default()
        }
    }

    /// Whether it holds still. The cluster must be the one that it is of.
    pub fn holds(&self, cluster: &Cluster) -> bool {
        self.revisions == Self::revisions(cluster)
    }

    fn revisions(cluster: &Cluster) -> [u64; 6] {
        [
            cluster.namespaces.revision(),
            cluster.pods.revision(),
            cluster.nodes.revision(),
            cluster.services.revision(),
            cluster.endpoint_slices.revision(),
            cluster.baselines.revision(), // facts can be pinned there
        ]
    }
}

impl<'a> Survey<'a> {
    /// Of all that there is.
    pub fn whole(cluster: &'a Cluster) -> Self {
        Self::knowing(cluster, Arc::new(Known::of(cluster)))
    }

    /// Of all that there is, with what is known of it and [holds](Known::holds).
    pub fn knowing(cluster: &'a Cluster, known: Arc<Known>) -> Self {
        Self {
            cluster,
            complete: true,
            known,
        }
    }

    /// Of some of it: there is more that is not in view.
    pub fn partial(cluster: &'a Cluster) -> Self {
        Self {
            complete: false,
            ..Self::whole(cluster)
        }
    }

    /// Where the cluster's DNS answers.
    pub(super) fn dns(&self) -> &[Place] {
        self.known
            .dns
            .get_or_init(|| places::find(self.cluster, facts::DNS))
    }

    /// What fetches metrics.
    pub(super) fn prometheus(&self) -> &[Place] {
        self.known
            .prometheus
            .get_or_init(|| places::find(self.cluster, facts::PROMETHEUS))
    }

    /// What the proxies of a mesh take their configuration from.
    pub(super) fn control_plane(&self, mesh: Mesh) -> &[Place] {
        let (cell, fact) = match mesh {
            Mesh::Istio => (&self.known.istio, facts::ISTIO),
            Mesh::Linkerd => (&self.known.linkerd, facts::LINKERD),
        };
        cell.get_or_init(|| places::find(self.cluster, fact))
    }

    /// Where the API server really listens.
    pub(super) fn api_server(&self) -> &[Place] {
        self.known
            .api_server
            .get_or_init(|| places::find(self.cluster, facts::API_SERVER))
    }

    /// What on which node enforces policies, or is known not to.
    pub(super) fn agents(&self) -> &Agents {
        self.known.agents.get_or_init(|| agents::find(self.cluster))
    }

    /// The addresses of pods that have one of their own.
    pub(super) fn pod_addresses(&self) -> &BTreeMap<IpAddr, Key> {
        self.known.pod_addresses.get_or_init(|| {
            let governed = self.cluster.pods.iter().filter(|(_, pod)| pod.is_governed());
            governed
                .flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, key.clone())))
                .collect()
        })
    }

    /// The addresses of nodes, also of those that only pods on their network show.
    pub(super) fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        self.known.node_addresses.get_or_init(|| {
            let on_host = self.cluster.pods.values().filter(|pod| pod.host_network);
            let shown = on_host.flat_map(|pod| &pod.addresses);
            let own = self.cluster.nodes.values().flat_map(|node| &node.addresses);
            own.chain(shown).copied().collect()
        })
    }

    /// The addresses of Services.
    pub(super) fn service_addresses(&self) -> &BTreeMap<IpAddr, Key> {
        self.known.service_addresses.get_or_init(|| {
            let services = self.cluster.services.iter();
            services
                .flat_map(|(key, service)| {
                    let addresses = service.cluster_ips.iter();
                    addresses.map(move |address| (*address, key.clone()))
                })
                .collect()
        })
    }
}
