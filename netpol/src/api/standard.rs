//! `LabelStandard`: which labels objects must carry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which labels objects of some kinds must carry, and with which values. Labels are the input of every policy: a
/// namespace that lacks one, or misspells its value, is missed by whatever selects it.
///
/// Kubernetes's own namespaces (kube-system, kube-public, kube-node-lease) and Ringfence's are always left alone.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "LabelStandard",
    derive = "PartialEq"
)]
#[kube(
    shortname = "lbs",
    printcolumn = r#"{"name":"Enforcement","type":"string","jsonPath":".spec.enforcement"}"#,
    printcolumn = r#"{"name":"Labels","type":"string","jsonPath":".spec.labels[*].key"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LabelStandardSpec {
    /// The kinds of objects that are held to it.
    #[serde(default = "namespaces")]
    #[schemars(length(min = 1, max = 8))]
    pub kinds: Vec<Kind>,
    /// Which namespaces are held to it, by their labels; absent or empty: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Namespaces that are left alone, by name, beside those that always are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub excluded_namespaces: Vec<String>,
    /// What happens to an object that does not meet it.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// The labels.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = ("self.all(a, self.exists_one(b, b.key == a.key))", "each key may be listed once"))]
    pub labels: Vec<LabelRequirement>,
}

/// A kind of object that can be held to a standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Namespace,
}

/// What happens to an object that does not meet a standard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It is refused. What was so before the standard, or before the change, is only warned of.
    #[default]
    Deny,
    /// Whoever sent it is told.
    Warn,
}

/// What is asked of one label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("!(has(self.allowedValues) && has(self.pattern))", "give allowedValues or a pattern, not both"))]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// As `team` or `example.com/team`.
    #[schemars(length(min = 1, max = 317))]
    #[schemars(regex(
        pattern = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ))]
    pub key: String,
    /// Whether the label must be there. If not, its value is held to the standard where it is.
    #[serde(default = "yes")]
    pub required: bool,
    /// The values that it may have; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub allowed_values: Option<Vec<String>>,
    /// What the whole value must match, as a regular expression; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
    /// Why it is asked for, or whom to ask: shown in every refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub description: Option<String>,
}

fn namespaces() -> Vec<Kind> {
    vec![Kind::Namespace]
}

fn yes() -> bool {
    true
}
