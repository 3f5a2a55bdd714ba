//! The baseline's guard: what the generator owns is neither deleted nor weakened, nor is a namespace taken out of its baseline, by those
//! whom it is there to hold.
//!
//! The generator brings back what is deleted and edited, but a moment later; and what it takes for its own it finds by labels and
//! field managers, which whoever may write the object may write too. So each change is judged by the object **as it is
//! stored**, before the change could strip it of what it is known by, and no way to write makes a difference: an update, a patch, a
//! forced server-side apply, a subresource, a collection that is deleted item by item.
//!
//! Who may: the generator; Kubernetes's namespace controller and garbage collector, while the namespace goes; and whom the settings name for
//! emergencies, which whoever calls this asks for by [`Guard::breaks_glass`] and keeps account of.

mod baseline;
mod catalogue;
mod namespace;
mod policy;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Mend, Object, Severity};
use crate::requester::{Named, Requester, ServiceAccount};

pub use baseline::judge_baseline;
pub use catalogue::CATALOGUE;
pub use namespace::{judge_annotations, judge_namespace};
pub use policy::{Attempt, judge_policy};

/// A policy that the generator owns is deleted.
pub const DELETED: &str = "BG001";
/// The specification of a policy that the generator owns is changed.
pub const CHANGED: &str = "BG002";
/// What marks a policy as the generator's, or holds it where it is, is changed.
pub const MARKS: &str = "BG003";
/// Somebody else's policy is marked as the generator's.
pub const FORGED: &str = "BG004";
/// A policy takes the name that a baseline's has.
pub const NAME_TAKEN: &str = "BG005";
/// A namespace leaves a baseline.
pub const LEAVES: &str = "BG006";
/// A namespace's policies are no longer enforced.
pub const MODE: &str = "BG007";
/// What only the platform team may say of a namespace is changed.
pub const PLATFORM: &str = "BG008";
/// What the platform team says of a namespace cannot be understood.
pub const UNREADABLE: &str = "BG009";
/// A part of a baseline cannot be understood.
pub const MISWRITTEN: &str = "BG010";

/// On whatever is changed in an emergency: why.
pub const REASON: &str = "ringfence.dev/reason";
/// On a namespace: `audit` lets pass what its policies would deny.
pub const MODE_LABEL: &str = "ringfence.dev/mode";
pub const AUDIT: &str = "audit";
/// On a namespace: what rules weigh there.
pub const SEVERITIES: &str = "ringfence.dev/severities";
/// On a namespace: what is let pass there for a time.
pub const EXEMPTIONS: &str = "ringfence.dev/exemptions";
/// What all keys of labels and annotations that are Ringfence's begin with.
pub const PREFIX: &str = "ringfence.dev/";

/// Who may do what the others may not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Guard {
    /// As whom the generator writes.
    pub generator: ServiceAccount,
    /// Who may take namespaces out of baselines, lower their mode and set what rules weigh there.
    pub platform: Principals,
    /// Who may do in an emergency what the guard and protected labels keep others from; each time is kept account of. Kubernetes's own
    /// group for emergencies, unless it is said otherwise.
    pub break_glass: Principals,
    /// Whether breaking the glass needs a reason, in the annotation `ringfence.dev/reason` of the object.
    pub reason_required: bool,
}

/// Users, groups and service accounts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Principals {
    pub users: Vec<String>,
    pub groups: Vec<String>,
    pub service_accounts: Vec<ServiceAccount>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            generator: ServiceAccount {
                namespace: "ringfence-system".to_owned(),
                name: "ringfence-generator".to_owned(),
            },
            platform: Principals {
                groups: vec!["system:masters".to_owned()],
                ..Principals::default()
            },
            break_glass: Principals {
                groups: vec!["system:masters".to_owned()],
                ..Principals::default()
            },
            reason_required: false,
        }
    }
}

impl Principals {
    pub fn named(&self) -> Named<'_> {
        Named {
            users: &self.users,
            groups: &self.groups,
            service_accounts: &self.service_accounts,
        }
    }
}

impl Guard {
    pub fn is_generator(&self, requester: &Requester) -> bool {
        requester.username == self.generator.username()
    }

    pub fn is_platform(&self, requester: &Requester) -> bool {
        self.platform.named().includes(requester)
    }

    /// Whether the settings name the requester for emergencies.
    pub fn breaks_glass(&self, requester: &Requester) -> bool {
        self.break_glass.named().includes(requester)
    }
}

/// Whether it is one of the controllers that empty a namespace which is being deleted.
fn empties_namespaces(requester: &Requester) -> bool {
    matches!(
        requester.username.as_str(),
        "system:serviceaccount:kube-system:namespace-controller"
            | "system:serviceaccount:kube-system:generic-garbage-collector"
            | "system:kube-controller-manager"
    )
}

fn finding(
    code: &'static str,
    object: &Object,
    field: impl Into<String>,
    message: String,
    consequence: impl Into<String>,
    mend: Mend,
) -> Finding {
    Finding {
        code,
        severity: Severity::Deny,
        object: object.clone(),
        field: field.into(),
        message,
        consequence: consequence.into(),
        mend: Some(mend),
    }
}
