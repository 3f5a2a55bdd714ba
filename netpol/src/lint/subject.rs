//! The policy under judgement, with what several rules want to know of it.

use std::cell::OnceCell;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::dead::{self, DeadPeer};
use super::peers::{self, PeerAt};
use crate::cluster::Cluster;
use crate::policy::Policy;

/// How many peers are compared with the cluster: a policy of the largest size that is stored has some ten thousand,
/// and a cluster as many pods.
pub(super) const EXAMINED: usize = 256;
/// For how many that match nothing a near miss is looked for.
const GUESSED: usize = 16;

/// A policy as it was written and as it was understood, and the cluster that it is judged against.
pub struct Subject<'a> {
    pub object: &'a NetworkPolicy,
    pub policy: &'a Policy,
    pub cluster: Option<&'a Cluster>,
    /// The policy before it was typed, where it is at hand; at admission the API server has pruned it already.
    pub written: Option<&'a serde_json::Value>,
    peers: OnceCell<Vec<PeerAt>>,
    dead: OnceCell<Vec<DeadPeer>>,
}

impl<'a> Subject<'a> {
    pub fn new(object: &'a NetworkPolicy, policy: &'a Policy, cluster: Option<&'a Cluster>) -> Self {
        Self {
            object,
            policy,
            cluster,
            written: None,
            peers: OnceCell::new(),
            dead: OnceCell::new(),
        }
    }

    /// The policy's own namespace.
    pub fn namespace(&self) -> &str {
        &self.policy.key.namespace
    }

    /// The peers with selectors that can be understood, and that have an effect.
    pub(super) fn peers(&self) -> &[PeerAt] {
        self.peers
            .get_or_init(|| peers::collect(self.object, self.policy))
    }

    /// The peers that match nothing in the live cluster, of the first [`EXAMINED`]; none without a cluster.
    pub(super) fn dead_peers(&self) -> &[DeadPeer] {
        self.dead.get_or_init(|| {
            let Some(cluster) = self.cluster else {
                return Vec::new();
            };
            let mut dead = Vec::new();
            for peer in self.peers().iter().take(EXAMINED) {
                let guess = dead.len() < GUESSED;
                dead.extend(dead::examine(peer, self.namespace(), cluster, guess));
            }
            dead
        })
    }

    /// How many peers are left out of [`Self::dead_peers`].
    pub(super) fn peers_not_examined(&self) -> usize {
        self.peers().len().saturating_sub(EXAMINED)
    }
}
