//! What those who work in a namespace should hear of, as an Event at it.

use ringfence_netpol::baseline::plan::{Problem, Sort};

/// Something that those who work in a namespace should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub namespace: String,
    /// The policy that it is about.
    pub policy: String,
    pub reason: &'static str,
    pub note: String,
}

impl Notice {
    /// That a baseline could not give the namespace one of its policies.
    pub fn of(namespace: &str, problem: &Problem) -> Self {
        Self {
            namespace: namespace.to_owned(),
            policy: problem.policy.clone(),
            reason: match problem.cause.sort() {
                Sort::Conflict => "BaselineConflict",
                Sort::Unrenderable => "BaselineUnrenderable",
                Sort::Obstructed => "BaselineObstructed",
            },
            note: format!(
                "NamespaceBaseline {}, policy {}: {}",
                problem.baseline, problem.policy, problem.cause
            ),
        }
    }
}
