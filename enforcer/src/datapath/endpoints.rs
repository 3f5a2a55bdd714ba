//! The pods' veths, as the programs know them: an element of `ep` each, which names the pod's addresses and, in one word, its rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{MutexGuard, PoisonError};

use super::maps::KernelMaps;
use super::table::{address, delete, get, put, wire};
use super::{EndpointRow, Error};
use crate::addresses::Addresses;
use crate::skeleton::types::rf_endpoint_flags;

pub(super) const ENDPOINTS: usize = 65_536;
/// An element of `ep` in words, and the place of an endpoint's word in it.
pub(super) const ENDPOINT_WORDS: usize = size_of::<EndpointRow>() / 8;
pub(super) const ENDPOINT_WORD: usize = 1;
/// The places of the words that say whose an endpoint is: interface and IPv4 address, way and flags, IPv6 address.
pub(super) const ENDPOINT_ADDRESS4: usize = 0;
const ENDPOINT_VIA: usize = 2;
const ENDPOINT_ADDRESS6: usize = 3;
/// The element of `seen` that is no interface's.
const ARMED: usize = ENDPOINTS;
const LAX: u32 = rf_endpoint_flags::RF_ENDPOINT_LAX.0;

/// The host's end of a pod's veth, as the kernel side knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub ifindex: u32,
    /// None while the pod is not known.
    pub addresses: Addresses,
    /// Where the node receives the pod's packets.
    pub via: u32,
    /// While nothing isolates the pod, it may send from any address.
    pub lax: bool,
}

impl KernelMaps {
    /// All endpoints that the kernel side knows.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, Error> {
        let mut found = Vec::new();
        for slot in 0..ENDPOINTS {
            // Its first word is the interface and the address: not 0 if there is one.
            if self.endpoints.load(slot * ENDPOINT_WORDS) == 0 {
                continue;
            }
            if let Some(row) = get::<u32, EndpointRow>("ep", &self.ep, &(slot as u32))? {
                found.push(Endpoint {
                    ifindex: row.ifindex,
                    addresses: addresses(&row),
                    via: row.via,
                    lax: row.flags & LAX != 0,
                });
            }
        }
        Ok(found)
    }

    /// Says that an interface was looked at: it has filters now, or is no pod's. Until then the node forwards nothing from or to it, if
    /// it is a veth (newborn.h).
    pub fn look_at(&self, ifindex: u32) {
        if !self.seen.claim(slot(ifindex) as usize, u64::from(ifindex))
            && let Err(error) = put("seen_too", &self.seen_too, &ifindex, &1_u32)
        {
            tracing::error!(ifindex, %error, "an interface stays closed, since it cannot be noted that it was looked at");
        }
    }

    /// Forgets an interface that is gone: the next one with its index is another.
    pub fn look_away(&self, ifindex: u32) {
        let forget = |of| if of == u64::from(ifindex) { 0 } else { of };
        self.seen.change(slot(ifindex) as usize, forget);
        if let Err(error) = delete("seen_too", &self.seen_too, &ifindex) {
            tracing::error!(ifindex, %error, "an interface that is gone counts as looked at");
        }
    }

    /// Whether an interface was looked at.
    pub fn is_looked_at(&self, ifindex: u32) -> bool {
        let too = || get::<u32, u32>("seen_too", &self.seen_too, &ifindex);
        self.seen.load(slot(ifindex) as usize) == u64::from(ifindex)
            || too().is_ok_and(|found| found.is_some())
    }

    /// From now on veths that nobody looked at are closed.
    pub fn arm(&self) {
        self.seen.store(ARMED, 1);
    }

    /// Whether veths that nobody looked at are closed.
    pub fn is_armed(&self) -> bool {
        self.seen.load(ARMED) != 0
    }

    /// Nobody else writes an element meanwhile. Which of them are bound, all of it, by this process.
    fn alone(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an endpoint, closed until it gets its word. One that is there stays as it is.
    pub fn admit(&self, ifindex: u32) -> Result<(), Error> {
        let _alone = self.alone();
        let slot = slot(ifindex);
        // Asked at every look for every pod: without a system call.
        if self
            .endpoints
            .load(slot as usize * ENDPOINT_WORDS + ENDPOINT_ADDRESS4) as u32
            == ifindex
        {
            return Ok(());
        }
        match get::<u32, EndpointRow>("ep", &self.ep, &slot)? {
            Some(row) if row.ifindex != 0 => Err(Error::Taken {
                ifindex,
                taken: row.ifindex,
            }),
            _ => put(
                "ep",
                &self.ep,
                &slot,
                &EndpointRow {
                    ifindex,
                    via: ifindex,
                    ..EndpointRow::default()
                },
            ),
        }
    }

    /// Says whose the endpoint is. Its word is kept; an endpoint whose pod changes must be closed before.
    pub fn bind(&self, endpoint: Endpoint) -> Result<(), Error> {
        if endpoint.addresses.is_empty() {
            return Ok(());
        }
        let mut bound = self.alone();
        let index = slot(endpoint.ifindex);
        let first = index as usize * ENDPOINT_WORDS;
        let v4 = endpoint
            .addresses
            .v4
            .map_or(0, |v4| u32::from_ne_bytes(v4.octets()));
        let v6 = endpoint.addresses.v6.map_or([0; 16], |v6| v6.octets());
        let (low, high) = v6.split_at(8);
        let word = |octets: &[u8]| {
            octets
                .first_chunk::<8>()
                .map_or(0, |chunk| u64::from_ne_bytes(*chunk))
        };
        let flags = if endpoint.lax { LAX } else { 0 };
        let words = [
            (
                ENDPOINT_ADDRESS4,
                u64::from(endpoint.ifindex) | u64::from(v4) << 32,
            ),
            (ENDPOINT_VIA, u64::from(endpoint.via) | u64::from(flags) << 32),
            (ENDPOINT_ADDRESS6, word(low)),
            (ENDPOINT_ADDRESS6 + 1, word(high)),
        ];
        let is_so = |(at, value): &(usize, u64)| self.endpoints.load(first + at) == *value;
        if bound.contains(&endpoint.ifindex) && words.iter().all(is_so) {
            return Ok(());
        }
        bound.remove(&endpoint.ifindex);
        let row = get::<u32, EndpointRow>("ep", &self.ep, &index)?.unwrap_or_default();
        let before = addresses(&row);
        for gone in before
            .iter()
            .filter(|old| endpoint.addresses.iter().all(|new| new != *old))
        {
            self.forget_local(gone, endpoint.ifindex)?;
        }
        // In words, so that the programs never meet half of one; and only those that change.
        for (at, value) in words.iter().filter(|word| !is_so(word)) {
            self.endpoints.store(first + at, *value);
        }
        for address in endpoint.addresses.iter() {
            self.local.put(address, &wire(address), &endpoint.ifindex)?;
        }
        bound.insert(endpoint.ifindex);
        Ok(())
    }

    /// Forgets an endpoint whose interface is gone or is not a pod's.
    pub fn evict(&self, ifindex: u32) -> Result<(), Error> {
        let mut bound = self.alone();
        bound.remove(&ifindex);
        let index = slot(ifindex);
        let Some(row) = get::<u32, EndpointRow>("ep", &self.ep, &index)?.filter(|row| row.ifindex == ifindex)
        else {
            return Ok(());
        };
        for address in addresses(&row).iter() {
            self.forget_local(address, ifindex)?;
        }
        put("ep", &self.ep, &index, &EndpointRow::default())?;
        self.flows.forget(ifindex);
        Ok(())
    }

    /// An address may be another endpoint's by now.
    fn forget_local(&self, address: IpAddr, ifindex: u32) -> Result<(), Error> {
        let key = wire(address);
        if self.local.get::<_, u32>(address, &key)? == Some(ifindex) {
            self.local.delete(address, &key)?;
        }
        Ok(())
    }

    /// The addresses of the pod behind a veth.
    pub fn addresses_of(&self, ifindex: u32) -> Result<Addresses, Error> {
        let row = get::<u32, EndpointRow>("ep", &self.ep, &slot(ifindex))?;
        Ok(row
            .filter(|row| row.ifindex == ifindex)
            .map(|row| addresses(&row))
            .unwrap_or_default())
    }
}

pub(super) fn slot(ifindex: u32) -> u32 {
    ifindex % ENDPOINTS as u32
}

fn addresses(row: &EndpointRow) -> Addresses {
    let v4 = (row.address4 != 0).then(|| Ipv4Addr::from(row.address4.to_ne_bytes()));
    let v6 = (row.address6.word != [0; 4]).then(|| address(&row.address6, true));
    v4.map(IpAddr::V4).into_iter().chain(v6).collect()
}
