//! Rules that judge a NetworkPolicy before it is stored: at admission, and on the command line.
//!
//! One rule is one file in [`rules`], and one line in [`rules::ALL`]. A rule looks at a [`Subject`] and says what it
//! [`Found`]; code, severity and object are added here. What several rules need to know is worked out once, in
//! the subject.

mod dead;
mod near;
mod peers;
pub mod rules;
mod severity;
mod subject;
#[cfg(test)]
mod testing;

use k8s_openapi::api::networking::v1::NetworkPolicy;

pub use severity::{Level, Severities, UnknownCode};
pub use subject::Subject;

use crate::cluster::Cluster;
use crate::finding::{Finding, Mend, Object, Severity};
use crate::policy::Policy;

/// One thing that is checked.
#[derive(Debug)]
pub struct Rule {
    /// Never reused for another meaning.
    pub code: &'static str,
    /// As `selector-misspelt`.
    pub name: &'static str,
    /// What it finds, in one sentence.
    pub finds: &'static str,
    /// Why that matters, in a few.
    pub why: &'static str,
    /// What a finding weighs if the platform team says nothing else.
    pub severity: Severity,
    /// Whether it compares with the live cluster, and so cannot judge without.
    pub needs_cluster: bool,
    /// The specification of a policy that it finds something in.
    pub bad: &'static str,
    /// What was probably meant.
    pub good: &'static str,
    pub check: fn(&Subject<'_>) -> Vec<Found>,
}

/// What a rule found in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub field: String,
    pub message: String,
    pub consequence: String,
    pub mend: Option<Mend>,
}

/// Judges a policy, with the cluster in view if there is one, and by the rules that need none otherwise.
pub fn lint(object: &NetworkPolicy, cluster: Option<&Cluster>, severities: &Severities) -> Vec<Finding> {
    judge(object, None, cluster, severities)
}

/// The same for a policy whose text is at hand: what the API server would drop of it can still be seen there.
pub fn lint_written(
    object: &NetworkPolicy,
    written: &serde_json::Value,
    cluster: Option<&Cluster>,
    severities: &Severities,
) -> Vec<Finding> {
    judge(object, Some(written), cluster, severities)
}

fn judge(
    object: &NetworkPolicy,
    written: Option<&serde_json::Value>,
    cluster: Option<&Cluster>,
    severities: &Severities,
) -> Vec<Finding> {
    let policy = Policy::parse(object);
    let mut subject = Subject::new(object, &policy, cluster);
    subject.written = written;
    let about = Object::new("NetworkPolicy", &policy.key);
    let mut findings = Vec::new();
    for rule in rules::ALL {
        let Some(severity) = severities.of(rule) else {
            continue;
        };
        if rule.needs_cluster && cluster.is_none() {
            continue;
        }
        findings.extend((rule.check)(&subject).into_iter().map(|found| Finding {
            code: rule.code,
            severity,
            object: about.clone(),
            field: found.field,
            message: found.message,
            consequence: found.consequence,
            mend: found.mend,
        }));
    }
    findings
}
