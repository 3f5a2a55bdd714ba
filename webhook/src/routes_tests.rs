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
async fn who_sends_slowly_keeps_nobody_else_waiting() {
    let harness = harness();
    let from = |last: u8, body: Body| {
        let address = SocketAddr::from(([10, 0, 0, last], 1));
        HttpRequest::post("/validate")
            .header(header::CONTENT_TYPE, "application/json")
            .extension(ConnectInfo(address))
            .body(body)
            .unwrap()
    };
    let all = 2 * harness.app.shared.limits.requests;
    let slow = (0..all).map(|_| {
        let never = Body::from_stream(stream::pending::<io::Result<Vec<u8>>>());
        tokio::spawn(harness.app.clone().router().oneshot(from(1, never)))
    });
    let slow: Vec<_> = slow.collect();
    tokio::task::yield_now().await;
    let start = Instant::now();
    let good = body("networkpolicies", TO_DNS_BY_NAME, None);
    let (status, text) = harness.send(from(2, good.into())).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    // As long as it waits for the view; the slow ones have not been given up by then.
    assert!(start.elapsed() < CATCH_UP + LOOK, "{:?}", start.elapsed());
    assert!(slow.iter().all(|slow| !slow.is_finished()));
    for slow in slow {
        let status = slow.await.unwrap().unwrap().status();
        assert!(
            matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE
            ),
            "{status}"
        );
    }
}

#[tokio::test]
async fn an_object_that_is_too_large_to_be_judged_is_refused_in_words_that_the_api_server_understands() {
    let harness = harness();
    let beginning =
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"uid-7","kind":{"#;
    let large = || format!("{beginning}{}", " ".repeat(100_000));
    let json = Some("application/json");
    let (status, text) = harness.post(json, large()).await;
    let said: Value = serde_json::from_str(&text).unwrap();
    let response = &said["response"];
    assert_eq!(
        (status, &response["uid"]),
        (StatusCode::OK, &Value::from("uid-7"))
    );
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&Value::Bool(false), &Value::from(413)),
        "{text}"
    );
    assert!(text.contains("limits.bodyBytes"), "{text}");
    let pieces = [beginning.to_owned(), " ".repeat(100_000)].map(Ok::<_, io::Error>);
    let (_, text) = harness.post(json, Body::from_stream(stream::iter(pieces))).await;
    assert!(
        text.contains("uid-7") && text.contains(r#""allowed":false"#),
        "{text}"
    );
    assert!(
        harness
            .metrics()
            .contains(r#"rejected_requests_total{reason="too_large"} 2"#)
    );
    // What is only filled in goes on as it came, to be judged later.
    let filled = HttpRequest::post("/mutate").body(Body::from(large())).unwrap();
    assert_eq!(harness.send(filled).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    harness.app.set_review(Review {
        mode: Mode::Warn,
        ..Review::default()
    });
    let (_, text) = harness.post(json, large()).await;
    assert!(
        text.contains(r#""allowed":true"#) && text.contains("limits.bodyBytes"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_view_that_changes_all_the_time_is_not_waited_for_any_longer() {
    let (sender, progress) = watch::channel(Progress::default());
    tokio::spawn(async move {
        loop {
            sender.send_modify(|progress| progress.revision += 1);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let cluster = cluster();
    let refused = || {
        let request = envelope::open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
        review(&request, &Review::default(), Some(&Seen::of(&cluster)), 0)
    };
    assert!(refused().rests_on_view());
    let start = Instant::now();
    let waits = caught_up(refused(), progress, refused);
    let decision = timeout(Duration::from_secs(10), waits).await;
    assert!(!decision.expect("there is an end to it").allowed());
    assert!(start.elapsed() < CATCH_UP + 2 * LOOK, "{:?}", start.elapsed());
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
    let metrics = harness.metrics();
    for reason in ["method", "path"] {
        let line = format!(r#"rejected_requests_total{{reason="{reason}"}} 1"#);
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}
