//! What is known beside the policy under judgement, found out once for all policies of a run.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::agents::{self, Agents};
use super::resolvers::{self, Resolver};
use super::watchers::{self, ControlPlane};
use crate::cluster::{Cluster, Key, Mesh, Pod};

/// A cluster, and what several rules want to know of it. Nothing is looked for before it is asked for.
pub struct Survey<'a> {
    pub cluster: &'a Cluster,
    /// Whether what is not in view is nowhere.
    pub complete: bool,
    resolvers: OnceCell<Vec<Resolver<'a>>>,
    prometheus: OnceCell<Vec<(&'a Key, &'a Pod)>>,
    control_planes: OnceCell<BTreeMap<Mesh, ControlPlane<'a>>>,
    agents: OnceCell<Agents<'a>>,
    pod_addresses: OnceCell<BTreeMap<IpAddr, &'a Key>>,
    node_addresses: OnceCell<BTreeSet<IpAddr>>,
    service_addresses: OnceCell<BTreeMap<IpAddr, &'a Key>>,
}

impl<'a> Survey<'a> {
    /// Of all that there is.
    pub fn whole(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            complete: true,
            resolvers: OnceCell::new(),
            prometheus: OnceCell::new(),
            control_planes: OnceCell::new(),
            agents: OnceCell::new(),
            pod_addresses: OnceCell::new(),
            node_addresses: OnceCell::new(),
            service_addresses: OnceCell::new(),
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
    pub(super) fn resolvers(&self) -> &[Resolver<'a>] {
        self.resolvers.get_or_init(|| resolvers::find(self.cluster))
    }

    /// The pods that fetch metrics.
    pub(super) fn prometheus(&self) -> &[(&'a Key, &'a Pod)] {
        self.prometheus.get_or_init(|| watchers::prometheus(self.cluster))
    }

    /// The pods that proxies of a mesh take their configuration from.
    pub(super) fn control_plane(&self, mesh: Mesh) -> &[(&'a Key, &'a Pod, u16)] {
        let all = self
            .control_planes
            .get_or_init(|| watchers::control_planes(self.cluster));
        all.get(&mesh).map(Vec::as_slice).unwrap_or_default()
    }

    /// What on which node enforces policies, or is known not to.
    pub(super) fn agents(&self) -> &Agents<'a> {
        self.agents.get_or_init(|| agents::find(self.cluster))
    }

    /// The addresses of pods that have one of their own.
    pub(super) fn pod_addresses(&self) -> &BTreeMap<IpAddr, &'a Key> {
        self.pod_addresses.get_or_init(|| {
            let governed = self.cluster.pods.iter().filter(|(_, pod)| pod.is_governed());
            governed
                .flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, key)))
                .collect()
        })
    }

    /// The addresses of nodes, as far as pods on their network show them.
    pub(super) fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        self.node_addresses.get_or_init(|| {
            let on_host = self.cluster.pods.values().filter(|pod| pod.host_network);
            on_host.flat_map(|pod| pod.addresses.iter().copied()).collect()
        })
    }

    /// The addresses of Services.
    pub(super) fn service_addresses(&self) -> &BTreeMap<IpAddr, &'a Key> {
        self.service_addresses.get_or_init(|| {
            let services = self.cluster.services.iter();
            services
                .flat_map(|(key, service)| service.cluster_ips.iter().map(move |address| (*address, key)))
                .collect()
        })
    }
}
