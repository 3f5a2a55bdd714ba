//! The harness of the whole-system tests and of the demo: a real cluster, real pods, real connections.
//!
//! [`case`] holds policy cases as data (who may reach whom).

pub mod case;
