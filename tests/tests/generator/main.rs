//! The generator by itself on a real API server: as many of them as a test wants, in this process, each with its own faults between it
//! and the API server, and each killed as a process is.
//!
//! Nothing of Ringfence need be installed: a test takes its turn, stops the installed generator if there is one, applies the kinds
//! and the rights that `deploy/` gives, and acts under these.

mod bad_input;
mod chaos;
mod fields;
mod handover;
mod harness;
mod promises;
mod repository;
mod routes;
