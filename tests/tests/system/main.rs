//! The whole system on a real Kubernetes: installed as a user would, real pods, real packets.
//!
//! Tests run side by side on one cluster, so each has namespaces and, where it makes a baseline or a standard, a label of
//! its own, and selects nothing else by it.

mod admission;
mod enforcer;
mod field;
mod fixture;
mod generator;
mod guard;
mod webhook;
