//! The endpoint by which it is proved that all of this works. It is none of a node's interfaces.

use std::net::Ipv4Addr;

use ringfence_netpol::compile::ANYONE;

use super::Error;
use super::endpoints::{ENDPOINT_ADDRESS4, ENDPOINT_WORD, ENDPOINT_WORDS, slot};
use super::maps::KernelMaps;
use super::store::decision_key;
use super::table::{delete, put};
use crate::encode::state::{GENERATIONS, Word};
use crate::encode::tables::{EVERYTHING, RULESETS};
use crate::skeleton::types::rf_decision;

/// The interface of the proof that all of this works, in a namespace of its own: none that a node's interfaces get to.
pub const CANARY: u32 = 0x7fff_0000;

/// What the pod of the proof may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryRules {
    Deny,
    Allow,
}

impl CanaryRules {
    /// Rulesets beyond those that pods get.
    fn ruleset(self) -> u32 {
        match self {
            Self::Deny => RULESETS,
            Self::Allow => RULESETS + 1,
        }
    }
}

impl KernelMaps {
    /// Makes the endpoint of the proof, of which nothing is known yet. It is none of the pods, so its address is not looked up by anybody.
    pub fn begin_canary(&self, address: Ipv4Addr) -> Result<(), Error> {
        self.end_canary()?;
        self.admit(CANARY)?;
        let first = slot(CANARY) as usize * ENDPOINT_WORDS;
        self.endpoints.store(
            first + ENDPOINT_ADDRESS4,
            u64::from(CANARY) | u64::from(u32::from_ne_bytes(address.octets())) << 32,
        );
        put(
            "dec",
            &self.dec,
            &decision_key((CanaryRules::Allow.ruleset(), ANYONE)),
            &rf_decision {
                port_set: EVERYTHING,
                ..rf_decision::default()
            },
        )
    }

    /// Brings rules into force for what the pod of the proof opens.
    pub fn pose_canary(&self, rules: CanaryRules, generation: u32) {
        let word = Word {
            ingress: CanaryRules::Deny.ruleset(),
            egress: rules.ruleset(),
            generation: 1 + generation % (GENERATIONS - 1),
        };
        let first = slot(CANARY) as usize * ENDPOINT_WORDS;
        self.endpoints.store(first + ENDPOINT_WORD, word.pack());
    }

    /// Takes all of it away.
    pub fn end_canary(&self) -> Result<(), Error> {
        self.evict(CANARY)?;
        delete(
            "dec",
            &self.dec,
            &decision_key((CanaryRules::Allow.ruleset(), ANYONE)),
        )
    }
}
