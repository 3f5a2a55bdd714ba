//! As what a pod's neighbours know the node, and how it tells them so.
//!
//! While filters are put at a veth that is up, the kernel drops for a moment what is sent to the pod: a qdisc is made there, and meanwhile
//! all queues of the interface are out of service (`qdisc_graft` in net/sched/sch_api.c calls `dev_deactivate`). A pod asks for its
//! gateway's hardware address with its first packet, and if the answer is what was dropped, again only after a second
//! (`retrans_time_ms`). So the node says unasked what it may have answered: a pod that waits for it sends what it kept, any other learns
//! nothing new.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::err::packet::BuildWriteError;
use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{ArpEthIpv4Packet, ArpOperation, Icmpv6Type, PacketBuilder};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::{Error, Links, controller};

type Hardware = [u8; 6];

const EVERYBODY: Hardware = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_HARDWARE: Hardware = [0x33, 0x33, 0, 0, 0, 1];
/// Neighbour discovery takes nothing that a router forwarded (RFC 4861, 7.1.2).
const HOP_LIMIT: u8 = 255;
/// The option that tells a target's hardware address, of one unit of eight bytes (RFC 4861, 4.6.1).
const TARGET_HARDWARE: [u8; 2] = [2, 1];

/// The node on a pod's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    hardware: Hardware,
    addresses: Vec<IpAddr>,
}

impl Links {
    /// The node as the pod behind a veth may know it: by the veth itself or, if that is a port of a bridge, by the bridge. Nothing of an
    /// interface that is not up, or is gone: nobody heard anything there yet.
    pub fn presence(&mut self, ifindex: u32) -> Result<Option<Presence>, Error> {
        let Some(mut link) = self.link(ifindex)?.filter(is_up) else {
            return Ok(None);
        };
        if let Some(bridge) = controller(&link) {
            match self.link(bridge)? {
                Some(of) => link = of,
                None => return Ok(None),
            }
        }
        let hardware = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => Hardware::try_from(&address[..]).ok(),
            _ => None,
        });
        let Some(hardware) = hardware else {
            return Ok(None);
        };
        let addresses = self.addresses_at(link.header.index, None)?;
        Ok(Some(Presence { hardware, addresses }))
    }
}

fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

impl Presence {
    /// The frames that tell of it: ARP answers and neighbour advertisements that nobody asked for.
    ///
    /// # Errors
    /// None that can come about: what is written is written to memory, and is of a fixed length.
    pub fn announcements(&self) -> Result<Vec<Vec<u8>>, BuildWriteError> {
        self.addresses
            .iter()
            .map(|address| self.announcement(address))
            .collect()
    }

    fn announcement(&self, address: &IpAddr) -> Result<Vec<u8>, BuildWriteError> {
        let mut frame = Vec::new();
        match address {
            IpAddr::V4(address) => {
                // Of its own address to its own address (RFC 5227, 3: an ARP announcement, in the form of an answer).
                let answer = ArpEthIpv4Packet {
                    operation: ArpOperation::REPLY,
                    sender_mac: self.hardware,
                    sender_ipv4: address.octets(),
                    target_mac: EVERYBODY,
                    target_ipv4: address.octets(),
                };
                PacketBuilder::ethernet2(self.hardware, EVERYBODY)
                    .arp(answer.into())
                    .write(&mut frame)?;
            }
            IpAddr::V6(address) => {
                let advertisement = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
                    router: true,
                    solicited: false,
                    r#override: true,
                });
                let target = [&address.octets()[..], &TARGET_HARDWARE, &self.hardware].concat();
                PacketBuilder::ethernet2(self.hardware, ALL_NODES_HARDWARE)
                    .ipv6(address.octets(), ALL_NODES.octets(), HOP_LIMIT)
                    .icmpv6(advertisement)
                    .write(&mut frame, &target)?;
            }
        }
        Ok(frame)
    }
}
