//! `NamespaceBaseline`: the policies that every namespace of a kind must have.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policies that every selected namespace must have.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "NamespaceBaseline",
    derive = "PartialEq"
)]
#[kube(status = "NamespaceBaselineStatus", shortname = "nsb")]
#[serde(rename_all = "camelCase")]
pub struct NamespaceBaselineSpec {}

/// What the generator made of a baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceBaselineStatus {}
