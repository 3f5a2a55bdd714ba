//! The same rules, kept up to date at the cost of what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::contents::Contents;
use super::delta::{Delta, PODS, RulesetId};
use super::force::{Force, PolicyId};
use super::grants::Grants;
use super::names::{NONE, NamedPort, Names};
use super::places::{Amended, Places};
use super::population::{PodId, Population};
use super::signature::Signature;
use super::tables::covers;
use super::{Endpoint, PeerGroup, Ruleset};
use crate::cluster::{Changes, Cluster, ContainerPort, Key, Pod, Service, Store};
use crate::policy::{Direction, IpBlock, Policy};
use crate::port::Protocol;

/// Keeps the rules of one node, following one [`Cluster`].
///
/// After every [`Self::update`], its state means what [`compile`](super::compile) makes of that cluster from scratch; it was reached
/// by looking at what changed, and at what that concerns.
#[derive(Debug)]
pub struct Compiler {
    node: String,
    seen: Seen,
    population: Population,
    places: Places,
    force: Force,
    grants: Grants,
    pub(super) peers: Contents<PeerGroup>,
    pub(super) classes: Contents<Signature>,
    pub(super) rulesets: Contents<Ruleset>,
    locals: BTreeMap<Key, Local>,
    services: BTreeMap<Key, Arc<Service>>,
    service_ports: BTreeMap<(IpAddr, Protocol, u16), usize>,
}

/// The revisions of the stores that were followed so far.
#[derive(Debug, Default)]
struct Seen {
    namespaces: Option<u64>,
    pods: Option<u64>,
    policies: Option<u64>,
    services: Option<u64>,
}

/// A pod of this node.
#[derive(Debug, Default)]
struct Local {
    policies: Vec<PolicyId>,
    endpoint: Option<Endpoint<RulesetId>>,
}

impl Compiler {
    /// Knows nothing yet; its rules are those of an empty cluster.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            seen: Seen::default(),
            population: Population::default(),
            places: Places::default(),
            force: Force::default(),
            grants: Grants::default(),
            peers: Contents::new(0),
            classes: Contents::new(PODS + 1),
            rulesets: Contents::new(0),
            locals: BTreeMap::new(),
            services: BTreeMap::new(),
            service_ports: BTreeMap::new(),
        }
    }

    /// Takes what changed of the cluster since the last time. It must be the same cluster each time, or what became of it.
    pub fn update(&mut self, cluster: &Cluster) -> Delta {
        let mut delta = Delta::default();
        let mut locals = BTreeSet::new();
        self.take_namespaces(cluster);
        self.take_pods(cluster, &mut locals);
        self.take_policies(cluster, &mut locals);
        self.select(&locals);
        self.settle_peers();
        self.assign(&locals, &mut delta);
        let amended = self.classify(&mut delta);
        let contents = (&mut self.rulesets, &mut self.classes);
        self.grants.settle(contents, &amended, &mut delta);
        self.take_services(cluster, &mut delta);
        delta
    }

    /// All of the rules, as the difference from none: for who lost count.
    pub fn snapshot(&self) -> Delta {
        let mut delta = Delta::default();
        let locals = self.locals.iter();
        delta.endpoints = locals
            .map(|(key, local)| (key.clone(), local.endpoint.clone()))
            .collect();
        self.places.snapshot(&mut delta);
        self.grants.snapshot(&self.rulesets, &mut delta);
        delta.services = self.service_ports.keys().map(|port| (*port, true)).collect();
        delta
    }

    /// The pods of this node that policies can select.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Key, &Endpoint<RulesetId>)> {
        let locals = self.locals.iter();
        locals.filter_map(|(key, local)| Some((key, local.endpoint.as_ref()?)))
    }

    /// The policies that select pods of this node and have parts that could not be understood, and so are closed.
    pub fn defective(&self) -> impl Iterator<Item = &Policy> {
        self.force.defective()
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    fn take_namespaces(&mut self, cluster: &Cluster) {
        let known = self.population.namespaces().map(Key::cluster);
        for key in changed(&cluster.namespaces, &mut self.seen.namespaces, known) {
            for pod in self
                .population
                .relabel(&key.name, cluster.namespaces.shared(&key))
            {
                self.look_at(pod);
            }
        }
    }

    fn take_pods(&mut self, cluster: &Cluster, locals: &mut BTreeSet<Key>) {
        let known = self.population.keys().cloned();
        for key in changed(&cluster.pods, &mut self.seen.pods, known) {
            let is_local = |pod: &Pod| pod.node.as_deref() == Some(&self.node);
            let after = cluster
                .pods
                .shared(&key)
                .filter(|pod| pod.is_governed() && (is_local(pod) || !pod.addresses.is_empty()));
            let before = self.population.id(&key);
            if self.locals.contains_key(&key) || after.is_some_and(|pod| is_local(pod)) {
                locals.insert(key.clone());
            }
            match (before, after) {
                (Some(id), Some(after)) if self.is_like(id, after) => {
                    self.population.renew(id, Arc::clone(after));
                }
                _ => {
                    if let Some((id, pod)) = self.population.remove(&key) {
                        pod.addresses
                            .iter()
                            .for_each(|address| self.places.disclaim(*address, id));
                    }
                    if let Some(after) = after {
                        let id = self.population.insert(key, Arc::clone(after));
                        after
                            .addresses
                            .iter()
                            .for_each(|address| self.places.claim(*address, id));
                    }
                }
            }
        }
    }

    /// Whether peers and ports see no difference between a pod and another version of it.
    fn is_like(&self, id: PodId, after: &Arc<Pod>) -> bool {
        self.population.get(id).is_some_and(|resident| {
            let before = &resident.pod;
            Arc::ptr_eq(before, after)
                || (&before.labels, &before.addresses, &before.ports)
                    == (&after.labels, &after.addresses, &after.ports)
        })
    }

    fn take_policies(&mut self, cluster: &Cluster, locals: &mut BTreeSet<Key>) {
        for key in changed(
            &cluster.policies,
            &mut self.seen.policies,
            self.force.keys().cloned(),
        ) {
            let after = cluster.policies.shared(&key);
            let before = self.force.policy(&key);
            if before.map(|(_, policy)| policy) == after {
                continue;
            }
            let before = before.map(|(id, _)| id);
            let first = Key::new(key.namespace.as_str(), "");
            let here = self
                .locals
                .range(first..)
                .take_while(|(pod, _)| pod.namespace == key.namespace);
            for (pod, local) in here {
                let selected = before.is_some_and(|id| local.policies.binary_search(&id).is_ok());
                let selects = || {
                    let resident = self.population.id(pod).and_then(|id| self.population.get(id));
                    after
                        .zip(resident)
                        .is_some_and(|(policy, resident)| policy.pods.matches(&resident.pod.labels))
                };
                if selected || selects() {
                    locals.insert(pod.clone());
                }
            }
            self.force.replace(&key, after);
        }
    }

    /// Finds which policies select these pods.
    fn select(&mut self, locals: &BTreeSet<Key>) {
        for key in locals {
            let resident = self
                .population
                .id(key)
                .and_then(|id| self.population.get(id))
                .filter(|resident| resident.pod.node.as_deref() == Some(&self.node));
            let after = resident.map(|resident| self.force.selecting(&key.namespace, &resident.pod.labels));
            let before = self
                .locals
                .get(key)
                .map_or(&[][..], |local| local.policies.as_slice());
            self.force.select(before, after.as_deref().unwrap_or_default());
            // One that is no more stays until its endpoint is taken away.
            self.locals.entry(key.clone()).or_default().policies = after.unwrap_or_default();
        }
    }

    /// Has the addresses looked at whose peers or port names came into use or went out of it.
    fn settle_peers(&mut self) {
        let names = self.force.settle(&mut self.peers);
        let changed = self.peers.settle();
        let tell = !self.places.is_mostly_anew();
        // First what comes: a prefix that another list has too is the same one all the time.
        for (id, peer) in &changed.born {
            match peer.as_ref() {
                PeerGroup::Blocks(blocks) => self.places.admit(*id, blocks, tell),
                PeerGroup::Pods { namespaces, pods } => {
                    self.population.admit(*id, namespaces, pods);
                    if tell {
                        for pod in self.population.matching(namespaces, pods) {
                            pod.addresses
                                .iter()
                                .for_each(|address| self.places.gain(*address, *id));
                        }
                    }
                }
            }
        }
        for (id, peer) in &changed.gone {
            match peer.as_ref() {
                PeerGroup::Blocks(blocks) => self.places.dismiss(*id, blocks, tell),
                PeerGroup::Pods { namespaces, pods } => {
                    if tell {
                        for pod in self.population.matching(namespaces, pods) {
                            pod.addresses
                                .iter()
                                .for_each(|address| self.places.lose(*address, *id));
                        }
                    }
                    self.population.dismiss(*id, namespaces, pods);
                }
            }
        }
        if !tell {
            self.places.look_at_all();
        }
        for name in &names {
            for pod in self.population.with_port(name) {
                pod.addresses
                    .iter()
                    .for_each(|address| self.places.look_at(*address));
            }
        }
    }

    /// Gives these pods their rulesets.
    fn assign(&mut self, locals: &BTreeSet<Key>, delta: &mut Delta) {
        type Ground = (Direction, Vec<PolicyId>, Vec<ContainerPort>);
        let mut known: BTreeMap<Ground, Option<RulesetId>> = BTreeMap::new();
        for key in locals {
            let pod = self
                .population
                .id(key)
                .and_then(|id| self.population.get(id))
                .map(|resident| &resident.pod)
                .filter(|pod| pod.node.as_deref() == Some(&self.node));
            let Some(local) = self.locals.get_mut(key) else {
                continue;
            };
            let after = pod.map(|pod| {
                let [ingress, egress] = Direction::BOTH.map(|direction| {
                    let asks = self.force.asks_for_names(direction, &local.policies);
                    let ports = if asks { pod.ports.clone() } else { Vec::new() };
                    let ground = (direction, local.policies.clone(), ports);
                    *known.entry(ground).or_insert_with(|| {
                        let ruleset = self.force.ruleset(direction, &local.policies, pod)?;
                        Some(self.rulesets.intern(&ruleset))
                    })
                });
                Endpoint {
                    uid: pod.uid.clone(),
                    addresses: pod.addresses.clone(),
                    ingress,
                    egress,
                }
            });
            let rulesets = |endpoint: &Option<Endpoint<RulesetId>>| {
                let of = |endpoint: &Endpoint<RulesetId>| [endpoint.ingress, endpoint.egress];
                endpoint.as_ref().map(of).into_iter().flatten().flatten()
            };
            rulesets(&after).for_each(|id| self.rulesets.hold(id));
            rulesets(&local.endpoint).for_each(|id| self.rulesets.release(id));
            if after != local.endpoint {
                delta.endpoints.insert(key.clone(), after.clone());
            }
            match after {
                Some(_) => local.endpoint = after,
                None => drop(self.locals.remove(key)),
            }
        }
    }

    fn classify(&mut self, delta: &mut Delta) -> Amended {
        let (population, force, peers) = (&self.population, &self.force, &self.peers);
        let names = self.grants.names_mut();
        let of_pod = |places: &Places, names: &mut Names, address: IpAddr, id: PodId| {
            let Some(resident) = population.get(id) else {
                return Signature::of_no_peer(true);
            };
            let mut peers: Vec<u32> = population.peers_of(resident, peers).collect();
            peers.extend(places.blocks_around(address.into(), |block| block.contains(address)));
            let named = resident.pod.ports.iter().filter_map(|port| {
                let name = port.name.as_deref()?;
                force
                    .is_asked_for(port.protocol, name)
                    .then(|| (port.protocol, name.to_owned(), port.number))
            });
            let mut named: Vec<NamedPort> = named.collect();
            named.sort_unstable();
            named.dedup();
            Signature::new(true, peers, names.intern(&named))
        };
        let of_address = |places: &Places, address: IpAddr, pods: &[PodId]| {
            let mut common: Option<Signature> = None;
            for id in pods {
                let signature = of_pod(places, names, address, *id);
                // Several pods claim one address: until that is over it has only what all would have.
                common = Some(match common {
                    None => signature,
                    Some(common) => common.intersection(&signature, names),
                });
            }
            common.unwrap_or_else(|| Signature::of_no_peer(true))
        };
        let of_prefix = |places: &Places, prefix: IpNet| {
            let around = places.blocks_around(prefix, |block: &IpBlock| covers(block, prefix));
            Signature::new(false, around.collect(), NONE)
        };
        self.places
            .classify(&mut self.classes, delta, of_address, of_prefix)
    }

    fn take_services(&mut self, cluster: &Cluster, delta: &mut Delta) {
        let known = self.services.keys().cloned();
        let mut before: BTreeMap<(IpAddr, Protocol, u16), bool> = BTreeMap::new();
        for key in changed(&cluster.services, &mut self.seen.services, known) {
            let after = cluster.services.shared(&key);
            for port in after.into_iter().flat_map(|service| service.addressed_ports()) {
                let count = self.service_ports.entry(port).or_default();
                before.entry(port).or_insert(*count > 0);
                *count += 1;
            }
            let replaced = match after {
                Some(after) => self.services.insert(key, Arc::clone(after)),
                None => self.services.remove(&key),
            };
            for port in replaced.iter().flat_map(|service| service.addressed_ports()) {
                before.entry(port).or_insert(true);
                if let Some(count) = self.service_ports.get_mut(&port) {
                    *count -= 1;
                    if *count == 0 {
                        self.service_ports.remove(&port);
                    }
                }
            }
        }
        let ports = before.into_iter();
        let now = ports.map(|(port, before)| (port, before, self.service_ports.contains_key(&port)));
        delta.services = now
            .filter(|(_, before, after)| before != after)
            .map(|(port, _, after)| (port, after))
            .collect();
    }

    fn look_at(&mut self, pod: PodId) {
        if let Some(resident) = self.population.get(pod) {
            let addresses = resident.pod.addresses.iter();
            addresses.for_each(|address| self.places.look_at(*address));
        }
    }
}

/// The keys of what changed in a store since the revision that was `seen`, each once; `known` is what was there.
fn changed<T>(store: &Store<T>, seen: &mut Option<u64>, known: impl Iterator<Item = Key>) -> BTreeSet<Key> {
    let changes = seen.replace(store.revision()).map(|since| store.changes(since));
    match changes {
        Some(Changes::Keys(keys)) => keys.into_iter().cloned().collect(),
        Some(Changes::Everything) | None => store.keys().cloned().chain(known).collect(),
    }
}
