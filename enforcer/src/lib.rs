//! The parts of the node agent, for its binary and its tests.
//!
//! From the outside in: [`agent`] is the shell, which takes up what the cluster says ([`ringfence_runtime::view`]) and which veths
//! there are ([`link`], [`gate`], [`filters`]); [`seats`], [`encode`] and the plans in it are pure; [`sync`] brings plans to maps; [`datapath`] is the
//! kernel's side, and the only module that calls libbpf. `bpf/` beside it is compiled by clang and built into the binary.
//! On threads of their own, [`census`] counts flows and removes those that have ended, [`ledger`] writes down who was denied what, and
//! [`canary`] proves that what is loaded works. [`removal`] takes all of it away.

pub mod addresses;
pub mod agent;
pub mod canary;
pub mod census;
pub mod datapath;
pub mod encode;
pub mod filters;
pub mod gate;
pub mod ledger;
pub mod link;
pub mod metrics;
pub mod removal;
pub mod seats;
pub mod settings;
pub mod sync;
#[allow(
    unused_imports,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/datapath.skel.rs"));
}
