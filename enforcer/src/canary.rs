//! Proof that what is loaded does what it should, on real packets and away from all pods.
//!
//! A pair of network namespaces that nothing else is in stands for a node and a pod, with a veth between them. This agent's programs are
//! put at the node's end, over the very maps that hold the pods' verdicts, and packets have to fall and to pass as the rules of that one
//! endpoint say. The namespaces end with the check, and the veth with them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use ringfence_runtime::health::Condition;

use crate::datapath::{self, CANARY, CanaryRules, Hooks, KernelMaps};
use crate::link;
use crate::link::netlink::{Ask, Netlink};
use crate::metrics::Metrics;

/// How often to prove it.
const INTERVAL: Duration = Duration::from_secs(120);
/// A failure counts if it is one so many times in a row: a machine may be too busy for a packet to arrive in time.
const TRIES: u32 = 3;
const NODE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const POD: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const PREFIX: u8 = 30;
/// The index of the pod's end in its namespace.
const PEER: u32 = 2;
/// How long a packet may take that passes. It takes some ten thousandth of that.
const ARRIVES: Duration = Duration::from_secs(1);
/// How long to wait for one that must not come.
const FALLS: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a packet passed that had to fall: {0}")]
    Passed(&'static str),
    #[error("a packet fell that had to pass: {0}")]
    Fell(&'static str),
    #[error("the pair of network namespaces could not be made: {0}")]
    Namespace(#[from] io::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

impl Error {
    /// Whether it says that enforcement does not work, and not only that nothing could be proved.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Passed(_) | Self::Fell(_))
    }
}

/// Proves it now and then, on a thread of its own; `proved` says whether it holds.
///
/// # Errors
/// If there can be no further thread.
pub fn start(
    maps: Arc<KernelMaps>,
    hooks: Arc<Hooks>,
    metrics: Metrics,
    proved: Condition,
) -> io::Result<()> {
    let work = move || {
        loop {
            let result = (1..=TRIES)
                .map(|_| prove(&maps, &hooks))
                .find(|result| !result.as_ref().is_err_and(Error::is_failure));
            let (holds, outcome) = match result {
                Some(Ok(())) => (true, "passed"),
                Some(Err(error)) => {
                    tracing::warn!(%error, "enforcement could not be put to the proof; it is taken to work");
                    (true, "impossible")
                }
                None => {
                    tracing::error!(
                        "ENFORCEMENT DOES NOT WORK: packets between namespaces made for the proof did not fall or pass as their \
                         rules say; this node's policies may not be in force"
                    );
                    (false, "failed")
                }
            };
            proved.set(holds);
            metrics.self_checks.with_label_values(&[outcome]).inc();
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new()
        .name("canary".to_owned())
        .spawn(work)
        .map(drop)
}

/// Makes the pair, proves, and takes all of it away again.
///
/// # Errors
/// If a packet did not meet the verdict that it should, or the pair could not be made.
pub fn prove(maps: &KernelMaps, hooks: &Hooks) -> Result<(), Error> {
    // A thread of its own, since it leaves this namespace for good.
    thread::scope(|scope| {
        let proving = scope.spawn(|| {
            let result = apart(maps, hooks);
            let cleaned = maps.end_canary();
            result.and(cleaned.map_err(Error::from))
        });
        proving
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the proof was broken off").into()))
    })
}

fn apart(maps: &KernelMaps, hooks: &Hooks) -> Result<(), Error> {
    let (pod, mut at_pod) = (leave()?, Netlink::open()?);
    let (node, mut at_node) = (leave()?, Netlink::open()?);
    make_veth(&mut at_node, &pod)?;
    raise(&mut at_node, CANARY, NODE)?;
    raise(&mut at_pod, PEER, POD)?;
    maps.begin_canary(POD)?;
    hooks.attach(CANARY)?;

    enter(&pod)?;
    let (asking, answering) = (socket(POD)?, socket(POD)?);
    enter(&node)?;
    let node = socket(NODE)?;
    verdicts(maps, &node, &asking, &answering)
}

fn verdicts(
    maps: &KernelMaps,
    node: &UdpSocket,
    asking: &UdpSocket,
    answering: &UdpSocket,
) -> Result<(), Error> {
    // Flows of earlier proofs are of other generations.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = since.as_secs() as u32;
    let falls = |from: &UdpSocket, to: &UdpSocket, what| match arrives(from, to, FALLS)? {
        true => Err(Error::Passed(what)),
        false => Ok(()),
    };
    let passes = |from: &UdpSocket, to: &UdpSocket, what| match arrives(from, to, ARRIVES)? {
        true => Ok(()),
        false => Err(Error::Fell(what)),
    };
    falls(node, answering, "to a pod that is not known yet")?;
    falls(asking, node, "from a pod that is not known yet")?;
    maps.pose_canary(CanaryRules::Deny, first);
    falls(asking, node, "from a pod that may open nothing")?;
    passes(node, answering, "from the node to its pod")?;
    passes(answering, node, "the pod's answer to the node")?;
    maps.pose_canary(CanaryRules::Allow, first.wrapping_add(1));
    passes(asking, node, "from a pod that may open everything")?;
    passes(node, asking, "the answer to the pod")?;
    maps.pose_canary(CanaryRules::Deny, first.wrapping_add(2));
    falls(asking, node, "of a flow that is allowed no more")
}

/// Whether a packet arrives.
fn arrives(from: &UdpSocket, to: &UdpSocket, within: Duration) -> io::Result<bool> {
    // What came too late for the step before is none of this one's.
    let mut heard = [0; 8];
    to.set_nonblocking(true)?;
    while to.recv(&mut heard).is_ok() {}
    to.set_nonblocking(false)?;
    to.set_read_timeout(Some(within))?;
    from.send_to(b"ringfence", to.local_addr()?)?;
    match to.recv(&mut heard) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn socket(address: Ipv4Addr) -> io::Result<UdpSocket> {
    UdpSocket::bind(SocketAddr::new(IpAddr::V4(address), 0))
}

/// Goes to a network namespace of its own, which lasts as long as the file or anything in it.
fn leave() -> io::Result<File> {
    // SAFETY: concerns this thread only, which was made for it.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    File::open("/proc/thread-self/ns/net")
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: concerns this thread only, and the descriptor is open.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn make_veth(netlink: &mut Netlink, pod: &File) -> Result<(), link::Error> {
    let mut peer = LinkMessage::default();
    peer.header.index = PEER;
    peer.attributes = vec![
        LinkAttribute::IfName("pod".to_owned()),
        LinkAttribute::NetNsFd(pod.as_raw_fd()),
    ];
    let mut veth = LinkMessage::default();
    veth.header.index = CANARY;
    veth.attributes = vec![
        LinkAttribute::IfName("node".to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let asking = "making a veth for the proof";
    netlink
        .ask(asking, RouteNetlinkMessage::NewLink(veth), Ask::New)
        .map(drop)
}

/// Gives an interface its address, and sets it up.
fn raise(netlink: &mut Netlink, index: u32, own: Ipv4Addr) -> Result<(), link::Error> {
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.prefix_len = PREFIX;
    address.header.index = index;
    address.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(own)),
        AddressAttribute::Address(IpAddr::V4(own)),
    ];
    let mut up = LinkMessage::default();
    up.header.index = index;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    let asking = "setting up a veth for the proof";
    netlink.ask(asking, RouteNetlinkMessage::NewAddress(address), Ask::New)?;
    netlink
        .ask(asking, RouteNetlinkMessage::SetLink(up), Ask::One)
        .map(drop)
}
