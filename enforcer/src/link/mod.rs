//! The node's interfaces: which are the host's ends of pods' veths, and which addresses are behind them.
//!
//! An interface is never recognised by its name. A veth's host end says which interface is its peer and in which network
//! namespace (as an identifier of *this* namespace's); the kernel then tells, for that identifier and without entering the
//! namespace, which addresses the peer has. An address is a pod's if the API says so.
//!
//! **What is a pod's veth?** Only
//! - a veth whose peer, in another namespace, has the address of a pod of this node: governed;
//! - a veth that appears while the agent runs, whose peer's namespace is one of those that container runtimes keep under
//!   `/var/run/netns`: closed until its pod is known, and let go if no pod of this node is without a veth.
//!
//! All else is left alone: other veths, other kinds, and always the interface of a default route.

pub mod cni;
pub mod netlink;
pub mod presence;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use self::netlink::{Ask, Netlink};

/// The kernel did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("netlink, {asking}: {source}")]
pub struct Error {
    pub asking: &'static str,
    pub source: io::Error,
}

/// A veth whose peer is in another network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Veth {
    pub ifindex: u32,
    /// The peer's index, in its namespace.
    pub peer: u32,
    /// This namespace's identifier of the peer's.
    pub netns: i32,
    /// The bridge (or the like) that it is a port of.
    pub controller: Option<u32>,
}

/// Any veth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum One {
    /// Its peer is in another namespace.
    Across(Veth),
    /// Its peer is in this one: nobody's way out.
    Within(u32),
}

impl One {
    /// `None` for all other interfaces, and for a veth that is being made: of the end that comes first the kernel tells before it has a
    /// peer, as of that which the ptp and bridge plugins put on the host.
    pub fn read(message: &LinkMessage) -> Option<Self> {
        let is_paired = || {
            let mut attributes = message.attributes.iter();
            attributes.any(|attribute| matches!(attribute, LinkAttribute::Link(peer) if *peer != 0))
        };
        match Veth::read(message) {
            Some(veth) => Some(Self::Across(veth)),
            None => (is_veth(message) && is_paired()).then_some(Self::Within(message.header.index)),
        }
    }

    pub fn ifindex(&self) -> u32 {
        match self {
            Self::Across(veth) => veth.ifindex,
            Self::Within(ifindex) => *ifindex,
        }
    }
}

impl Veth {
    /// `None` for all other interfaces.
    pub fn read(message: &LinkMessage) -> Option<Self> {
        let (mut peer, mut netns) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => peer = Some(*index),
                LinkAttribute::LinkNetNsId(id) => netns = Some(*id).filter(|id| *id >= 0),
                _ => {}
            }
        }
        let ifindex = message.header.index;
        is_veth(message).then_some(Self {
            ifindex,
            peer: peer?,
            netns: netns?,
            controller: controller(message),
        })
    }

    /// Whether it is the same one under its index.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.ifindex, self.peer, self.netns) == (other.ifindex, other.peer, other.netns)
    }

    /// Where the node receives what the peer sends.
    pub fn via(&self) -> u32 {
        self.controller.unwrap_or(self.ifindex)
    }
}

/// A question for interfaces: their packet counters, summed over all processors, are most of the kernel's work with an answer.
fn without_counters() -> LinkMessage {
    let mut request = LinkMessage::default();
    let skip = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    request.attributes.push(skip);
    request
}

fn is_veth(message: &LinkMessage) -> bool {
    let of = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Veth)));
    message.attributes.iter().any(of)
}

/// The bridge, or the like, that an interface is a port of.
fn controller(message: &LinkMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index).filter(|index| *index != 0),
        _ => None,
    })
}

/// Of IPv4 the own address is the local one; of IPv6 there may be only the other.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = &message.attributes;
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    });
    let other = || {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(other) => Some(*other),
            _ => None,
        })
    };
    local.or_else(other)
}

/// Questions to the kernel about this namespace's interfaces.
pub struct Links {
    netlink: Netlink,
    /// The namespaces that are kept in files, as they were last seen.
    kept: BTreeMap<PathBuf, i32>,
}

impl Links {
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::open()?,
            kept: BTreeMap::new(),
        })
    }

    /// All veths whose peers are in other namespaces, but not the one that has the default route.
    pub fn veths(&mut self) -> Result<Vec<Veth>, Error> {
        let uplinks = self.uplinks()?;
        let pods = self.all()?.into_iter().filter_map(|one| match one {
            One::Across(veth) => Some(veth),
            One::Within(_) => None,
        });
        Ok(pods.filter(|veth| !uplinks.contains(&veth.ifindex)).collect())
    }

    /// The veth of this index, if there is one.
    pub fn veth(&mut self, ifindex: u32) -> Result<Option<Veth>, Error> {
        Ok(self.link(ifindex)?.as_ref().and_then(Veth::read))
    }

    fn link(&mut self, ifindex: u32) -> Result<Option<LinkMessage>, Error> {
        let mut request = without_counters();
        request.header.index = ifindex;
        let request = RouteNetlinkMessage::GetLink(request);
        let answers = match self.netlink.ask("asking for an interface", request, Ask::One) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        }))
    }

    /// All veths.
    pub fn all(&mut self) -> Result<Vec<One>, Error> {
        let request = RouteNetlinkMessage::GetLink(without_counters());
        let answers = self.netlink.ask("listing interfaces", request, Ask::All)?;
        let veths = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => One::read(message),
            _ => None,
        });
        Ok(veths.collect())
    }

    /// The interfaces of default routes, whatever the table.
    pub fn uplinks(&mut self) -> Result<BTreeSet<u32>, Error> {
        let mut uplinks = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers =
                self.netlink
                    .ask("listing routes", RouteNetlinkMessage::GetRoute(request), Ask::All)?;
            for answer in &answers {
                let RouteNetlinkMessage::NewRoute(route) = answer else {
                    continue;
                };
                if route.header.destination_prefix_length != 0 {
                    continue;
                }
                for attribute in &route.attributes {
                    match attribute {
                        RouteAttribute::Oif(index) => drop(uplinks.insert(*index)),
                        RouteAttribute::MultiPath(hops) => {
                            uplinks.extend(hops.iter().map(|hop| hop.interface_index));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(uplinks)
    }

    /// The addresses behind a veth, but those that every interface has of its own.
    pub fn addresses_behind(&mut self, veth: &Veth) -> Result<Vec<IpAddr>, Error> {
        let mut found = self.addresses_at(veth.peer, Some(veth.netns))?;
        found.retain(|own| !matches!(own, IpAddr::V6(own) if own.is_unicast_link_local()));
        Ok(found)
    }

    /// The addresses of an interface, IPv4 first; in this namespace, or in another by its identifier.
    fn addresses_at(&mut self, ifindex: u32, netns: Option<i32>) -> Result<Vec<IpAddr>, Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = AddressMessage::default();
            request.header.family = family;
            request.header.index = ifindex;
            request.attributes = netns.map(AddressAttribute::TargetNetNsId).into_iter().collect();
            let request = RouteNetlinkMessage::GetAddress(request);
            let answers = self
                .netlink
                .ask("asking for the addresses of an interface", request, Ask::All)?;
            found.extend(answers.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) if address.header.index == ifindex => {
                    own_address(address)
                }
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Whether the peer is in a namespace that is kept in this folder, as container runtimes do.
    pub fn is_kept_in(&mut self, veth: &Veth, folder: &Path) -> Result<bool, Error> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(false);
        };
        // Only of those that are new it is asked which they are: a node has hundreds, and a new pod waits for the answer.
        let mut before = std::mem::take(&mut self.kept);
        for path in entries.flatten().map(|entry| entry.path()) {
            let known = before.remove(&path);
            let id = match known {
                Some(id) => Some(id),
                None => self.netns_of(&path)?,
            };
            if let Some(id) = id {
                self.kept.insert(path, id);
            }
        }
        let candidates = self.kept.iter().filter(|(_, id)| **id == veth.netns);
        let candidates: Vec<PathBuf> = candidates.map(|(path, _)| path.clone()).collect();
        for path in candidates {
            // A file of the same name may be another namespace by now.
            match self.netns_of(&path)? {
                Some(id) if id == veth.netns => return Ok(true),
                Some(id) => drop(self.kept.insert(path, id)),
                None => drop(self.kept.remove(&path)),
            }
        }
        Ok(false)
    }

    /// This namespace's identifier of the one that is kept in a file; `None` if there is none (any more, or yet).
    fn netns_of(&mut self, path: &Path) -> Result<Option<i32>, Error> {
        match File::open(path) {
            Ok(file) => self.netns_id(&file),
            Err(_) => Ok(None),
        }
    }

    /// Whether anybody has filters at the interface's clsact.
    pub fn has_filters(&mut self, ifindex: u32) -> Result<bool, Error> {
        let asking = "listing filters";
        for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut request = TcMessage::with_index(ifindex.cast_signed());
            request.header.parent = TcHandle {
                major: TcHandle::CLSACT.major,
                minor,
            };
            let answers =
                self.netlink
                    .ask(asking, RouteNetlinkMessage::GetTrafficFilter(request), Ask::All)?;
            if answers
                .iter()
                .any(|answer| matches!(answer, RouteNetlinkMessage::NewTrafficFilter(_)))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn netns_id(&mut self, netns: &File) -> Result<Option<i32>, Error> {
        let mut request = NsidMessage::default();
        request
            .attributes
            .push(NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned()));
        let asking = "asking for a network namespace's identifier";
        let answers = match self
            .netlink
            .ask(asking, RouteNetlinkMessage::GetNsId(request), Ask::One)
        {
            // No namespace is kept in this file.
            Err(error) if error.source.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(message) => {
                message.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) => Some(*id).filter(|id| *id >= 0),
                    _ => None,
                })
            }
            _ => None,
        }))
    }
}
