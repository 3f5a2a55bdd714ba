//! The maps that hold what the programs know, as one value, and what can be asked of all of them.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Mutex;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};

use super::Error;
use super::endpoints::{ENDPOINT_WORDS, ENDPOINTS};
use super::flows::Flows;
use super::near::NEAR;
use super::row::{REASONS, TALLIES, bytes, is_recorded, read};
use super::table::Families;
use super::words::Words;
use crate::encode::plan::Room;
use crate::encode::tree::Tree;
use crate::skeleton::DatapathMaps;

/// As declared in maps.h.
pub const ROOM: Room = Room {
    addresses: 131_072,
    prefixes: 65_536,
    decisions: 2_097_152,
    services: 65_536,
};

pub struct KernelMaps {
    pub(super) ep: MapHandle,
    pub(super) pod: Families,
    pub(super) near: Words,
    pub(super) cidr: Families,
    pub(super) tree4: MapHandle,
    pub(super) class4: MapHandle,
    /// What `tree4` holds; nothing while that is not known.
    pub(super) tree: Mutex<Option<Tree>>,
    pub(super) dec: MapHandle,
    pub(super) vip: Families,
    pub(super) local: Families,
    cnt: MapHandle,
    pub flows: Flows,
    pub(super) endpoints: Words,
    pub(super) pcls: MapHandle,
    pub(super) pset: MapHandle,
    pub(super) seen: Words,
    pub(super) seen_too: MapHandle,
    /// Held while an element of `ep` is read and then written: two threads do. The interfaces whose element, and what else names them,
    /// this process has written.
    pub(super) bound: Mutex<BTreeSet<u32>>,
    /// Every map, to ask how much memory it takes up.
    all: Vec<(&'static str, MapHandle)>,
}

impl KernelMaps {
    pub(super) fn new(maps: &DatapathMaps<'_>) -> Result<Self, Error> {
        let families = |v4: (&'static str, &MapMut<'_>), v6: (&'static str, &MapMut<'_>)| {
            Ok::<_, Error>(Families {
                v4: (v4.0, handle(v4.0, v4.1)?),
                v6: (v6.0, handle(v6.0, v6.1)?),
            })
        };
        Ok(Self {
            endpoints: Words::map("ep", maps.ep.as_fd(), ENDPOINTS * ENDPOINT_WORDS)?,
            pcls: handle("pcls", &maps.pcls)?,
            pset: handle("pset", &maps.pset)?,
            ep: handle("ep", &maps.ep)?,
            near: Words::map("near4", maps.near4.as_fd(), NEAR)?,
            pod: families(("pod4", &maps.pod4), ("pod6", &maps.pod6))?,
            cidr: families(("cidr4", &maps.cidr4), ("cidr6", &maps.cidr6))?,
            tree4: handle("tree4", &maps.tree4)?,
            class4: handle("class4", &maps.class4)?,
            tree: Mutex::default(),
            dec: handle("dec", &maps.dec)?,
            vip: families(("vip4", &maps.vip4), ("vip6", &maps.vip6))?,
            local: families(("local4", &maps.local4), ("local6", &maps.local6))?,
            cnt: handle("cnt", &maps.cnt)?,
            seen: Words::map("seen", maps.seen.as_fd(), ENDPOINTS + 1)?,
            seen_too: handle("seen_too", &maps.seen_too)?,
            flows: Flows::new(maps)?,
            bound: Mutex::default(),
            all: every(maps)?,
        })
    }

    /// How many packets there were for each of [`REASONS`], and then how much of each of [`TALLIES`].
    pub fn counts(&self) -> Result<Vec<u64>, Error> {
        (0..(REASONS.len() + TALLIES.len()) as u32)
            .map(|index| {
                let per_cpu = self.cnt.lookup_percpu(bytes(&index), MapFlags::ANY);
                let per_cpu = per_cpu
                    .map_err(|source| Error::Map { map: "cnt", source })?
                    .unwrap_or_default();
                Ok(per_cpu.iter().filter_map(|count| read::<u64>(count)).sum())
            })
            .collect()
    }

    /// How many packets fell of which it is known what they were.
    pub fn recorded_drops(&self) -> Result<u64, Error> {
        let counts = self.counts()?;
        let recorded = REASONS.into_iter().zip(counts);
        Ok(recorded
            .filter(|((why, ..), _)| is_recorded(*why))
            .map(|(_, count)| count)
            .sum())
    }

    /// How much of the kernel's memory each map takes up, in bytes.
    pub fn memory(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let memory = self.all.iter().map(|(name, map)| {
            let info = map
                .query_fdinfo()
                .map_err(|source| Error::Map { map: name, source })?;
            Ok((*name, info.memlock.unwrap_or_default()))
        });
        memory.collect()
    }
}

pub(super) fn handle(map: &'static str, of: &MapMut<'_>) -> Result<MapHandle, Error> {
    MapHandle::try_from(of).map_err(|source| Error::Map { map, source })
}

macro_rules! every_map {
    ($maps:ident: $($name:ident)*) => { vec![$((stringify!($name), handle(stringify!($name), &$maps.$name)?)),*] };
}

fn every(maps: &DatapathMaps<'_>) -> Result<Vec<(&'static str, MapHandle)>, Error> {
    Ok(
        every_map!(maps: ep seen seen_too ct4 ct6 over4 over6 quota share pod4 near4 pod6 cidr4 cidr6 tree4 class4 dec pcls pset vip4 vip6 local4 local6 frag denied events pace recent tick cnt),
    )
}
