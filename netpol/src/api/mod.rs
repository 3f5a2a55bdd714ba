//! Ringfence's own kinds, API group `ringfence.dev`.
//!
//! The Rust types are the source; the CustomResourceDefinitions in `deploy/` are checked against them by a test.

pub mod baseline;
mod standard;

pub use baseline::{NamespaceBaseline, NamespaceBaselineSpec, NamespaceBaselineStatus};
pub use standard::{
    Enforcement, Kind, LabelRequirement, LabelStandard, LabelStandardSpec, LabelStandardStatus, Protection,
};
