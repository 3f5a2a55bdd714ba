//! The router without a socket.

use super::*;
use crate::review::testing::{body, cluster};
use axum::http::Request as HttpRequest;
use futures::stream;
use prometheus::Registry;
use serde_json::Value;
use std::io;
use tower::ServiceExt;

const TO_DNS_BY_NAME: &str = "
    metadata: {name: web}
    spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}";

struct Harness {
    app: App,
    registry: Registry,
}

fn harness() -> Harness {
    let registry = Registry::new();
    let view = View::of(cluster(), &registry).unwrap();
    let metrics = Metrics::new(&registry).unwrap();
    let limits = Limits {
        body_bytes: 100_000,
        body_seconds: 1,
        ..Limits::default()
    };
    Harness {
        app: App::new(view, Review::default(), limits, metrics),
        registry,
    }
}

impl Harness {
    async fn post(&self, kind: Option<&str>, body: impl Into<Body>) -> (StatusCode, String) {
        let mut request = HttpRequest::post("/validate");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn send(&self, request: HttpRequest<Body>) -> (StatusCode, String) {
        let response = self.app.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

#[tokio::test]
async fn a_policy_with_a_near_miss_is_refused_with_the_mend() {
    let harness = harness();
    let (status, text) = harness
        .post(
            Some("application/json"),
            body("networkpolicies", TO_DNS_BY_NAME, None),
        )
        .await;
    let review: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(review["response"]["allowed"], false);
    assert_eq!(review["response"]["uid"], "uid-1");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    let message = review["response"]["status"]["message"].as_str().unwrap();
    for part in [
        "NP002",
        "spec.egress[0].to[0].namespaceSelector",
        "consequence:",
        "write kubernetes.io/metadata.name: kube-system instead of name: kube-system",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let metrics = harness.metrics();
    for line in [
        r#"ringfence_webhook_decisions_total{kind="NetworkPolicy",verdict="denied"} 1"#,
        r#"ringfence_webhook_findings_total{code="NP002",severity="deny"} 1"#,
        "ringfence_webhook_in_flight_requests 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn what_is_no_admission_request_gets_a_clear_error_and_is_counted() {
    let harness = harness();
    let json = Some("application/json");
    let good = || String::from_utf8(body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    let table: [(Option<&str>, String, StatusCode, &str); 9] = [
        (None, "not json".to_owned(), StatusCode::BAD_REQUEST, "not JSON"),
        (
            Some("text/plain"),
            "not json".to_owned(),
            StatusCode::BAD_REQUEST,
            "not JSON",
        ),
        (json, "not json".to_owned(), StatusCode::BAD_REQUEST, "not JSON"),
        (json, "{}".to_owned(), StatusCode::BAD_REQUEST, "AdmissionReview"),
        (
            json,
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#.to_owned(),
            StatusCode::BAD_REQUEST,
            "v1beta1",
        ),
        (
            json,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_owned(),
            StatusCode::BAD_REQUEST,
            "no request",
        ),
        (
            json,
            " ".repeat(100_001),
            StatusCode::PAYLOAD_TOO_LARGE,
            "larger than 100000",
        ),
        (
            Some("text/plain"),
            good(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "application/json",
        ),
        (
            None,
            good(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "application/json",
        ),
    ];
    for (kind, text, status, reason) in table {
        let (actual, message) = harness.post(kind, text).await;
        assert_eq!(actual, status, "{message}");
        assert!(message.contains(reason), "{message:?} does not say {reason:?}");
    }
    assert!(
        harness
            .metrics()
            .contains(r#"rejected_requests_total{reason="not_json"} 3"#)
    );
}

#[tokio::test]
async fn what_requests_call_themselves_comes_into_no_metric() {
    let harness = harness();
    let garbage = "{}\"\n\\{rf=\"1\"} 7 ";
    for number in 0..50 {
        let name = format!("{garbage}{number}");
        let review = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": name, "kind": {"group": name, "version": name, "kind": name}, "resource": {"resource": name},
                "subResource": name, "name": name, "namespace": name, "operation": "CREATE", "userInfo": {"username": name, "groups": [name]},
                "object": {"metadata": {"name": name, "labels": {(name.as_str()): name}}},
            },
        });
        let (status, _) = harness.post(Some("application/json"), review.to_string()).await;
        assert_eq!(status, StatusCode::OK);
    }
    let metrics = harness.metrics();
    assert!(!metrics.contains("rf="), "{metrics}");
    assert!(
        metrics.contains(r#"decisions_total{kind="other",verdict="allowed"} 50"#),
        "{metrics}"
    );
    assert!(metrics.lines().count() < 120, "{metrics}");
}

#[tokio::test]
async fn a_request_with_neither_object_is_refused_and_counted() {
    let harness = harness();
    for operation in ["CREATE", "UPDATE", "DELETE"] {
        let review = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"}, "name": "p", "namespace": "shop",
                "operation": operation, "userInfo": {}, "object": null, "oldObject": null,
            },
        });
        let (status, text) = harness.post(Some("application/json"), review.to_string()).await;
        let said: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, &said["response"]["allowed"]),
            (StatusCode::OK, &Value::Bool(false)),
            "{text}"
        );
        assert!(text.contains("object"), "{text}");
    }
    assert!(
        harness
            .metrics()
            .contains(r#"rejected_requests_total{reason="unreadable"} 3"#)
    );
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_off_at_the_limit() {
    let pieces = stream::iter((0..200).map(|_| Ok::<_, io::Error>(vec![b' '; 1_000])));
    let (status, _) = harness()
        .post(Some("application/json"), Body::from_stream(pieces))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_given_up() {
    let pieces = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Some((Ok::<_, io::Error>(" "), ()))
    });
    let (status, message) = harness()
        .post(Some("application/json"), Body::from_stream(pieces))
        .await;
    assert_eq!(
        (status, message.as_str()),
        (
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in within 1 s\n"
        )
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_client() {
    let pieces = stream::iter([Ok(" "), Err(io::Error::other("gone"))]);
    let (status, _) = harness()
        .post(Some("application/json"), Body::from_stream(pieces))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn with_no_turn_free_a_request_is_told_to_try_again() {
    let harness = harness();
    let all = u32::try_from(harness.app.shared.limits.requests).unwrap();
    let _turns = harness.app.shared.turns.acquire_many(all).await.unwrap();
    let (status, _) = harness.post(Some("application/json"), "{}").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn other_methods_and_paths_are_not_there() {
    let harness = harness();
    let get = HttpRequest::get("/validate").body(Body::empty()).unwrap();
    assert_eq!(harness.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let other = HttpRequest::post("/").body(Body::empty()).unwrap();
    assert_eq!(harness.send(other).await.0, StatusCode::NOT_FOUND);
}
