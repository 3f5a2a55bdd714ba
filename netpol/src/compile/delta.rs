//! What changed of a node's rules, in identifiers that stand for contents.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Endpoint;
use crate::cluster::Key;
use crate::port::{PortSet, Protocol};

pub use super::spread::{IdMap, IdSet};

/// Stands for a class for as long as some address or prefix has it; then for nothing, until four milliards of others were.
pub type ClassId = u32;
/// Stands for a ruleset, likewise.
pub type RulesetId = u32;
/// Stands for a set of ports, likewise.
pub type PortSetId = u32;

/// The class of every address that no peer in use matches.
pub const ANYONE: ClassId = 0;
/// Stands for any pod that some peer matches, where a ruleset says what it opens to those for whose class it says nothing. No address
/// has it.
pub const PODS: ClassId = 1;

/// The difference between two states of a node's rules; `None` is what is there no more. From nothing to a state, it is that state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// The pods of this node that policies can select.
    pub endpoints: BTreeMap<Key, Option<Endpoint<RulesetId>>>,
    /// The class of each pod address that is not [`ANYONE`], pods of all nodes. Looked up before [`Self::prefixes`].
    pub addresses: BTreeMap<IpAddr, Option<ClassId>>,
    /// The class of all other addresses, by longest prefix.
    pub prefixes: BTreeMap<IpNet, Option<ClassId>>,
    /// Which ports a ruleset opens to a class: the entries that came, sorted. Where there is no entry for the pair, that of [`PODS`]
    /// counts if the class is one of [`Self::addresses`], and that of [`ANYONE`] if not; where there is none either, nothing is open.
    /// While both are there, the entry stays as it is.
    pub granted: Vec<((RulesetId, ClassId), PortSetId)>,
    /// The entries that went of rulesets that stay, sorted: the class is gone. With a ruleset that is gone all of its entries are.
    pub revoked: Vec<(RulesetId, ClassId)>,
    pub port_sets: BTreeMap<PortSetId, Option<PortSet>>,
    /// Addresses and ports of Services; whether they are there.
    pub services: BTreeMap<(IpAddr, Protocol, u16), bool>,
    /// Those that no endpoint has any more.
    pub rulesets_gone: Vec<RulesetId>,
    /// Those that no address and no prefix has any more.
    pub classes_gone: Vec<ClassId>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        let Self {
            endpoints,
            addresses,
            prefixes,
            granted,
            revoked,
            port_sets,
            services,
            rulesets_gone,
            classes_gone,
        } = self;
        endpoints.is_empty()
            && addresses.is_empty()
            && prefixes.is_empty()
            && granted.is_empty()
            && revoked.is_empty()
            && port_sets.is_empty()
            && services.is_empty()
            && rulesets_gone.is_empty()
            && classes_gone.is_empty()
    }
}
