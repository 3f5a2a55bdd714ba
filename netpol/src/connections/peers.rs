//! The peers that rules name, numbered, and whom they match.

use std::collections::{BTreeMap, HashMap};

use super::tables::{GroupIx, PeerIx, Profile};
use crate::cluster::Cluster;
use crate::policy::{IpBlock, Namespaces, Peer};
use crate::selector::Selector;

/// The peers in use, in the order in which they were met.
#[derive(Default)]
pub(super) struct PeerTable<'a> {
    numbers: HashMap<&'a Peer, PeerIx>,
    list: Vec<&'a Peer>,
}

impl<'a> PeerTable<'a> {
    /// The number of a peer; a new one gets the next.
    pub fn number(&mut self, peer: &'a Peer) -> PeerIx {
        *self.numbers.entry(peer).or_insert_with(|| {
            self.list.push(peer);
            self.list.len() - 1
        })
    }

    pub fn blocks(&self) -> HashMap<PeerIx, IpBlock> {
        let blocks = self
            .list
            .iter()
            .enumerate()
            .filter_map(|(index, peer)| match peer {
                Peer::Block(block) => Some((index, block.clone())),
                Peer::Pods { .. } => None,
            });
        blocks.collect()
    }

    /// The groups that each peer matches. Namespaces are chosen first, so that a selector meets the pods of those only.
    pub fn members(&self, cluster: &Cluster, profiles: &[Profile<'_>]) -> Vec<Vec<GroupIx>> {
        let mut by_namespace: BTreeMap<&str, std::ops::Range<usize>> = BTreeMap::new();
        for (index, profile) in profiles.iter().enumerate() {
            by_namespace
                .entry(&profile.workload.namespace)
                .or_insert(index..index)
                .end = index + 1;
        }
        let mut selected: HashMap<&Selector, Vec<std::ops::Range<usize>>> = HashMap::new();
        let everywhere = |selector: &Selector| {
            let matches = |(name, range): (&&str, &std::ops::Range<usize>)| {
                let labels = cluster.namespace_labels(name)?;
                selector.matches(labels).then(|| range.clone())
            };
            by_namespace.iter().filter_map(matches).collect::<Vec<_>>()
        };
        let mut members = Vec::with_capacity(self.list.len());
        for peer in &self.list {
            let matched: Vec<GroupIx> = match peer {
                Peer::Block(block) => {
                    let holds = |profile: &Profile<'_>| {
                        profile.address.is_some_and(|address| block.contains(address))
                    };
                    let indexed = profiles.iter().enumerate();
                    indexed
                        .filter(|(_, profile)| holds(profile))
                        .map(|(index, _)| index)
                        .collect()
                }
                Peer::Pods { namespaces, pods } => {
                    let ranges = match namespaces {
                        Namespaces::Own(name) => {
                            by_namespace.get(name.as_str()).cloned().into_iter().collect()
                        }
                        Namespaces::Selected(selector) => selected
                            .entry(selector)
                            .or_insert_with(|| everywhere(selector))
                            .clone(),
                    };
                    let groups = ranges.into_iter().flatten();
                    groups
                        .filter(|group| pods.matches(profiles[*group].labels))
                        .collect()
                }
            };
            members.push(matched);
        }
        members
    }
}
