//! One line of the log for each decision, by the uid that the API server's own audit log has too.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_netpol::rollout::Why;

use crate::envelope::Request;
use crate::review::Decision;

/// The log's target, for whoever wants these lines alone, or without the rest.
pub const TARGET: &str = "ringfence::audit";

pub fn record(request: &Request, decision: &Decision, took: Duration) {
    let silent: BTreeSet<String> = decision
        .silent
        .iter()
        .map(|silent| match &silent.why {
            Why::Audit => silent.finding.code.to_owned(),
            Why::Exempt { until, reason } => {
                format!("{} exempt until {until}: {reason}", silent.finding.code)
            }
        })
        .collect();
    let silent = silent.into_iter().collect::<Vec<_>>().join("; ");
    let broken = decision.glass_broken.as_ref();
    tracing::info!(
        target: TARGET,
        uid = request.uid,
        user = request.user_info.username.as_deref().unwrap_or_default(),
        operation = ?request.operation,
        kind = request.kind.kind,
        sub_resource = request.sub_resource.as_deref().unwrap_or_default(),
        namespace = request.namespace.as_deref().unwrap_or_default(),
        name = request.name,
        dry_run = request.dry_run,
        verdict = verdict(decision),
        codes = codes(decision),
        silent,
        filled_in = decision.patch.is_some(),
        glass_broken = broken.map(|broken| broken.codes.join(",")).unwrap_or_default(),
        reason = broken.and_then(|broken| broken.reason.as_deref()).unwrap_or_default(),
        unreadable = decision.unreadable.as_deref().unwrap_or_default(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "admission"
    );
}

/// In one word.
pub(crate) fn verdict(decision: &Decision) -> &'static str {
    match (decision.allowed(), decision.findings.is_empty()) {
        (false, _) => "denied",
        (true, false) => "warned",
        (true, true) => "allowed",
    }
}

/// Of what was found, each once.
pub(crate) fn codes(decision: &Decision) -> String {
    let codes: BTreeSet<&str> = decision.findings.iter().map(|finding| finding.code).collect();
    codes.into_iter().collect::<Vec<_>>().join(",")
}
