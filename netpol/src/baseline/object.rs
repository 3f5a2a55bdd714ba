//! The stored objects that the generator owns: how they are marked, and how to see whether they are still as rendered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The field manager of everything that the generator writes.
pub const FIELD_MANAGER: &str = "ringfence-generator";

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "ringfence";

/// On a policy: the baseline that it comes from. On a namespace, with [`OPTED_IN`]: take it in although it is older.
pub const BASELINE: &str = "ringfence.dev/baseline";
pub const OPTED_IN: &str = "enabled";

/// The generation of the baseline that a policy was rendered from.
pub const GENERATION: &str = "ringfence.dev/baseline-generation";
/// The hash of a policy's specification as rendered.
pub const HASH: &str = "ringfence.dev/hash";
pub const DESCRIPTION: &str = "ringfence.dev/description";
/// That the baseline took the namespace because it was new: on the policies, since a baseline that is made again is younger than all of them.
pub const TAKEN_AS_NEW: &str = "ringfence.dev/taken-as-new";
/// What becomes of a policy once its baseline is gone: on the policy itself, so that a baseline needs no finalizer and can be
/// deleted while no generator runs.
pub const RETENTION: &str = "ringfence.dev/retention";
pub const REMOVE: &str = "Remove";
pub const KEEP: &str = "Keep";
/// On a baseline: the revision in Git that it was applied from. On a policy: the one that it was last written from.
pub const REVISION: &str = "ringfence.dev/revision";

/// The labels and annotations that the generator owns; all others are left to whoever set them. A policy's [`REVISION`] is not
/// among them: a commit that leaves a baseline as it was must not write every policy of the cluster anew.
const OWN_LABELS: [&str; 2] = [MANAGED_BY, BASELINE];
const OWN_ANNOTATIONS: [&str; 5] = [GENERATION, HASH, DESCRIPTION, RETENTION, TAKEN_AS_NEW];

/// The policy as it is sent to the API server, in one form for whoever sends or shows it: all fields in the order of their names.
pub fn body(policy: &NetworkPolicy) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(policy)
}

/// What a policy says, short and comparable. Cryptographic, since an edit must not be able to keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    fn of(value: &impl Serialize) -> Self {
        let mut hash = Sha256::new();
        // Structs in the order of their fields and sorted maps: the same value always gives the same text. Writing such a
        // value to a hash cannot fail; if it could, the digest of an empty text would be seen as drift, not as sameness.
        let text = serde_json::to_vec(value).unwrap_or_default();
        hash.update(&text);
        Self(hash.finalize().into())
    }

    /// Of everything in the object that the generator owns.
    pub fn of_policy(policy: &NetworkPolicy) -> Self {
        let spec = policy.spec.as_ref().map(canonical);
        let own = |map: &Option<BTreeMap<String, String>>, keys: &[&'static str]| -> BTreeMap<&str, String> {
            let map = map.as_ref();
            keys.iter()
                .filter_map(|key| Some((*key, map?.get(*key)?.clone())))
                .collect()
        };
        Self::of(&(
            spec,
            own(&policy.metadata.labels, &OWN_LABELS),
            own(&policy.metadata.annotations, &OWN_ANNOTATIONS),
        ))
    }

    /// Of a specification.
    pub fn of_spec(spec: &NetworkPolicySpec) -> Self {
        Self::of(&canonical(spec))
    }

    /// The first half of it, in hexadecimal digits.
    pub fn short(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The specification without the differences that mean nothing: what the API server leaves out when it stores an object.
fn canonical(spec: &NetworkPolicySpec) -> NetworkPolicySpec {
    fn full<T>(list: &Option<Vec<T>>) -> Option<&[T]> {
        list.as_deref().filter(|list| !list.is_empty())
    }
    fn selector(selector: &LabelSelector) -> LabelSelector {
        LabelSelector {
            match_labels: selector.match_labels.clone().filter(|labels| !labels.is_empty()),
            match_expressions: full(&selector.match_expressions).map(<[_]>::to_vec),
        }
    }
    fn peers(peers: &Option<Vec<NetworkPolicyPeer>>) -> Option<Vec<NetworkPolicyPeer>> {
        let peer = |peer: &NetworkPolicyPeer| {
            let mut peer = peer.clone();
            peer.pod_selector = peer.pod_selector.as_ref().map(selector);
            peer.namespace_selector = peer.namespace_selector.as_ref().map(selector);
            if let Some(block) = &mut peer.ip_block {
                block.except = block.except.take().filter(|except| !except.is_empty());
            }
            peer
        };
        full(peers).map(|list| list.iter().map(peer).collect())
    }
    fn ports(ports: &Option<Vec<NetworkPolicyPort>>) -> Option<Vec<NetworkPolicyPort>> {
        let port = |port: &NetworkPolicyPort| {
            let mut port = port.clone();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            port
        };
        full(ports).map(|list| list.iter().map(port).collect())
    }
    let mut canonical = spec.clone();
    canonical.pod_selector = canonical.pod_selector.as_ref().map(selector);
    canonical.policy_types = full(&canonical.policy_types).map(<[_]>::to_vec);
    canonical.ingress = full(&canonical.ingress).map(|rules| {
        let mut rules = rules.to_vec();
        for rule in &mut rules {
            (rule.from, rule.ports) = (peers(&rule.from), ports(&rule.ports));
        }
        rules
    });
    canonical.egress = full(&canonical.egress).map(|rules| {
        let mut rules = rules.to_vec();
        for rule in &mut rules {
            (rule.to, rule.ports) = (peers(&rule.to), ports(&rule.ports));
        }
        rules
    });
    canonical
}

/// What is stored in a namespace, by name.
pub type Stored<'a> = BTreeMap<&'a str, &'a PolicyRecord>;

/// A stored NetworkPolicy as the generator sees it: whose it is, and what it says, but no more, so that ten thousand
/// namespaces fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PolicyRecord {
    /// Somebody else's.
    Foreign {
        /// Of its specification, to see whether it is what a template says.
        spec: Digest,
    },
    Owned {
        /// The baseline that it names; empty if somebody took the label away.
        baseline: String,
        uid: String,
        digest: Digest,
        closes: Closes,
        /// It outlives its baseline.
        kept: bool,
        /// Its baseline took the namespace because it was new.
        as_new: bool,
        /// Of the baseline that it was rendered from, as it says itself.
        generation: i64,
        /// If it is being deleted: the finalizers that it waits for.
        leaving: Option<Vec<String>>,
    },
}

/// How much a policy closes by itself, most first: the order in which policies come, and the reverse of that in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Closes {
    /// Every pod, in both directions: a default deny.
    Everything,
    /// It has no rules: whatever it selects is closed.
    Something,
    /// It has rules, and opens as much as these say.
    Nothing,
}

impl Closes {
    pub(super) fn of(spec: Option<&NetworkPolicySpec>) -> Self {
        let Some(spec) = spec else { return Self::Nothing };
        if spec.ingress.iter().flatten().count() + spec.egress.iter().flatten().count() > 0 {
            return Self::Nothing;
        }
        let every_pod = spec.pod_selector.as_ref().is_none_or(|pods| {
            pods.match_labels.iter().flatten().count() + pods.match_expressions.iter().flatten().count() == 0
        });
        let directions = spec.policy_types.as_ref().map_or(1, Vec::len);
        if every_pod && directions == 2 {
            Self::Everything
        } else {
            Self::Something
        }
    }
}

impl PolicyRecord {
    /// An object is the generator's if it carries its labels, or if the API server remembers that the generator applied it:
    /// so taking the labels away does not take the object away.
    pub fn of(policy: &NetworkPolicy) -> Self {
        let meta = &policy.metadata;
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
        let labelled =
            label(MANAGED_BY).is_some_and(|manager| manager == MANAGER) && label(BASELINE).is_some();
        let applied = || {
            meta.managed_fields.iter().flatten().any(|entry| {
                entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
            })
        };
        if !labelled && !applied() {
            let spec = policy.spec.as_ref().map(Digest::of_spec);
            return Self::Foreign {
                spec: spec.unwrap_or_else(|| Digest::of(&())),
            };
        }
        let annotation = |key: &str| {
            meta.annotations
                .as_ref()
                .and_then(|annotations| annotations.get(key))
        };
        Self::Owned {
            baseline: label(BASELINE).cloned().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            digest: Digest::of_policy(policy),
            closes: Closes::of(policy.spec.as_ref()),
            kept: annotation(RETENTION).is_some_and(|retention| retention == KEEP),
            as_new: annotation(TAKEN_AS_NEW).is_some(),
            generation: annotation(GENERATION)
                .and_then(|generation| generation.parse().ok())
                .unwrap_or_default(),
            leaving: meta
                .deletion_timestamp
                .is_some()
                .then(|| meta.finalizers.clone().unwrap_or_default()),
        }
    }
}

/// A NetworkPolicy that is watched for [`PolicyRecord`]s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyObject(pub NetworkPolicy);

impl Resource for PolicyObject {
    type DynamicType = ();
    type Scope = <NetworkPolicy as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        NetworkPolicy::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        NetworkPolicy::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        NetworkPolicy::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        NetworkPolicy::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn policy(spec: Value, labels: Value) -> NetworkPolicy {
        serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "ns", "uid": "1", "labels": labels},
            "spec": spec,
        }))
        .unwrap()
    }

    fn digest(spec: Value) -> Digest {
        Digest::of_policy(&policy(spec, json!({})))
    }

    #[test]
    fn what_the_api_server_leaves_out_or_fills_in_is_no_difference() {
        let rendered = json!({
            "podSelector": {"matchLabels": {}}, "policyTypes": ["Ingress", "Egress"], "ingress": [],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}], "ports": [{"port": 53}]}],
        });
        let stored = json!({
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 53, "protocol": "TCP"}]}],
        });
        assert_eq!(digest(rendered), digest(stored));
    }

    #[test]
    fn what_changes_the_meaning_is_a_difference() {
        let base = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
        for other in [
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
            json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"]}),
        ] {
            assert_ne!(digest(base.clone()), digest(other.clone()), "{other}");
        }
        let anywhere =
            json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]});
        let here = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
        assert_ne!(
            digest(anywhere),
            digest(here),
            "an empty selector is not an absent one"
        );
    }

    #[test]
    fn labels_of_others_are_no_difference_and_ours_are() {
        let spec = json!({"podSelector": {}});
        let ours = json!({"app.kubernetes.io/managed-by": "ringfence", "ringfence.dev/baseline": "starter"});
        let mut with_theirs = ours.clone();
        with_theirs["team"] = json!("red");
        let mut edited = ours.clone();
        edited["ringfence.dev/baseline"] = json!("other");
        let of = |labels| Digest::of_policy(&policy(spec.clone(), labels));
        assert_eq!(of(ours.clone()), of(with_theirs));
        assert_ne!(of(ours), of(edited));
    }

    #[test]
    fn an_object_is_ours_by_its_labels_or_by_who_applied_it() {
        let spec = json!({"podSelector": {}});
        let ours = json!({"app.kubernetes.io/managed-by": "ringfence", "ringfence.dev/baseline": "starter"});
        assert!(matches!(
            PolicyRecord::of(&policy(spec.clone(), ours)),
            PolicyRecord::Owned { baseline, .. } if baseline == "starter"
        ));
        let mut stripped = policy(spec, json!({"app.kubernetes.io/managed-by": "Helm"}));
        assert!(matches!(
            PolicyRecord::of(&stripped),
            PolicyRecord::Foreign { .. }
        ));
        stripped.metadata.managed_fields = serde_json::from_value(json!([
            {"manager": "ringfence-generator", "operation": "Apply"},
            {"manager": "kubectl-edit", "operation": "Update"},
        ]))
        .unwrap();
        assert!(matches!(PolicyRecord::of(&stripped), PolicyRecord::Owned { .. }));
    }
}
