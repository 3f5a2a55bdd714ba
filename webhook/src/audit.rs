//! One line of the log for each decision, by the uid that the API server's own audit log has too.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_netpol::rollout::Why;

use crate::envelope::Request;
use crate::review::{Decision, Meta};

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
        name = name(request),
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

/// What the object is called. Of a collection that is deleted, each object's own name is in that object only.
fn name(request: &Request) -> String {
    if !request.name.is_empty() {
        return request.name.clone();
    }
    let named = |meta: Meta| {
        let Meta { metadata } = meta;
        metadata.name.or(metadata.generate_name)
    };
    let old = request.old_object::<Meta>().ok().flatten();
    let new = request.object::<Meta>().ok().flatten();
    old.or(new).and_then(named).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::open;
    use serde_json::json;

    #[test]
    fn each_object_of_a_collection_that_is_deleted_has_its_name() {
        let named = |request: serde_json::Value| {
            let mut review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "DELETE", "userInfo": {}}});
            for (key, value) in request.as_object().unwrap() {
                review["request"][key] = value.clone();
            }
            name(&open(review.to_string().as_bytes()).unwrap())
        };
        assert_eq!(named(json!({"oldObject": {"metadata": {"name": "own"}}})), "own");
        assert_eq!(
            named(json!({"object": {"metadata": {"generateName": "web-"}}})),
            "web-"
        );
        assert_eq!(
            named(json!({"name": "p", "oldObject": {"metadata": {"name": "own"}}})),
            "p"
        );
        assert_eq!(named(json!({"oldObject": 7})), "");
    }
}
