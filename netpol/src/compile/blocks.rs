//! The blocks that peers are, to be found by what they hold.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::PeerIx;
use crate::policy::IpBlock;

#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By their `cidr`, with the peer that each is of.
    all: BTreeMap<IpNet, Vec<(PeerIx, IpBlock)>>,
    /// How many keys of these are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Blocks {
    pub(super) fn enter(&mut self, peer: PeerIx, block: &IpBlock) {
        let of_cidr = self.all.entry(block.cidr).or_default();
        if of_cidr.is_empty() {
            *self.lengths.entry(length(block.cidr)).or_default() += 1;
        }
        of_cidr.push((peer, block.clone()));
    }

    pub(super) fn leave(&mut self, peer: PeerIx, block: &IpBlock) {
        if let Some(of_cidr) = self.all.get_mut(&block.cidr) {
            of_cidr.retain(|(of, other)| *of != peer || other != block);
            if of_cidr.is_empty() {
                self.all.remove(&block.cidr);
                let length = length(block.cidr);
                if let Some(count) = self.lengths.get_mut(&length) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&length);
                    }
                }
            }
        }
    }

    /// The peers of those whose `cidr` holds all of a prefix, and of which this is true; some more than once.
    pub(super) fn around(
        &self,
        net: IpNet,
        holds: impl Fn(&IpBlock) -> bool,
    ) -> impl Iterator<Item = PeerIx> {
        let (six, longest) = length(net);
        let lengths = self.lengths.range((six, 0)..=(six, longest));
        let around = lengths.filter_map(move |((_, length), _)| {
            let around = IpNet::new(net.addr(), *length).ok()?.trunc();
            self.all.get(&around)
        });
        let holding = around.flatten().filter(move |(_, block)| holds(block));
        holding.map(|(peer, _)| *peer)
    }
}

/// Where the membership in a block changes.
pub(super) fn edges(block: &IpBlock) -> impl Iterator<Item = IpNet> + '_ {
    std::iter::once(block.cidr).chain(block.except.iter().copied())
}

fn length(net: IpNet) -> (bool, u8) {
    (matches!(net, IpNet::V6(_)), net.prefix_len())
}
