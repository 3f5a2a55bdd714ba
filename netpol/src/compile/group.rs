//! What rules name, in groups that no rule tells apart.

use crate::policy::{IpBlock, Namespaces, Peer};
use crate::selector::Selector;

/// Peers that a rule names together, so that who is one of them needs no more than one class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerGroup {
    Pods {
        namespaces: Namespaces,
        pods: Selector,
    },
    /// Addresses in any of these; sorted, without repetition.
    Blocks(Vec<IpBlock>),
}

impl PeerGroup {
    /// A list of more blocks than this is one group. Lists of allowed addresses are thousands long and belong to one rule, for which
    /// thousands of classes would all mean the same. Short lists name what others name too, all addresses or those of all pods:
    /// that is one group for all of them, and another rule that names it changes nobody's class.
    const FEW_BLOCKS: usize = 8;

    /// The groups of the peers of one rule, sorted and without repetition.
    pub(super) fn of(peers: &[Peer]) -> Vec<Self> {
        let mut blocks: Vec<&IpBlock> = Vec::new();
        let mut groups: Vec<Self> = Vec::new();
        for peer in peers {
            match peer {
                Peer::Block(block) => blocks.push(block),
                Peer::Pods { namespaces, pods } => groups.push(Self::Pods {
                    namespaces: namespaces.clone(),
                    pods: pods.clone(),
                }),
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        let few = blocks.len() <= Self::FEW_BLOCKS;
        let together = blocks.chunks(if few { 1 } else { blocks.len() });
        groups.extend(together.map(|blocks| Self::Blocks(blocks.iter().copied().cloned().collect())));
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}
