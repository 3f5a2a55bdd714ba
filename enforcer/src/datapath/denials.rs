//! What was denied: rows that count, and events that tell of the first of a kind.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use ringfence_netpol::policy::Direction;

use super::maps::handle;
use super::proof::CANARY;
use super::row::{REASONS, read};
use super::table::address;
use super::{Error, batch};
use crate::skeleton::DatapathMaps;
use crate::skeleton::types::{rf_denial, rf_denials, rf_direction};

const AF_INET6: u8 = 10;

/// A kind of denied packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Denial {
    /// The pod's veth.
    pub ifindex: u32,
    /// As the pod sees it.
    pub direction: Direction,
    /// By the name that a metric gives it.
    pub reason: &'static str,
    pub peer: IpAddr,
    /// As in an IP header.
    pub protocol: u8,
    /// That the packet went to; 0 if its protocol has none.
    pub port: u16,
}

pub struct Denials {
    rows: MapHandle,
    ring: RingBuffer<'static>,
    told: Arc<Mutex<Vec<Denial>>>,
}

impl Denials {
    pub(super) fn new(maps: &DatapathMaps<'_>) -> Result<Self, Error> {
        let fail = |source| Error::Map {
            map: "events",
            source,
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let taking = Arc::clone(&told);
        let mut builder = RingBufferBuilder::new();
        let take = move |event: &[u8]| {
            if let Some(denial) = read::<rf_denial>(event).and_then(|row| Denial::of(&row)) {
                taking.lock().unwrap_or_else(PoisonError::into_inner).push(denial);
            }
            0
        };
        builder.add(&maps.events, take).map_err(fail)?;
        Ok(Self {
            rows: handle("denied", &maps.denied)?,
            ring: builder.build().map_err(fail)?,
            told,
        })
    }

    /// Waits for the first denials of kinds that were not denied before.
    pub fn wait(&self, at_most: Duration) -> Result<Vec<Denial>, Error> {
        match self.ring.poll(at_most) {
            Err(source) if source.kind() != libbpf_rs::ErrorKind::Interrupted => {
                return Err(Error::Map {
                    map: "events",
                    source,
                });
            }
            _ => {}
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut told))
    }

    /// How many packets of each kind were denied, as far as that is in the table still.
    pub fn each(&self, mut take: impl FnMut(Denial, u64)) -> Result<(), Error> {
        let rows = batch::each(&self.rows, |key, value| {
            let denial = read::<rf_denial>(key).and_then(|row| Denial::of(&row));
            if let (Some(denial), Some(row)) = (denial, read::<rf_denials>(value)) {
                take(denial, row.packets);
            }
        });
        rows.map_err(|source| Error::Map {
            map: "denied",
            source,
        })
    }
}

impl Denial {
    /// `None`: it belongs to the proof that all of this works.
    fn of(row: &rf_denial) -> Option<Self> {
        if row.ifindex == CANARY {
            return None;
        }
        let direction = if u32::from(row.direction) == rf_direction::RF_EGRESS.0 {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        Some(Self {
            ifindex: row.ifindex,
            direction,
            reason: REASONS.get(usize::from(row.reason)).map(|(_, _, name)| *name)?,
            peer: address(&row.peer, row.family == AF_INET6),
            protocol: row.protocol,
            port: u16::from_be(row.port),
        })
    }
}
