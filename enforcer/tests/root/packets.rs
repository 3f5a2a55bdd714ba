//! Packets, byte by byte.

use std::net::Ipv4Addr;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// An Ethernet frame.
pub fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An IPv4 packet in the making.
#[derive(Clone)]
pub struct Ip {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub options: Vec<u8>,
    pub id: u16,
    pub more: bool,
    /// In units of 8 bytes.
    pub offset: u16,
}

impl Ip {
    pub fn new(from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self {
            from,
            to,
            options: vec![],
            id: 1,
            more: false,
            offset: 0,
        }
    }

    pub fn answer(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            ..self.clone()
        }
    }

    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend(((header + payload.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend((u16::from(self.more) << 13 | self.offset).to_be_bytes());
        bytes.extend([64, protocol, 0, 0]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        bytes.extend(&self.options);
        bytes.extend(payload);
        bytes
    }

    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        frame(0x0800, &self.packet(protocol, payload))
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

    /// With an identifier, as an echo (8) or its answer (0) has.
    pub fn icmp(&self, kind: u8, id: u16) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        self.raw(1, &[kind, 0, 0, 0, high, low, 0, 1])
    }

    /// "Unreachable", about a packet.
    pub fn unreachable(&self, about: &[u8]) -> Vec<u8> {
        let mut payload = vec![3, 3, 0, 0, 0, 0, 0, 0];
        payload.extend(&about[..about.len().min(28)]);
        self.raw(1, &payload)
    }
}

pub fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    bytes
}

pub fn udp(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    bytes
}
