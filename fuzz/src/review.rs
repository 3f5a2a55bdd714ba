//! Whatever is posted to the webhook is judged or told why not; and the answer is one that an API server can read.

use std::sync::LazyLock;

use ringfence_netpol::cluster::Cluster;
use ringfence_webhook::answer::answer;
use ringfence_webhook::envelope::{Request, open};
use ringfence_webhook::review::{Decision, Seen, hold, review};
use ringfence_webhook::settings::Review;
use serde_json::{Value, json};

use crate::draw::Draw;
use crate::policy::draw_policy;

/// When everything is judged, in seconds of the Unix time.
const NOW: i64 = 1_700_000_000;

/// A request if it begins like JSON; else choices by which a request about a policy is made.
pub fn run(data: &[u8]) {
    if data.first().is_none_or(|first| b"{[ \t\n\r".contains(first)) {
        judge(data);
    } else {
        judge(draw_request(&mut Draw::new(data)).to_string().as_bytes());
    }
}

fn judge(body: &[u8]) {
    let request = match open(body) {
        Ok(request) => request,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < 1_000, "{said}");
            assert!(error.status().is_client_error());
            return;
        }
    };
    let seen = Seen::of(&CLUSTER);
    for seen in [None, Some(&seen)] {
        for decide in [review, hold] {
            answered(&request, &decide(&request, &Review::default(), seen, NOW));
        }
    }
}

/// An answer that an API server can read, and that says why it refuses.
fn answered(request: &Request, decision: &Decision) {
    let response = answer(request, decision);
    assert_eq!(
        (&response.uid, response.allowed),
        (&request.uid, decision.allowed())
    );
    assert!(
        response.allowed || !response.result.message.is_empty(),
        "refused without a word"
    );
    for warning in response.warnings.iter().flatten() {
        assert!(
            !warning.contains(['\n', '\r', '\0']),
            "an API server drops this: {warning:?}"
        );
    }
    serde_json::to_string(&response).expect("an answer can be written");
}

fn draw_request(draw: &mut Draw<'_>) -> Value {
    let (group, kind) = draw.of(&[
        ("networking.k8s.io", "NetworkPolicy"),
        ("networking.k8s.io", "NetworkPolicy"),
        ("", "Namespace"),
        ("ringfence.dev", "LabelStandard"),
        ("", "Pod"),
    ]);
    let object = match kind {
        "NetworkPolicy" => draw_policy(draw),
        "LabelStandard" => draw_standard(draw),
        _ => json!({"metadata": {"name": "x", "labels": crate::draw::labels(draw)}}),
    };
    let old = draw.unless_one_in(2, |draw| match kind {
        "NetworkPolicy" => draw_policy(draw),
        _ => json!({"metadata": {"name": "x", "labels": crate::draw::labels(draw)}}),
    });
    let request = json!({
        "uid": "u", "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": kind.to_lowercase()},
        "name": "p", "namespace": draw.of(&["x", "kube-system", ""]), "operation": draw.of(&["CREATE", "UPDATE", "DELETE", "CONNECT"]),
        "userInfo": {"username": draw.text(8)}, "object": draw.unless_one_in(10, |_| object), "oldObject": old, "dryRun": draw.one_in(2),
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn draw_standard(draw: &mut Draw<'_>) -> Value {
    let labels = draw.list(3, |draw| {
        let values = draw.unless_one_in(2, |draw| json!(draw.list(2, |draw| draw.text(5))));
        let pattern = draw.unless_one_in(2, |draw| json!(draw.text(12)));
        let key = if draw.one_in(3) {
            draw.text(10)
        } else {
            "tier".to_owned()
        };
        draw.fields([
            ("key", Some(json!(key))),
            ("allowedValues", values),
            ("pattern", pattern),
        ])
    });
    json!({"metadata": {"name": "s"}, "spec": {"labels": labels}})
}

/// DNS, a namespace of a tenant, and a standard that it does not meet.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let manifests = "
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system, labels: {kubernetes.io/metadata.name: kube-system}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {kubernetes.io/metadata.name: x, tier: gold}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: a}}}
---
{apiVersion: ringfence.dev/v1alpha1, kind: LabelStandard, metadata: {name: tiers}, spec: {labels: [{key: tier, allowedValues: [gold, silver]}]}}
";
    let reading = ringfence_cli::read::read_texts([("cluster.yaml", manifests)], &Default::default());
    assert_eq!(reading.problems, []);
    reading.cluster
});
