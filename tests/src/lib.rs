//! The harness of the whole-system tests and of the demo: a real cluster, real pods, real connections.
//!
//! [`target`] finds the cluster, [`install`] puts Ringfence on it as a user would, [`workload`] runs applications,
//! [`connection`] and [`matrix`] measure who reaches whom; [`probe`] does so thousands of times a second. [`case`] holds policy cases as
//! data, which [`field`] plays between real pods, [`connlist`] connection lists, [`meaning`] the project's own cases, and [`admission`] what an API
//! server accepts and refuses; [`command`] asks the command line. [`soak`] changes everything at random and watches.

pub mod admission;
pub mod case;
pub mod command;
pub mod connection;
pub mod connlist;
pub mod field;
pub mod install;
pub mod matrix;
pub mod meaning;
pub mod probe;
pub mod soak;
pub mod target;
pub mod workload;
