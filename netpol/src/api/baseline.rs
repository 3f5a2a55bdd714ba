//! `NamespaceBaseline`: the policies that every namespace of a kind must have.
//!
//! Only the shape of the object; what its templates mean is [`crate::baseline`]'s. The CEL rules here refuse what is
//! certainly a mistake, at `kubectl apply`; names of facts and variables are judged by the generator, whose status says so,
//! since an older API server's schema must not stand in the way of a newer fact.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policies that every selected namespace must have, and keeps.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "NamespaceBaseline",
    derive = "PartialEq",
    status = "NamespaceBaselineStatus",
    shortname = "nsb",
    category = "ringfence",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("the name becomes a label's value, so it has at most 63 characters"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every selected namespace has what it must have"
    ),
    printcolumn(name = "Matched", type_ = "integer", json_path = ".status.namespaces.matched"),
    printcolumn(name = "Holding", type_ = "integer", json_path = ".status.namespaces.ready"),
    printcolumn(name = "Conflicting", type_ = "integer", json_path = ".status.namespaces.conflicting"),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        priority = 1,
        description = "Of baselines that make a policy of the same name, the highest makes it"
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".metadata.annotations.ringfence\\.dev/revision",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceBaselineSpec {
    /// Which namespaces, by their labels; `{}` selects all. Never taken, whatever is written here: kube-system, kube-public,
    /// kube-node-lease and ringfence-system.
    pub namespace_selector: LabelSelector,
    /// Further namespaces that are never taken, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub excluded_namespaces: Vec<String>,
    /// What of namespaces that are older than this object.
    #[serde(default)]
    pub existing_namespaces: ExistingNamespaces,
    /// Baselines add up. Where several make a policy of the same name, the one with the highest priority makes it; with the same
    /// priority it is the first by name, and both report the conflict. Policies for each routed Service come behind all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// What becomes of the policies of a namespace that is no longer selected, and of all once this object is deleted.
    #[serde(default)]
    pub retention: Retention,
    /// What of a NetworkPolicy that has the name of a template and is not Ringfence's.
    #[serde(default)]
    pub adoption: Adoption,
    /// Leaves what it made as it is: nothing is made, mended or removed until this is false again. Where it made nothing, other baselines do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Whom a tenant asks, as `#platform or platform@example.com`; stands on each policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub contact: Option<String>,
    /// Facts by name: a fact that is found in the cluster (dns, ingressControllers) pinned by hand, or one of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub facts: BTreeMap<String, FactSource>,
    /// The policies of each namespace.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub policies: Vec<PolicyTemplate>,
}

/// What of namespaces that are older than the baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExistingNamespaces {
    /// The selector decides, for old and new alike.
    #[default]
    Include,
    /// Taken only with the label `ringfence.dev/baseline: enabled`, so that applying the baseline cuts no traffic.
    OptIn,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// What becomes of policies whose reason is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They are removed, what closes last.
    #[default]
    Remove,
    /// They stay as they are, and nobody mends them any more.
    Keep,
}

/// What of an object of somebody else's that has the name of a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// It is left alone and reported.
    #[default]
    Never,
    /// It becomes Ringfence's if its specification is the template's; else it is reported.
    IfEqual,
    /// It becomes Ringfence's, and its specification the template's.
    Force,
}

/// What a template is made once for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForEach {
    /// Each Service of the namespace that an Ingress or an HTTPRoute of the namespace routes to: the policy selects its pods, is named after it, and its
    /// rules without ports allow the ports behind the route.
    RoutedService,
}

/// Where a fact comes from: exactly one of the fields.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.services) != has(self.rules)")
        .message("a fact has either services or rules")
)]
pub struct FactSource {
    /// The pods behind these Services, on the ports where they listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub services: Option<Vec<ServiceReference>>,
    /// By hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub rules: Option<Vec<FactRule>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReference {
    pub namespace: String,
    pub name: String,
}

/// Peers and the ports on which they listen: both belong together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FactRule {
    /// What it was found by, as `Service kube-system/kube-dns`; empty for what was written by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Each with namespaceSelector or ipBlock: a bare podSelector would look in each policy's own namespace.
    #[schemars(length(min = 1, max = 256))]
    pub peers: Vec<NetworkPolicyPeer>,
    /// Empty: all ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ports: Vec<NetworkPolicyPort>,
}

/// One policy of each namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.forEach) || !('Egress' in self.spec.policyTypes)")
        .message("a policy for each routed Service isolates for Ingress only"),
    validation = Rule::new("!has(self.forEach) || (!has(self.spec.podSelector.matchLabels) && !has(self.spec.podSelector.matchExpressions))")
        .message("a policy for each routed Service selects the Service's pods; write podSelector: {}")
)]
pub struct PolicyTemplate {
    /// The name of the NetworkPolicy; with forEach, what it begins with.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// For whoever finds the policy in their namespace: what it is for, whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Makes it once for each, instead of once; for none of them, not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    pub spec: PolicyTemplateSpec,
}

/// A NetworkPolicy's specification whose rules may name a fact, and whose label values and blocks may hold variables:
/// `${namespace.name}`, `${namespace.labels.KEY}`, `${namespace.annotations.KEY}`.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.ingress) || 'Ingress' in self.policyTypes")
        .message("ingress rules need Ingress in policyTypes"),
    validation = Rule::new("!has(self.egress) || 'Egress' in self.policyTypes")
        .message("egress rules need Egress in policyTypes")
)]
pub struct PolicyTemplateSpec {
    /// Which pods; `{}` is all.
    pub pod_selector: LabelSelector,
    /// Which directions it isolates; what no rule allows is then denied.
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub policy_types: Vec<PolicyType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ingress: Option<Vec<IngressTemplate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub egress: Option<Vec<EgressTemplate>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyType {
    Ingress,
    Egress,
}

/// A rule for who may open connections to the pods: exactly one of `fact`, `from` and `anyone`.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.fact), has(self.from), has(self.anyone)].filter(given, given).size() == 1")
        .message("a rule has exactly one of fact, from and anyone; without a peer it would allow everyone")
)]
pub struct IngressTemplate {
    /// The peers of a fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub from: Option<Vec<NetworkPolicyPeer>>,
    /// Everyone, inside and outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anyone: Option<Anyone>,
    /// Absent: the fact's ports, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// A rule for where the pods may open connections to: exactly one of `fact`, `to` and `anyone`.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.fact), has(self.to), has(self.anyone)].filter(given, given).size() == 1")
        .message("a rule has exactly one of fact, to and anyone; without a peer it would allow everyone")
)]
pub struct EgressTemplate {
    /// The peers of a fact, on the ports where they listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub to: Option<Vec<NetworkPolicyPeer>>,
    /// Everyone, inside and outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anyone: Option<Anyone>,
    /// Absent: the fact's ports, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// Says that a rule without peers is meant so: `anyone: {}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Anyone {}

/// What the generator made of a baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceBaselineStatus {
    /// The generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub namespaces: NamespaceCounts,
    /// What the facts that its rules use stand for. Also what is kept while the cluster cannot say: a fact whose pods are gone
    /// for a moment keeps its last known value, also over a restart of the generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub facts: Vec<Fact>,
    /// `Valid`: the templates could be understood. `FactsResolved`: every fact that they use stands for something. `Matched`: some namespace is taken.
    /// `Ready`: every namespace that it matches has what it must have. `Conflicting`: something else has the name of a policy, with examples. `Degraded`: what
    /// is not as it must be for any other reason, with examples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCounts {
    /// Selected, and not being deleted.
    #[serde(default)]
    pub matched: i64,
    /// Of these, how many have every policy as it must be.
    #[serde(default)]
    pub ready: i64,
    /// Of these, in how many a policy's name is taken: by an object that is not the generator's, or by another baseline.
    #[serde(default)]
    pub conflicting: i64,
}

/// What a fact stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    pub name: String,
    pub state: FactState,
    /// Where it comes from, and what is wanting.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<FactRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FactState {
    /// As the cluster is now.
    Resolved,
    /// Part of it, or all, is as it was last known.
    LastKnown,
    /// Stands for nothing: the rules that use it are left out.
    Unresolved,
    /// Written by hand.
    Pinned,
}
