//! Findings in words: the refusal that `kubectl` prints, and the warnings.

use kube::core::Status;
use kube::core::admission::AdmissionResponse;
use ringfence_netpol::finding::Finding;

use crate::envelope::Request;
use crate::review::Decision;

/// More findings than anybody reads at once are counted, not listed.
const LISTED: usize = 20;

/// In the API server's own audit log: what would have been refused, and why it was not.
const BROKEN: &str = "glass-broken";
const REASON: &str = "reason";

/// The answer to a request.
pub fn answer(request: &Request, decision: &Decision) -> AdmissionResponse {
    // It has no other constructor for requests whose objects were not read yet.
    let mut response = AdmissionResponse::invalid("");
    response.uid.clone_from(&request.uid);
    response.allowed = true;
    response.result = Status::default();
    if let Some(broken) = &decision.glass_broken {
        let reason = broken.reason.clone().unwrap_or_default();
        response
            .audit_annotations
            .insert(BROKEN.to_owned(), broken.codes.join(","));
        response.audit_annotations.insert(REASON.to_owned(), reason);
    }
    if let Some(patch) = decision.patch.clone().filter(|_| decision.allowed()) {
        // Writing a patch of strings to memory cannot fail; if it could, the object goes on as it came.
        response = match response.clone().with_patch(patch) {
            Ok(patched) => patched,
            Err(_) => response,
        };
    }
    if !decision.allowed() {
        response = response.deny(refusal(decision));
        response.result.code = 403;
        response.result.reason = "Forbidden".to_owned();
    }
    let warnings = warnings(decision);
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    response
}

/// The answer to a request that is too large to be judged: it is refused, unless refusals are switched off. Where failures of this server are
/// passed over, to fail instead would let the object pass with whatever it says.
pub fn too_large(uid: String, most: usize, refused: bool) -> AdmissionResponse {
    let mut response = AdmissionResponse::invalid("");
    let reason = format!(
        "the object cannot be judged: with what is there already, it takes more than {most} bytes (limits.bodyBytes) to send it here"
    );
    response.uid = uid;
    response.allowed = true;
    response.result = Status::default();
    if refused {
        response = response.deny(reason);
        response.result.code = 413;
        response.result.reason = "RequestEntityTooLarge".to_owned();
    } else {
        response.warnings = Some(vec![reason]);
    }
    response
}

fn refusal(decision: &Decision) -> String {
    if let Some(reason) = &decision.unreadable {
        return reason.clone();
    }
    let denials: Vec<&Finding> = decision.denials().collect();
    let object = denials
        .first()
        .map(|first| first.object.to_string())
        .unwrap_or_default();
    let count = match denials.len() {
        1 => "one finding".to_owned(),
        more => format!("{more} findings"),
    };
    let mut text = format!("{object} is refused for {count}:");
    for finding in denials.iter().take(LISTED) {
        text.push_str(&format!("\n\n{finding}"));
    }
    if let Some(more) = beyond(denials.len()) {
        text.push_str(&format!("\n\n{more}"));
    }
    text
}

/// One line each, since the API server drops a warning with a line break in it.
fn warnings(decision: &Decision) -> Vec<String> {
    let findings: Vec<&Finding> = decision.warnings().collect();
    let lines = findings.iter().take(LISTED).map(|finding| finding.line());
    let notes = decision.notes.iter().map(|note| (*note).to_owned());
    lines.chain(beyond(findings.len())).chain(notes).collect()
}

fn beyond(count: usize) -> Option<String> {
    count
        .checked_sub(LISTED)
        .filter(|more| *more > 0)
        .map(|more| format!("and {more} more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::open;
    use crate::review::testing::{body, cluster};
    use crate::review::{Seen, review};
    use crate::settings::Review;

    fn answered(object: &str) -> AdmissionResponse {
        let request = open(&body("networkpolicies", object, None)).unwrap();
        answer(
            &request,
            &review(&request, &Review::default(), Some(&Seen::of(&cluster())), 0),
        )
    }

    #[test]
    fn a_refusal_names_code_field_consequence_and_mend_and_lesser_findings_are_warnings() {
        let response = answered(
            "metadata: {name: web}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: prometheus}}}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]
    ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]",
        );
        insta::assert_snapshot!(response.result.message);
        insta::assert_snapshot!(response.warnings.unwrap().join("\n"));
        assert_eq!(
            (response.allowed, response.uid.as_str(), response.result.code),
            (false, "uid-1", 403)
        );
    }

    #[test]
    fn many_findings_are_counted_and_not_listed() {
        let peers = "{ipBlock: {cidr: nonsense}},".repeat(50);
        let response = answered(&format!(
            "{{metadata: {{name: web}}, spec: {{podSelector: {{}}, ingress: [{{from: [{peers}]}}]}}}}"
        ));
        assert_eq!(response.result.message.matches("NP001").count(), LISTED);
        assert!(response.result.message.ends_with("and 30 more"));
    }

    #[test]
    fn what_is_good_is_taken_without_a_word() {
        let response = answered(
            "{metadata: {name: web}, spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}}",
        );
        assert_eq!((response.allowed, response.warnings), (true, None));
    }
}
