//! The namespace onboarding controller: every namespace that a `NamespaceBaseline` takes has its policies, and keeps them.
//!
//! What must be done is decided by `ringfence_netpol::baseline::plan`, which is pure. Here is only what carries it out:
//!
//! ```text
//! view (watches) ─▶ controller ─▶ plan ─▶ writer (server-side apply)
//!                       │  when may a namespace be written to again: schedule; and anything at all: throttle
//!                       └▶ status of the baselines
//!                gates (pods that wait for their baseline, if that is set)
//! ```
//!
//! It is level-triggered: a pass compares what is stored with what must be, whatever happened in between, so a missed event, a
//! restart or an outage of the API server needs no code of its own. Where all is as it must be, nothing is written.

pub mod controller;
pub mod error;
pub mod gates;
pub mod metrics;
pub mod notice;
mod repairs;
pub mod run;
pub mod schedule;
pub mod settings;
mod slot;
pub mod statuses;
mod throttle;
mod touched;
pub mod watch;
pub mod writer;

#[cfg(test)]
mod scenarios;
