//! Label standards: what they ask of an object, and whether they can be understood themselves.
//!
//! [`judge`] holds the labels of one [`Subject`] to every standard that is for it, [`default`](mod@default) says what is filled in for it,
//! [`defects`] what is wrong with a standard, [`audit`](mod@audit) what of the stored objects does not meet one.
//!
//! # Who may create a pod labelled `app: api`
//!
//! A pod comes to be in three ways, and each is judged as whoever it comes from: written as a pod (as its author), made from a
//! template by one of Kubernetes's controllers (the template as *its* author; the pod itself is then not refused, see
//! [`controller`]), or made by any other program (as that program's service account, which a standard names or not). Labels
//! change by updates of the object, of its `status`, of a namespace's `finalize`, and by the Binding that places a pod; all are
//! judged by what changes, and as who asks for it.

pub mod audit;
pub mod catalogue;
pub mod controller;
mod default;
mod defect;
mod judge;
mod kind;
mod patterns;
#[cfg(test)]
mod tests;

pub use default::{defaults, patch};
pub use defect::{Defect, defects, judge_standard};
pub use judge::{Before, Subject, judge, judge_by, released};
pub use patterns::Patterns;

/// Namespaces that no standard and no baseline ever touches: Kubernetes's own, which nobody labels, and ours.
pub const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "ringfence-system",
];

/// A required label is missing.
pub const MISSING: &str = "LB001";
/// A label has a value that is not among the allowed ones.
pub const NOT_ALLOWED: &str = "LB002";
/// A label has a value that does not match the pattern.
pub const NO_MATCH: &str = "LB003";
/// A label is there that may not be.
pub const FORBIDDEN: &str = "LB004";
/// A label that may not change once it is set was changed or taken away.
pub const IMMUTABLE: &str = "LB005";
/// A label was set, changed or taken away by somebody who may not.
pub const PROTECTED: &str = "LB006";
/// A standard cannot be understood.
pub const UNREADABLE: &str = "LS001";
/// A standard asks for what contradicts itself.
pub const CONTRADICTION: &str = "LS002";
