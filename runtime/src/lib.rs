//! What the long-running binaries share: being a process ([`process`], [`settings`], [`telemetry`], [`health`], [`shutdown`]),
//! one of several replicas acting at a time ([`lease`]), and seeing the cluster through one window ([`view`]).
//!
//! Nothing here knows what a NetworkPolicy means; that is `ringfence-netpol`'s.

pub mod health;
pub mod lease;
pub mod memory;
pub mod process;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod view;
