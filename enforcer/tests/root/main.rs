//! Tests that load programs into this machine's kernel and judge packets with them. They need root, and happen in network and
//! mount namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's way to fail

mod agent;
mod canary;
mod capabilities;
mod conntrack;
mod denials;
mod harness;
mod ipv6;
mod namespaces;
mod neighbours;
mod packets;
mod packets6;
mod prefixes;
mod programs;
mod recent;
mod services;

/// The random clusters that also hold the evaluator and the compiler together.
#[path = "../../../netpol/tests/arbitrary/mod.rs"]
mod arbitrary;
