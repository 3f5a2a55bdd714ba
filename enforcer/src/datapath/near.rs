//! Where among all addresses of IPv4 there are pods': a bit for each value of the first 16 bits. It is set before the first of those
//! addresses is in `pod4`, and stays until an agent starts anew, so it never says that there is none where there is one.

use std::net::IpAddr;

use super::maps::KernelMaps;

/// In words.
pub(super) const NEAR: usize = (1 << 16) / 64;

impl KernelMaps {
    /// Before a pod's address is written.
    pub(super) fn note_near(&self, address: IpAddr) {
        if let Some((word, bit)) = place(address) {
            let before = self.near.load(word);
            if before & bit == 0 {
                self.near.store(word, before | bit);
            }
        }
    }

    /// Says that there are no others than these, which are all that `pod4` holds.
    pub(super) fn resume_near<'a>(&self, addresses: impl Iterator<Item = &'a IpAddr>) {
        let mut near = vec![0; NEAR];
        for (word, bit) in addresses.filter_map(|address| place(*address)) {
            if let Some(word) = near.get_mut(word) {
                *word |= bit;
            }
        }
        for (index, word) in near.into_iter().enumerate() {
            if self.near.load(index) != word {
                self.near.store(index, word);
            }
        }
    }
}

/// The word and the bit in it.
fn place(address: IpAddr) -> Option<(usize, u64)> {
    match address {
        IpAddr::V4(v4) => {
            let near = u32::from(v4) >> 16;
            Some((near as usize / 64, 1 << (near % 64)))
        }
        IpAddr::V6(_) => None,
    }
}
