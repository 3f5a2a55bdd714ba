//! `LabelStandard`: which labels objects must carry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::requester::{Named, ServiceAccount};

/// Which labels objects of some kinds must carry, and with which values. Labels are the input of every policy: a
/// namespace that lacks one, or misspells its value, is missed by whatever selects it, and whoever can label a pod
/// `app: api` reaches what is open to it.
///
/// Kubernetes's own namespaces (kube-system, kube-public, kube-node-lease) and Ringfence's are always left alone.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "LabelStandard",
    derive = "PartialEq",
    status = "LabelStandardStatus"
)]
#[kube(
    shortname = "lbs",
    category = "ringfence",
    printcolumn = r#"{"name":"Enforcement","type":"string","jsonPath":".spec.enforcement"}"#,
    printcolumn = r#"{"name":"Labels","type":"string","jsonPath":".spec.labels[*].key"}"#,
    printcolumn = r#"{"name":"Checked","type":"integer","jsonPath":".status.checked"}"#,
    printcolumn = r#"{"name":"Violating","type":"integer","jsonPath":".status.violating"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LabelStandardSpec {
    /// The kinds of objects that are held to it.
    #[serde(default = "namespaces")]
    #[schemars(length(min = 1, max = 16))]
    pub kinds: Vec<Kind>,
    /// Which namespaces are held to it, and the pods of which, by the namespaces' labels; absent or empty: all of them.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Namespace,
    /// Pods, and the pod templates of every kind of workload below: what a controller makes is judged where it is written.
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    ReplicationController,
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
#[x_kube(
    validation = ("!(has(self.allowedValues) && has(self.pattern))", "give allowedValues or a pattern, not both"),
    validation = (
        "!(has(self.forbidden) && self.forbidden) || !(has(self.allowedValues) || has(self.pattern) || has(self.default) || has(self.protected) || (has(self.required) && self.required) || (has(self.immutable) && self.immutable))",
        "a forbidden label can be asked nothing else"
    ),
    validation = (
        "!(has(self.default) && has(self.allowedValues)) || self.default in self.allowedValues",
        "the default must be one of allowedValues"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// As `team` or `example.com/team`.
    #[schemars(length(min = 1, max = 317))]
    #[schemars(regex(
        pattern = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ))]
    pub key: String,
    /// Whether the label must be there; absent: yes, unless it is forbidden. If not, its value is held to the standard where
    /// it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Whether the label may not be there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forbidden: bool,
    /// The values that it may have; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub allowed_values: Option<Vec<String>>,
    /// What the whole value must match, as a regular expression; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
    /// Whether the label, once it is there, may neither be changed nor taken away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// Who may set, change or take away the label; absent: anyone who may change the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<Protection>,
    /// The value that an object is given which comes without the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub default: Option<String>,
    /// Why it is asked for, or whom to ask: shown in every refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub description: Option<String>,
}

/// Who may set, change or take away a label. What a controller of Kubernetes makes from a pod template counts as made by
/// whoever wrote the template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("has(self.users) || has(self.groups) || has(self.serviceAccounts)", "name at least one user, group or service account")
)]
#[serde(rename_all = "camelCase")]
pub struct Protection {
    /// The values that are protected; absent: every value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub values: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub users: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub service_accounts: Vec<ServiceAccount>,
}

/// What of the stored objects does not meet a standard: admission sees changes only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelStandardStatus {
    /// The generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many stored objects are held to it.
    #[serde(default)]
    pub checked: i64,
    /// How many of these do not meet it.
    #[serde(default)]
    pub violating: i64,
    /// The first few of these, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub examples: Vec<String>,
}

impl LabelRequirement {
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(!self.forbidden)
    }
}

impl Protection {
    pub fn named(&self) -> Named<'_> {
        Named {
            users: &self.users,
            groups: &self.groups,
            service_accounts: &self.service_accounts,
        }
    }

    /// Whether this value is among the protected ones.
    pub fn covers(&self, value: Option<&String>) -> bool {
        value.is_some_and(|value| self.values.is_empty() || self.values.contains(value))
    }
}

fn namespaces() -> Vec<Kind> {
    vec![Kind::Namespace]
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_false(value: &bool) -> bool {
    !value
}
