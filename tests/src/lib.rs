//! The harness of the whole-system tests and of the demo: a real cluster, real pods, real connections.
//!
//! [`target`] finds the cluster, [`install`] puts Ringfence on it as a user would, [`workload`] runs applications,
//! [`connection`] and [`matrix`] measure who reaches whom. [`case`] holds policy cases as data, [`connlist`] connection lists.

pub mod case;
pub mod connection;
pub mod connlist;
pub mod install;
pub mod matrix;
pub mod target;
pub mod workload;
