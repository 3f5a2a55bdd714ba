//! IPv6 packets, byte by byte, with whatever headers somebody could think of.

use std::net::Ipv6Addr;

use super::packets::{frame, tcp, udp};

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const DESTINATION: u8 = 60;

/// An extension header: its kind, and its bytes, of which the first (the next header) is filled in.
#[derive(Clone)]
pub struct Extension(pub u8, pub Vec<u8>);

/// Options that are only padding, of a kind, so many times 8 bytes long.
pub fn padding(kind: u8, length: u8) -> Extension {
    let mut bytes = vec![0, length - 1];
    bytes.resize(usize::from(length) * 8, 0);
    Extension(kind, bytes)
}

/// Hop-by-hop options with the router alert, as listener reports have it.
pub fn alert() -> Extension {
    Extension(HOP_BY_HOP, vec![0, 0, 5, 2, 0, 0, 1, 0])
}

/// Hop-by-hop options that say how long a jumbogram is.
pub fn jumbo(length: u32) -> Extension {
    let mut bytes = vec![0, 0, 0xc2, 4];
    bytes.extend(length.to_be_bytes());
    Extension(HOP_BY_HOP, bytes)
}

pub fn routing(segments_left: u8) -> Extension {
    let mut bytes = vec![0, 2, 0, segments_left];
    bytes.resize(24, 0);
    Extension(ROUTING, bytes)
}

pub fn authentication() -> Extension {
    let mut bytes = vec![0, 4];
    bytes.resize(24, 7);
    Extension(AUTHENTICATION, bytes)
}

/// `offset` in units of 8 bytes.
pub fn fragment(id: u32, offset: u16, more: bool) -> Extension {
    let mut bytes = vec![0, 0];
    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    Extension(FRAGMENT, bytes)
}

/// An IPv6 packet in the making.
#[derive(Clone)]
pub struct Ip6 {
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    pub hop_limit: u8,
    pub extensions: Vec<Extension>,
}

impl Ip6 {
    pub fn new(from: Ipv6Addr, to: Ipv6Addr) -> Self {
        Self {
            from,
            to,
            hop_limit: 64,
            extensions: vec![],
        }
    }

    pub fn answer(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            ..self.clone()
        }
    }

    pub fn extended(&self, extensions: impl IntoIterator<Item = Extension>) -> Self {
        Self {
            extensions: extensions.into_iter().collect(),
            ..self.clone()
        }
    }

    pub fn hops(&self, hop_limit: u8) -> Self {
        Self {
            hop_limit,
            ..self.clone()
        }
    }

    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length: usize = self.extensions.iter().map(|extension| extension.1.len()).sum();
        let kinds: Vec<u8> = self.extensions.iter().map(|extension| extension.0).collect();
        let mut next = kinds.into_iter().chain([protocol]);
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(((length + payload.len()) as u16).to_be_bytes());
        bytes.extend([next.next().unwrap(), self.hop_limit]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        for Extension(_, header) in &self.extensions {
            bytes.push(next.next().unwrap());
            bytes.extend(&header[1..]);
        }
        bytes.extend(payload);
        bytes
    }

    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        frame(0x86dd, &self.packet(protocol, payload))
    }

    pub fn tcp(&self, from: u16, to: u16, flags: u8) -> Vec<u8> {
        self.raw(6, &tcp(from, to, flags))
    }

    pub fn udp(&self, from: u16, to: u16) -> Vec<u8> {
        self.raw(17, &udp(from, to))
    }

    pub fn sctp(&self, from: u16, to: u16) -> Vec<u8> {
        self.raw(132, &udp(from, to))
    }

    /// With an identifier, as an echo (128) or its answer (129) has.
    pub fn icmp(&self, kind: u8, id: u16) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        self.raw(58, &[kind, 0, 0, 0, high, low, 0, 1])
    }

    /// A neighbour's advertisement of an address.
    pub fn advertise(&self, target: Ipv6Addr) -> Vec<u8> {
        let mut payload = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        payload.extend(target.octets());
        self.raw(58, &payload)
    }

    /// An error, such as "packet too big" (2), about a packet.
    pub fn error(&self, kind: u8, about: &[u8]) -> Vec<u8> {
        let mut payload = vec![kind, 0, 0, 0, 0, 0, 5, 0];
        payload.extend(about);
        self.raw(58, &payload)
    }
}
