//! How findings count: what the platform team says of rules, namespaces and time, laid over what the rules say themselves.
//!
//! A finding comes with the weight that its rule gives it. [`weigh`] lowers it, and never raises it: by severities that are set
//! for the cluster or for a namespace, by the mode in which the whole webhook or a rule runs, and by exemptions that end. What is
//! silenced is not forgotten, but handed back for the audit.

mod exemption;
mod local;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Severity};
use crate::lint::{Level, Severities};
pub use exemption::{Date, Exemption};
pub use local::Local;

/// What becomes of findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are kept account of, and nobody else is told.
    Audit,
    /// Whoever sent the object is told.
    Warn,
    /// Objects are refused for them.
    #[default]
    Enforce,
}

/// What the platform team says for the whole cluster.
#[derive(Debug, Clone, Copy)]
pub struct Rollout<'a> {
    pub mode: Mode,
    /// By code; the stricter of it and [`Self::mode`] does not count, the milder does.
    pub modes: &'a BTreeMap<String, Mode>,
    pub severities: &'a Severities,
    pub exemptions: &'a [Exemption],
}

/// A finding that nobody is told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Silent {
    pub finding: Finding,
    pub why: Why,
}

/// Why nobody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The mode is audit.
    Audit,
    /// It is exempt until then, for this reason.
    Exempt { until: Date, reason: String },
}

/// What is told of, and what is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weighed {
    pub told: Vec<Finding>,
    pub silent: Vec<Silent>,
}

/// Weighs what was found in a namespace, at a time (in seconds of the Unix time).
pub fn weigh(
    findings: Vec<Finding>,
    rollout: Rollout<'_>,
    local: &Local,
    namespace: &str,
    now: i64,
) -> Weighed {
    let mut weighed = Weighed::default();
    for mut finding in findings {
        let levels = [
            local.severities.level(finding.code),
            rollout.severities.level(finding.code),
        ];
        // What is said of the namespace counts before what is said of the cluster.
        match levels.into_iter().flatten().next() {
            Some(Level::Off) => continue,
            Some(Level::Warn) => finding.severity = Severity::Warn,
            Some(Level::Deny) | None => {}
        }
        let everywhere = rollout
            .exemptions
            .iter()
            .find(|exemption| exemption.covers(&finding, namespace, now));
        let here = || {
            local
                .exemptions
                .iter()
                .find(|exemption| exemption.covers(&finding, namespace, now))
        };
        if let Some(exemption) = everywhere.or_else(here) {
            let why = Why::Exempt {
                until: exemption.until,
                reason: exemption.reason.clone(),
            };
            weighed.silent.push(Silent { finding, why });
            continue;
        }
        let mode = rollout.modes.get(finding.code).copied().unwrap_or_default();
        match mode.min(rollout.mode) {
            Mode::Enforce => weighed.told.push(finding),
            Mode::Warn => {
                finding.severity = Severity::Warn;
                weighed.told.push(finding);
            }
            Mode::Audit => weighed.silent.push(Silent {
                finding,
                why: Why::Audit,
            }),
        }
    }
    weighed
}
