//! From compiled rules to map entries: bytes and identifiers, and nothing of Kubernetes.
//!
//! - [`ids`]: identifiers that stand for contents, so that an entry, once written, never has to change its meaning.
//! - [`tables`]: what the maps shall hold, kept up to date by each [`Delta`](ringfence_netpol::compile::Delta) of the rules.
//! - [`pending`]: where the maps may hold something else.
//! - [`decisions`]: the largest of the maps' tables.
//! - [`state`]: what the maps do hold, and the single writes that change it.
//! - [`ports`]: how the ports are cut into classes.
//! - [`tree`]: how IPv4 prefixes are looked up.
//! - [`plan`]: the writes that lead from the one to the other, in an order in which no packet meets a mixture.
//!
//! What a change costs is by what it changes: only what may differ between the maps and the tables is looked at.

pub mod decisions;
#[cfg(test)]
mod differences;
pub mod ids;
pub mod pending;
pub mod plan;
pub mod ports;
pub mod state;
pub mod tables;
pub mod tree;

/// A table that has no room for what it would have to hold. Nothing was written; the old rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{table} has room for {room} entries and would need {needed}; the rules that were in force before stay in force"
)]
pub struct Overflow {
    pub table: &'static str,
    pub room: usize,
    pub needed: usize,
}

impl Overflow {
    /// Checks a size before anything is written.
    pub fn check(table: &'static str, room: usize, needed: usize) -> Result<(), Self> {
        if needed > room {
            Err(Self { table, room, needed })
        } else {
            Ok(())
        }
    }
}
