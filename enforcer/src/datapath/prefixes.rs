//! Prefixes of IPv4: in the kernel's own table, which is what counts and is read back, and in the tree that the programs look them up in
//! (`encode::tree`), which follows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;

use super::Error;
use super::maps::KernelMaps;
use super::table::{address, wire};
use super::words::Words;
use crate::encode::state::{Sides, Write};
use crate::encode::tree::{self, At, LINE_WORDS, Memory, Prefix, SIZE, Tree};
use crate::skeleton::types::{self, rf_class, rf_prefix_key};

const _: () = {
    assert!(types::rf_tree_kind::RF_TREE_ONE.0 == tree::kind::ONE);
    assert!(types::rf_tree_kind::RF_TREE_FEW.0 == tree::kind::FEW);
    assert!(types::rf_tree_kind::RF_TREE_MANY.0 == tree::kind::MANY);
    assert!(types::rf_tree_kind::RF_TREE_ASK.0 == tree::kind::ASK);
};

impl Memory for Words {
    fn load(&self, at: usize) -> u64 {
        Words::load(self, at)
    }

    fn store(&self, at: usize, value: u64) {
        Words::store(self, at, value);
    }
}

/// The tree in memory for as long as it is needed: 5 MiB that seldom change.
struct TreeMaps {
    lines: Words,
    places: Words,
}

impl TreeMaps {
    fn at(&self) -> At<'_> {
        At {
            lines: &self.lines,
            places: &self.places,
        }
    }
}

impl KernelMaps {
    fn tree_maps(&self) -> Result<TreeMaps, Error> {
        Ok(TreeMaps {
            lines: Words::map("tree4", self.tree4.as_fd(), SIZE.lines * LINE_WORDS)?,
            places: Words::map("class4", self.class4.as_fd(), SIZE.places)?,
        })
    }

    fn tree(&self) -> MutexGuard<'_, Option<Tree>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All prefixes that the kernel's tables hold.
    pub(super) fn prefixes(&self) -> Result<BTreeMap<IpNet, Sides>, Error> {
        let mut prefixes = BTreeMap::new();
        self.cidr.each(|six, key: rf_prefix_key, class: rf_class| {
            if let Ok(prefix) = IpNet::new(address(&key.address, six), key.length as u8) {
                prefixes.insert(prefix, class.side);
            }
        })?;
        Ok(prefixes)
    }

    /// Makes the tree what the kernel's table is, whatever it was: who wrote both before may have been killed between the two.
    pub(super) fn resume_tree(&self, prefixes: &BTreeMap<IpNet, Sides>) -> Result<(), Error> {
        let maps = self.tree_maps()?;
        let prefixes = prefixes
            .iter()
            .filter_map(|(net, sides)| Some((of_four(net)?, *sides)));
        *self.tree() = Some(Tree::resume(SIZE, prefixes, maps.at(), Instant::now));
        Ok(())
    }

    /// Brings into the tree what it had no room for, if there is some by now.
    pub(super) fn settle_tree(&self) -> Result<(), Error> {
        if let Some(tree) = self.tree().as_mut().filter(|tree| tree.asking() > 0) {
            tree.settle(self.tree_maps()?.at(), Instant::now);
        }
        Ok(())
    }

    /// Writes prefixes, or takes them out. If that fails, the tree may not follow until it is resumed.
    pub(super) fn write_prefixes(&self, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            match write {
                Write::Prefix(net, side) => {
                    self.cidr
                        .put(net.addr(), &prefix_key(net), &rf_class { side: *side })?;
                }
                Write::DropPrefix(net) => self.cidr.delete(net.addr(), &prefix_key(net))?,
                _ => {}
            }
        }
        let mut changed = writes.iter().filter_map(|write| match write {
            Write::Prefix(net, sides) => Some((of_four(net)?, Some(*sides))),
            Write::DropPrefix(net) => Some((of_four(net)?, None)),
            _ => None,
        });
        let Some(first) = changed.next() else {
            return Ok(());
        };
        let mut tree = self.tree();
        let Some(tree) = tree.as_mut() else {
            drop(tree);
            return self.resume_tree(&self.prefixes()?);
        };
        let maps = self.tree_maps()?;
        let now = Instant::now();
        for (prefix, sides) in [first].into_iter().chain(changed) {
            match sides {
                Some(sides) => tree.put(prefix, sides, maps.at(), now),
                None => tree.remove(prefix),
            }
        }
        tree.settle(maps.at(), Instant::now);
        Ok(())
    }
}

/// Nothing of IPv6.
fn of_four(net: &IpNet) -> Option<Prefix> {
    match net.network() {
        IpAddr::V4(network) => Some((u32::from(network), net.prefix_len())),
        IpAddr::V6(_) => None,
    }
}

fn prefix_key(prefix: &IpNet) -> rf_prefix_key {
    rf_prefix_key {
        length: u32::from(prefix.prefix_len()),
        address: wire(prefix.network()),
    }
}
