//! Which pods there are, and which peers match them: found in either direction without walking all of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slab::Slab;

use super::contents::Contents;
use super::index::{Labelled, Selectors};
use super::{PeerGroup, PeerIx};
use crate::cluster::{Key, Namespace, Pod};
use crate::policy::Namespaces;
use crate::port::Protocol;
use crate::selector::Selector;

pub(super) type PodId = usize;
type SpaceId = usize;
type ScopeId = usize;

#[derive(Debug, Default)]
pub(super) struct Population {
    pods: Slab<Resident>,
    keys: BTreeMap<Key, PodId>,
    spaces: Slab<Space>,
    names: BTreeMap<String, SpaceId>,
    scopes: Slab<Scope>,
    by_namespaces: BTreeMap<Namespaces, ScopeId>,
    by_port: BTreeMap<(Protocol, String), BTreeSet<PodId>>,
}

#[derive(Debug)]
pub(super) struct Resident {
    pub(super) pod: Arc<Pod>,
    space: SpaceId,
}

/// A namespace that has pods or labels.
#[derive(Debug, Default)]
struct Space {
    name: String,
    namespace: Option<Arc<Namespace>>,
    pods: Labelled,
    /// Those that the namespace is in.
    scopes: BTreeSet<ScopeId>,
}

/// Some namespaces that peers look in.
#[derive(Debug)]
struct Scope {
    namespaces: Namespaces,
    /// By the selectors of their pods.
    peers: Selectors<PeerIx>,
    spaces: BTreeSet<SpaceId>,
}

impl Population {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    /// Namespaces that are known by their labels.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let labelled = self.spaces.iter().filter(|(_, space)| space.namespace.is_some());
        labelled.map(|(_, space)| space.name.as_str())
    }

    pub(super) fn id(&self, key: &Key) -> Option<PodId> {
        self.keys.get(key).copied()
    }

    pub(super) fn get(&self, id: PodId) -> Option<&Resident> {
        self.pods.get(id)
    }

    pub(super) fn insert(&mut self, key: Key, pod: Arc<Pod>) -> PodId {
        let space = self.space(&key.namespace);
        let id = self.pods.insert(Resident {
            pod: Arc::clone(&pod),
            space,
        });
        self.spaces[space].pods.insert(&pod.labels, id);
        for port in named_ports(&pod) {
            self.by_port.entry(port).or_default().insert(id);
        }
        self.keys.insert(key, id);
        id
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<(PodId, Arc<Pod>)> {
        let id = self.keys.remove(key)?;
        let Resident { pod, space } = self.pods.try_remove(id)?;
        self.spaces[space].pods.remove(&pod.labels, id);
        self.leave(space);
        for port in named_ports(&pod) {
            if let Some(pods) = self.by_port.get_mut(&port) {
                pods.remove(&id);
                if pods.is_empty() {
                    self.by_port.remove(&port);
                }
            }
        }
        Some((id, pod))
    }

    /// Takes another version of a pod, of which all that peers and ports are matched by is as it was.
    pub(super) fn renew(&mut self, id: PodId, pod: Arc<Pod>) {
        if let Some(resident) = self.pods.get_mut(id) {
            resident.pod = pod;
        }
    }

    /// Takes what became of a namespace; the pods that other peers may match than before.
    pub(super) fn relabel(&mut self, name: &str, namespace: Option<&Arc<Namespace>>) -> Vec<PodId> {
        let known = self.names.get(name).map(|id| &self.spaces[*id].namespace);
        let same = match (known, namespace) {
            (None | Some(None), None) => true,
            (Some(Some(before)), Some(after)) => Arc::ptr_eq(before, after) || before.labels == after.labels,
            _ => false,
        };
        if same {
            return Vec::new();
        }
        let id = self.space(name);
        self.spaces[id].namespace = namespace.cloned();
        let scopes: BTreeSet<ScopeId> = self
            .scopes
            .iter()
            .filter(|(_, scope)| self.spaces[id].is_in(&scope.namespaces))
            .map(|(scope, _)| scope)
            .collect();
        let before = std::mem::replace(&mut self.spaces[id].scopes, scopes.clone());
        for scope in before.difference(&scopes) {
            self.scopes[*scope].spaces.remove(&id);
        }
        for scope in scopes.difference(&before) {
            self.scopes[*scope].spaces.insert(id);
        }
        let affected = match before == scopes {
            true => Vec::new(),
            false => self.spaces[id].pods.all().to_vec(),
        };
        self.leave(id);
        affected
    }

    /// Takes a peer into account.
    pub(super) fn admit(&mut self, peer: PeerIx, namespaces: &Namespaces, pods: &Selector) {
        let id = match self.by_namespaces.get(namespaces) {
            Some(id) => *id,
            None => {
                let spaces: BTreeSet<SpaceId> = match namespaces {
                    Namespaces::Own(name) => self.names.get(name).copied().into_iter().collect(),
                    Namespaces::Selected(_) => {
                        let within = self.spaces.iter().filter(|(_, space)| space.is_in(namespaces));
                        within.map(|(id, _)| id).collect()
                    }
                };
                let id = self.scopes.insert(Scope {
                    namespaces: namespaces.clone(),
                    peers: Selectors::default(),
                    spaces: spaces.clone(),
                });
                self.by_namespaces.insert(namespaces.clone(), id);
                for space in spaces {
                    self.spaces[space].scopes.insert(id);
                }
                id
            }
        };
        self.scopes[id].peers.insert(pods, peer);
    }

    pub(super) fn dismiss(&mut self, peer: PeerIx, namespaces: &Namespaces, pods: &Selector) {
        let Some(id) = self.by_namespaces.get(namespaces).copied() else {
            return;
        };
        self.scopes[id].peers.remove(pods, peer);
        if self.scopes[id].peers.is_empty() {
            self.by_namespaces.remove(namespaces);
            for space in self.scopes.remove(id).spaces {
                self.spaces[space].scopes.remove(&id);
            }
        }
    }

    /// The pods that an admitted peer matches.
    pub(super) fn matching<'a>(
        &'a self,
        namespaces: &Namespaces,
        pods: &'a Selector,
    ) -> impl Iterator<Item = &'a Pod> {
        let scope = self.by_namespaces.get(namespaces).map(|id| &self.scopes[*id]);
        let spaces = scope.into_iter().flat_map(|scope| &scope.spaces);
        let candidates = spaces.flat_map(|space| self.spaces[*space].pods.candidates(pods));
        let candidates = candidates.flatten().filter_map(|id| self.pods.get(*id));
        candidates
            .map(|resident| resident.pod.as_ref())
            .filter(|pod| pods.matches(&pod.labels))
    }

    /// The peers that match a pod by its labels.
    pub(super) fn peers_of<'a>(
        &'a self,
        resident: &'a Resident,
        peers: &'a Contents<PeerGroup>,
    ) -> impl Iterator<Item = PeerIx> + 'a {
        let labels = &resident.pod.labels;
        let scopes = self
            .spaces
            .get(resident.space)
            .into_iter()
            .flat_map(|space| &space.scopes);
        let candidates = scopes.flat_map(|scope| self.scopes[*scope].peers.candidates(labels));
        candidates.filter(|id| match peers.get(*id).map(Arc::as_ref) {
            Some(PeerGroup::Pods { pods, .. }) => pods.matches(labels),
            _ => false,
        })
    }

    /// The pods that have a port of that protocol and name.
    pub(super) fn with_port(&self, port: &(Protocol, String)) -> impl Iterator<Item = &Pod> {
        let ids = self.by_port.get(port).into_iter().flatten();
        ids.filter_map(|id| self.pods.get(*id))
            .map(|resident| resident.pod.as_ref())
    }

    fn space(&mut self, name: &str) -> SpaceId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let mut space = Space {
            name: name.to_owned(),
            ..Space::default()
        };
        let within = self
            .scopes
            .iter()
            .filter(|(_, scope)| space.is_in(&scope.namespaces));
        space.scopes = within.map(|(id, _)| id).collect();
        let scopes = space.scopes.clone();
        let id = self.spaces.insert(space);
        for scope in scopes {
            self.scopes[scope].spaces.insert(id);
        }
        self.names.insert(name.to_owned(), id);
        id
    }

    /// Forgets a namespace that nothing is known of any more.
    fn leave(&mut self, id: SpaceId) {
        let space = &self.spaces[id];
        if space.namespace.is_none() && space.pods.is_empty() {
            let space = self.spaces.remove(id);
            self.names.remove(&space.name);
            for scope in space.scopes {
                self.scopes[scope].spaces.remove(&id);
            }
        }
    }
}

impl Space {
    fn is_in(&self, namespaces: &Namespaces) -> bool {
        match namespaces {
            Namespaces::Own(name) => *name == self.name,
            Namespaces::Selected(selector) => {
                let namespace = self.namespace.as_ref();
                namespace.is_some_and(|namespace| selector.matches(&namespace.labels))
            }
        }
    }
}

fn named_ports(pod: &Pod) -> impl Iterator<Item = (Protocol, String)> {
    let ports = pod.ports.iter();
    ports.filter_map(|port| Some((port.protocol, port.name.clone()?)))
}
