//! The kernel side, as the rest of the agent sees it. The only module that calls libbpf.
//!
//! Two programs stand at the host's end of each pod's veth ([`hook`]), one behind the node's address translation. They share
//! maps ([`maps`]) that are pinned ([`pin`]), so that verdicts hold without the agent. What the programs do is told in
//! `../bpf/`: veth.h has the verdict on a packet, verdict.h the look-ups, service.h what happens to Services.

mod batch;
mod denials;
mod endpoints;
mod flows;
mod hook;
mod load;
mod maps;
mod near;
mod pin;
mod prefixes;
mod proof;
mod row;
mod store;
mod table;
mod words;

use std::io;
use std::path::PathBuf;

pub use denials::{Denial, Denials};
pub use endpoints::Endpoint;
pub use flows::{Counted, Flows};
pub use hook::{Hooks, detach, remove_clsact};
pub use load::{Datapath, check_kernel, load};
pub use maps::{KernelMaps, ROOM};
pub use pin::{Pins, uninstall};
pub use proof::{CANARY, CanaryRules};
pub use row::{REASONS, TALLIES};

use crate::skeleton::types;

/// The kernel refused something, or is not one that this can run on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this kernel carries no BTF ({} is not there), without which the programs cannot be fitted to it; boot a kernel that is \
         built with CONFIG_DEBUG_INFO_BTF=y, and until then exclude this node from the DaemonSet; nothing was changed here",
        .0.display()
    )]
    NoBtf(PathBuf),
    #[error(
        "Linux {0} has no netfilter programs, which are needed to enforce policy behind Services; run Linux 6.4 or later on this \
         node, and until then exclude it from the DaemonSet; nothing was changed here"
    )]
    KernelTooOld(String),
    #[error(
        "{} is not on a BPF file system, so that enforcement would end with the agent; mount the host's /sys/fs/bpf there",
        .0.display()
    )]
    NotBpffs(PathBuf),
    #[error(
        "the programs could not be loaded ({0}); they need the capabilities BPF, NET_ADMIN, PERFMON and SYS_ADMIN, and what the \
         kernel says in detail is logged at log.level info,libbpf=debug"
    )]
    Load(libbpf_rs::Error),
    #[error("interface {ifindex}: the filters could not be attached: {source}")]
    Attach { ifindex: u32, source: libbpf_rs::Error },
    #[error("interface {ifindex}: a frame could not be sent: {source}")]
    Send { ifindex: u32, source: libbpf_rs::Error },
    #[error("interface {ifindex}: its place in the table of endpoints is taken by interface {taken}")]
    Taken { ifindex: u32, taken: u32 },
    #[error("the netfilter program could not be attached: {0}")]
    Netfilter(libbpf_rs::Error),
    #[error("map {map}: {source}")]
    Map {
        map: &'static str,
        source: libbpf_rs::Error,
    },
    #[error("{}: {source}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("the map {map} could not be mapped into memory: {source}")]
    Memory { map: &'static str, source: io::Error },
}

impl Error {
    /// The class of this error, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoBtf(_) | Self::KernelTooOld(_) | Self::NotBpffs(_) => "platform",
            Self::Load(_) => "load",
            Self::Attach { .. } | Self::Send { .. } | Self::Taken { .. } => "attach",
            Self::Netfilter(_) => "netfilter",
            Self::Map { .. } | Self::Memory { .. } => "map",
            Self::Pin { .. } => "pin",
        }
    }
}

/// What the two sides of an endpoint's element are to the programs.
pub(crate) type EndpointRow = types::rf_endpoint;
