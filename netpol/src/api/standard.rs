//! `LabelStandard`: which labels objects must carry.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which labels objects of a kind must carry, and with which values.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "LabelStandard",
    derive = "PartialEq"
)]
#[kube(shortname = "lbs")]
#[serde(rename_all = "camelCase")]
pub struct LabelStandardSpec {}
