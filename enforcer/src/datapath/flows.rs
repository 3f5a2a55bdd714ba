//! The flows that are remembered: how many of them each pod may have, and which nobody needs any more.
//!
//! The programs count a pod's flows as they come, and put what is beyond its share into another table (`over4`, `over6`), so that a pod
//! which opens flow after flow displaces only what is of pods like itself. They never take a flow out. That is done here, now and then:
//! flows that have ended are removed, and the others counted anew.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenMapMut};

use super::endpoints::{ENDPOINTS, slot};
use super::maps::handle;
use super::proof::CANARY;
use super::row::{Row, widen};
use super::words::Words;
use super::{Error, batch};
use crate::skeleton::types::{rf_flow, rf_flow_flags, rf_flow_key};
use crate::skeleton::{DatapathMaps, OpenDatapathMaps};

/// As declared in maps.h.
const ROOM: [usize; 2] = [262_144, 131_072];
pub const ROOM_OVER: usize = 65_536;
/// A pod may have so many, however many pods there are: with 250 pods on a node all shares together still fit.
const SHARE_AT_LEAST: [usize; 2] = [1024, 512];
/// How often to count at most: it takes some ten milliseconds if the tables are full.
const COUNT_AT_MOST: Duration = Duration::from_secs(5);
const QUOTA_WORDS: usize = 2;
const ANSWERED: u8 = rf_flow_flags::RF_FLOW_ANSWERED.0 as u8;
const CLOSED: u8 = rf_flow_flags::RF_FLOW_CLOSED.0 as u8;

pub struct Flows {
    tables: [Table; 4],
    quota: Words,
    share: Words,
}

struct Table {
    name: &'static str,
    map: MapHandle,
    family: usize,
    over: bool,
}

/// What a count found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Flows in `ct4`, `ct6`, `over4` and `over6`.
    pub entries: [usize; 4],
    /// ... and how many of each were removed, since they had ended.
    pub removed: [usize; 4],
    /// Pods that have more than their share.
    pub over: usize,
}

/// The maps that hold them, by their names.
pub(super) fn tables_of<'a, 'obj>(
    maps: &'a mut OpenDatapathMaps<'obj>,
) -> [(&'static str, &'a mut OpenMapMut<'obj>); 7] {
    [
        ("ct4", &mut maps.ct4),
        ("ct6", &mut maps.ct6),
        ("over4", &mut maps.over4),
        ("over6", &mut maps.over6),
        ("quota", &mut maps.quota),
        ("share", &mut maps.share),
        ("frag", &mut maps.frag),
    ]
}

impl Flows {
    pub(super) fn new(maps: &DatapathMaps<'_>) -> Result<Self, Error> {
        let table = |name, map, family, over| {
            Ok::<_, Error>(Table {
                name,
                map: handle(name, map)?,
                family,
                over,
            })
        };
        Ok(Self {
            tables: [
                table("ct4", &maps.ct4, 0, false)?,
                table("ct6", &maps.ct6, 1, false)?,
                table("over4", &maps.over4, 0, true)?,
                table("over6", &maps.over6, 1, true)?,
            ],
            quota: Words::map("quota", maps.quota.as_fd(), ENDPOINTS * QUOTA_WORDS)?,
            share: Words::map("share", maps.share.as_fd(), ROOM.len())?,
        })
    }

    /// The tables' names, and how many flows they have room for.
    pub fn room(&self) -> [(&'static str, usize); 4] {
        let [ct4, ct6] = ROOM;
        let rooms = [ct4, ct6, ROOM_OVER, ROOM_OVER];
        std::array::from_fn(|index| (self.tables[index].name, rooms[index]))
    }

    /// Divides three quarters of the tables among so many pods.
    pub fn divide(&self, pods: usize) {
        for (family, (room, least)) in ROOM.into_iter().zip(SHARE_AT_LEAST).enumerate() {
            self.set_share(family, (room / 4 * 3 / pods.max(1)).max(least));
        }
    }

    pub fn set_share(&self, family: usize, share: usize) {
        if self.share.load(family) != share as u64 {
            self.share.store(family, share as u64);
        }
    }

    /// Whether a pod comes near its share, or is beyond it.
    pub fn is_count_due(&self, last: Option<Instant>) -> bool {
        if last.is_some_and(|last| last.elapsed() < COUNT_AT_MOST) {
            return false;
        }
        let shares = [0, 1].map(|family| self.share.load(family));
        (0..ENDPOINTS).any(|slot| {
            let flows = halves(self.quota.load(slot * QUOTA_WORDS));
            self.quota.load(slot * QUOTA_WORDS + 1) != 0
                || flows
                    .into_iter()
                    .zip(shares)
                    .any(|(flows, share)| share > 0 && u64::from(flows) >= share / 4 * 3)
        })
    }

    /// Removes what has ended, and counts what there is.
    pub fn count(&self) -> Result<Counted, Error> {
        self.count_ahead(Duration::ZERO, || ())
    }

    /// The same, as if it were later by `ahead`. `meanwhile` happens after it was seen what has ended, and before that is removed.
    pub fn count_ahead(&self, ahead: Duration, mut meanwhile: impl FnMut()) -> Result<Counted, Error> {
        let before: Vec<u64> = (0..ENDPOINTS)
            .map(|slot| self.quota.load(slot * QUOTA_WORDS))
            .collect();
        let mut counted = Counted::default();
        let mut found: BTreeMap<u32, ([u32; 2], [bool; 2])> = BTreeMap::new();
        let sums = counted.entries.iter_mut().zip(&mut counted.removed);
        for (table, (entries, removed)) in self.tables.iter().zip(sums) {
            let now = now() + ahead;
            let mut ended = Vec::new();
            table.each(|key, flow, raw| {
                if has_ended(&key, &flow, now) {
                    ended.push((raw.to_vec(), flow.seen));
                    return;
                }
                *entries += 1;
                let (flows, over) = found.entry(slot(key.ifindex)).or_default();
                if table.over {
                    over[table.family] = true;
                } else {
                    flows[table.family] += 1;
                }
            })?;
            meanwhile();
            for (key, seen) in ended {
                *removed += usize::from(table.remove(&key, seen)?);
            }
        }
        let shares = [0, 1].map(|family| self.share.load(family));
        for (slot, before) in before.into_iter().enumerate() {
            let (flows, over) = found.remove(&(slot as u32)).unwrap_or_default();
            let before = halves(before);
            if before != flows {
                // What came in the meantime counts too.
                self.quota.change(slot * QUOTA_WORDS, |current| {
                    let current = halves(current);
                    let mended = |family: usize| {
                        flows[family].saturating_add(current[family].saturating_sub(before[family]))
                    };
                    u64::from(mended(0)) | u64::from(mended(1)) << 32
                });
            }
            let flagged = self.quota.load(slot * QUOTA_WORDS + 1);
            if flagged != 0 {
                counted.over += 1;
                // Only of a pod that is well within its share: of another one, some may have come just now.
                let within = |family: usize| !over[family] && u64::from(flows[family]) < shares[family] / 2;
                self.quota.change(slot * QUOTA_WORDS + 1, |current| {
                    let [four, six] = halves(current);
                    let keep = |family, flag: u32| u64::from(if within(family) { 0 } else { flag });
                    keep(0, four) | keep(1, six) << 32
                });
            }
        }
        Ok(counted)
    }

    /// How far each TCP connection has come: whether it was answered, and ended.
    pub fn states(&self) -> Result<Vec<(bool, bool)>, Error> {
        let mut states = Vec::new();
        for table in &self.tables {
            table.each(|key, flow, _| {
                if key.protocol == 6 {
                    states.push((flow.flags & ANSWERED != 0, flow.flags & CLOSED != 0));
                }
            })?;
        }
        Ok(states)
    }

    /// The highest generation that a flow was judged at; 0 if there are none.
    pub fn newest_generation(&self) -> Result<u32, Error> {
        let mut newest = 0;
        for table in &self.tables {
            table.each(|key, flow, _| {
                if key.ifindex != CANARY {
                    newest = newest.max(flow.r#gen);
                }
            })?;
        }
        Ok(newest)
    }

    /// Forgets how many a pod had that is gone.
    pub(super) fn forget(&self, ifindex: u32) {
        let first = slot(ifindex) as usize * QUOTA_WORDS;
        self.quota.store(first, 0);
        self.quota.store(first + 1, 0);
    }
}

impl Table {
    /// Hands out each flow, and its key as the map has it.
    fn each(&self, mut take: impl FnMut(rf_flow_key, rf_flow, &[u8])) -> Result<(), Error> {
        batch::each(&self.map, |key, value| {
            if let (Some(flow_key), Some(flow)) = (widened(key), widened(value)) {
                take(flow_key, flow, key);
            }
        })
        .map_err(|source| self.error(source))
    }

    /// Removes a flow, unless it was seen again since. That is known only when it is out; it is then put back.
    fn remove(&self, key: &[u8], seen: u64) -> Result<bool, Error> {
        let removed = match self.map.lookup_and_delete(key) {
            Ok(removed) => removed,
            Err(source) if source.kind() == libbpf_rs::ErrorKind::NotFound => None,
            Err(source) => return Err(self.error(source)),
        };
        let Some(value) = removed else {
            return Ok(false);
        };
        if widened::<rf_flow>(&value).is_some_and(|flow| flow.seen != seen) {
            match self.map.update(key, &value, MapFlags::NO_EXIST) {
                Err(source) if source.kind() != libbpf_rs::ErrorKind::AlreadyExists => {
                    return Err(self.error(source));
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn error(&self, source: libbpf_rs::Error) -> Error {
        Error::Map {
            map: self.name,
            source,
        }
    }
}

/// An IPv4 key or value is the beginning of an IPv6 one.
fn widened<T: Row>(short: &[u8]) -> Option<T> {
    let mut whole = T::default();
    widen(short, &mut whole).then_some(whole)
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// Whether nothing that belongs to it is to be expected any more. Longer than in conntrack.h no flow is remembered; a TCP connection
/// that was ended, or never answered, not as long.
fn has_ended(key: &rf_flow_key, flow: &rf_flow, now: Duration) -> bool {
    let lifetime = match key.protocol {
        6 if flow.flags & CLOSED != 0 || flow.flags & ANSWERED == 0 => 120,
        6 => 21_600,
        17 => 180,
        1 | 58 => 60,
        _ => 600,
    };
    now.saturating_sub(Duration::from_nanos(flow.seen)) > Duration::from_secs(lifetime)
}

/// By the clock of the programs.
fn now() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `clock_gettime` fills the structure if it returns 0, which is checked before it is read.
    unsafe {
        if libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) != 0 {
            return Duration::ZERO;
        }
        let time = time.assume_init();
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_over_or_was_never_answered_is_not_remembered_for_hours() {
        let key = |protocol| rf_flow_key {
            protocol,
            ..rf_flow_key::default()
        };
        let flow = |flags| rf_flow {
            flags,
            ..rf_flow::default()
        };
        let after = Duration::from_secs;
        assert!(has_ended(&key(6), &flow(0), after(121)));
        assert!(has_ended(&key(6), &flow(ANSWERED | CLOSED), after(121)));
        assert!(!has_ended(&key(6), &flow(ANSWERED), after(20_000)));
        assert!(has_ended(&key(6), &flow(ANSWERED), after(21_601)));
        assert!(!has_ended(&key(17), &flow(0), after(179)) && has_ended(&key(17), &flow(0), after(181)));
    }
}
