//! A map's entries as rows, by its name where something goes wrong; and the maps of one kind for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::row::{Row, bytes, read, widen};
use super::{Error, batch};
use crate::skeleton::types::rf_address;

/// The maps of one kind for each family.
pub(super) struct Families {
    pub(super) v4: (&'static str, MapHandle),
    pub(super) v6: (&'static str, MapHandle),
}

impl Families {
    /// An IPv4 key is the beginning of an IPv6 one; the map for an address, and a key cut to its length.
    pub(super) fn of<'a, K: Row>(&self, address: IpAddr, key: &'a K) -> (&'static str, &MapHandle, &'a [u8]) {
        let (name, map) = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let key = bytes(key);
        (name, map, key.get(..map.key_size() as usize).unwrap_or(key))
    }

    pub(super) fn put<K: Row, V: Row>(&self, address: IpAddr, key: &K, value: &V) -> Result<(), Error> {
        let (name, map, key) = self.of(address, key);
        put_bytes(name, map, key, bytes(value))
    }

    pub(super) fn get<K: Row, V: Row>(&self, address: IpAddr, key: &K) -> Result<Option<V>, Error> {
        let (name, map, key) = self.of(address, key);
        get_bytes(name, map, key)
    }

    pub(super) fn delete<K: Row>(&self, address: IpAddr, key: &K) -> Result<(), Error> {
        let (name, map, key) = self.of(address, key);
        delete_bytes(name, map, key)
    }

    /// Writes many entries, which are all of one family.
    pub(super) fn put_all<K: Row, V: Row>(&self, entries: &[(IpAddr, K, V)]) -> Result<(), Error> {
        let Some((first, ..)) = entries.first() else {
            return Ok(());
        };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (address, key, value) in entries {
            keys.extend_from_slice(self.of(*address, key).2);
            values.extend_from_slice(bytes(value));
        }
        let (map, of) = match first {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        batch::put(of, &keys, &values).map_err(|source| Error::Map { map, source })
    }

    /// Hands out each entry, and whether it is one of IPv6.
    pub(super) fn each<K: Row, V: Row>(&self, mut take: impl FnMut(bool, K, V)) -> Result<(), Error> {
        for ((name, map), six) in [(&self.v4, false), (&self.v6, true)] {
            each(name, map, |key, value| take(six, key, value))?;
        }
        Ok(())
    }
}

/// As the programs have it: an IPv4 address is the first word.
pub(super) fn wire(address: IpAddr) -> rf_address {
    let mut wire = rf_address::default();
    match address {
        IpAddr::V4(v4) => wire.word = [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            for (word, octets) in wire.word.iter_mut().zip(v6.octets().chunks_exact(4)) {
                *word = octets
                    .first_chunk::<4>()
                    .map_or(0, |chunk| u32::from_ne_bytes(*chunk));
            }
        }
    }
    wire
}

pub(super) fn address(wire: &rf_address, six: bool) -> IpAddr {
    if six {
        let mut octets = [0; 16];
        octets.copy_from_slice(bytes(wire));
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        let [first, ..] = wire.word;
        IpAddr::V4(Ipv4Addr::from(first.to_ne_bytes()))
    }
}

pub(super) fn get<K: Row, V: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<Option<V>, Error> {
    get_bytes(map, of, bytes(key))
}

pub(super) fn get_bytes<V: Row>(map: &'static str, of: &MapHandle, key: &[u8]) -> Result<Option<V>, Error> {
    let value = of
        .lookup(key, MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })?;
    Ok(value.and_then(|value| read(&value)))
}

pub(super) fn put<K: Row, V: Row>(
    map: &'static str,
    of: &MapHandle,
    key: &K,
    value: &V,
) -> Result<(), Error> {
    put_bytes(map, of, bytes(key), bytes(value))
}

pub(super) fn put_bytes(map: &'static str, of: &MapHandle, key: &[u8], value: &[u8]) -> Result<(), Error> {
    of.update(key, value, MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })
}

pub(super) fn delete<K: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<(), Error> {
    delete_bytes(map, of, bytes(key))
}

/// It is no error if it is gone.
pub(super) fn delete_bytes(map: &'static str, of: &MapHandle, key: &[u8]) -> Result<(), Error> {
    match of.delete(key) {
        Err(source) if source.kind() != libbpf_rs::ErrorKind::NotFound => Err(Error::Map { map, source }),
        _ => Ok(()),
    }
}

/// Hands out each entry. A key that is shorter than its type, as one of IPv4, is filled up with zeros.
pub(super) fn each<K: Row, V: Row>(
    map: &'static str,
    of: &MapHandle,
    mut take: impl FnMut(K, V),
) -> Result<(), Error> {
    let mut take = |key: &[u8], value: &[u8]| {
        let mut whole = K::default();
        if let (true, Some(value)) = (widen(key, &mut whole), read(value)) {
            take(whole, value);
        }
    };
    let fail = |source| Error::Map { map, source };
    if of.map_type() == MapType::Hash {
        return batch::each(of, take).map_err(fail);
    }
    // A trie has no buckets that a batch could end at.
    for key in of.keys() {
        if let Some(value) = of.lookup(&key, MapFlags::ANY).map_err(fail)? {
            take(&key, &value);
        }
    }
    Ok(())
}
