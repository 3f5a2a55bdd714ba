//! What must hold of whatever comes in: one module a target, each a function of bytes that panics if it does not hold.
//!
//! [`read`] and [`review`] take their bytes as they are: a file, the body of an admission request. The others make objects of them
//! ([`draw`]), so that a fuzzer which turns a byte turns a label, a port or an operator, and gets past the parsers.
//!
//! `fuzz/run` drives them by libFuzzer; `cargo test -p ringfence-fuzz` runs what is kept in `corpus/`, and hostile input that
//! is too large to be kept.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // to panic is how a target says what it found

pub mod cluster;
pub mod draw;
pub mod policy;
pub mod read;
pub mod reference;
pub mod review;
pub mod selector;
pub mod template;
pub mod verdict;

/// A target: its name, which is that of its folder in `corpus/`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("policy", policy::run),
    ("read", read::run),
    ("review", review::run),
    ("selector", selector::run),
    ("template", template::run),
    ("verdict", verdict::run),
];
