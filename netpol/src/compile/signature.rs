//! What the rules of this node see of an address.

use super::PeerIx;
use super::names::{NONE, NamedPort, Names, NamesId};

/// Addresses of one signature are of one class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    /// Whether it is of pods' addresses: what is open to those is decided for pods.
    pub(super) pod: bool,
    /// The peers that match, sorted.
    pub(super) peers: Box<[PeerIx]>,
    /// Where the port names that egress rules use are found.
    pub(super) names: NamesId,
}

impl Signature {
    /// That of what no peer matches, pod or not.
    pub(super) fn of_no_peer(pod: bool) -> Self {
        Self::new(pod, Vec::new(), NONE)
    }

    /// Of peers in any order, some more than once.
    pub(super) fn new(pod: bool, mut peers: Vec<PeerIx>, names: NamesId) -> Self {
        peers.sort_unstable();
        peers.dedup();
        let peers = peers.into_boxed_slice();
        Self { pod, peers, names }
    }

    /// Whether nothing is open to it that is not open to anyone.
    pub(super) fn is_anyones(&self) -> bool {
        self.peers.is_empty() && self.names == NONE
    }

    /// What becomes of it by gaining and losing peers; each sorted.
    pub(super) fn turned(&self, gained: &[PeerIx], lost: &[PeerIx]) -> Self {
        let stay = self.peers.iter().filter(|peer| lost.binary_search(peer).is_err());
        let mut peers = Vec::with_capacity(self.peers.len() + gained.len());
        peers.extend(stay);
        peers.extend(gained);
        Self::new(self.pod, peers, self.names)
    }

    /// What is of both.
    pub(super) fn intersection(&self, other: &Self, names: &mut Names) -> Self {
        let peers = self
            .peers
            .iter()
            .filter(|peer| other.peers.binary_search(peer).is_ok());
        let theirs = names.get(other.names);
        let named = names.get(self.names).iter().filter(|port| theirs.contains(port));
        let named: Vec<NamedPort> = named.cloned().collect();
        Self::new(
            self.pod && other.pod,
            peers.copied().collect(),
            names.intern(&named),
        )
    }
}
