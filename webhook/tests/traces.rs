//! Traces as a collector gets them: OTLP, protobuf over HTTP, received and decoded here. A program of its own, since a process has one log.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prometheus::Registry;
use prost::Message as _;
use ringfence_runtime::telemetry::{self, Log, Traces};
use ringfence_runtime::view::View;
use ringfence_webhook::metrics::Metrics;
use ringfence_webhook::routes::App;
use ringfence_webhook::settings::{Limits, Review};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower::ServiceExt as _;

async fn receive(
    State(received): State<UnboundedSender<ExportTraceServiceRequest>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    received
        .send(ExportTraceServiceRequest::decode(body).unwrap())
        .unwrap();
    StatusCode::OK
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &AnyValue| match value.value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &'_ KeyValue| text(pair.value.as_ref().unwrap());
    pairs.iter().map(|of| (of.key.as_str(), pair(of))).collect()
}

fn review() -> String {
    let policy = json!({"metadata": {"name": "web"}, "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "nonsense"}}]}]}});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "uid-1", "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"}, "name": "web", "namespace": "shop",
            "operation": "CREATE", "userInfo": {"username": "alice"}, "object": policy,
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_of_the_trace_that_it_came_with() {
    let (sender, mut received) = unbounded_channel();
    let collector = Router::new()
        .route("/v1/traces", post(receive))
        .with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, collector).await });
    let log = Log {
        traces: Traces {
            endpoint: Some(endpoint),
            ..Traces::default()
        },
        ..Log::default()
    };
    telemetry::start("webhook", &log).unwrap();

    let registry = Registry::new();
    let view = View::new(&registry).unwrap();
    let app = App::new(
        view,
        Review::default(),
        Limits::default(),
        Metrics::new(&registry).unwrap(),
    );
    let asked = |body: String| {
        let request = Request::post("/validate")
            .header("content-type", "application/json")
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            );
        app.clone()
            .router()
            .oneshot(request.body(Body::from(body)).unwrap())
    };
    assert_eq!(asked(review()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(
        asked("no JSON".to_owned()).await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    telemetry::end().await;

    let mut spans: Vec<Span> = Vec::new();
    while let Ok(Some(export)) = tokio::time::timeout(Duration::from_secs(5), received.recv()).await {
        for resource in export.resource_spans {
            let about = resource.resource.unwrap();
            assert_eq!(attributes(&about.attributes)["service.name"], "ringfence-webhook");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        if spans.iter().filter(|span| span.name == "admission").count() == 2 {
            break;
        }
    }
    let judged = spans
        .iter()
        .find(|span| span.name == "admission" && attributes(&span.attributes).contains_key("uid"));
    let judged = judged.unwrap_or_else(|| panic!("{spans:#?}"));
    let told = attributes(&judged.attributes);
    assert_eq!(
        (
            told["uid"].as_str(),
            told["namespace"].as_str(),
            told["verdict"].as_str(),
            told["codes"].as_str()
        ),
        ("uid-1", "shop", "denied", "NP001")
    );
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        (hex(&judged.trace_id), hex(&judged.parent_span_id)),
        (
            "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            "00f067aa0ba902b7".to_owned()
        )
    );
    let steps = spans.iter().filter(|span| span.parent_span_id == judged.span_id);
    let steps: Vec<&str> = steps.map(|span| span.name.as_str()).collect();
    assert!(steps.contains(&"read") && steps.contains(&"judge"), "{steps:?}");
    let rejected = spans
        .iter()
        .find(|span| attributes(&span.attributes).contains_key("rejected"));
    assert_eq!(attributes(&rejected.unwrap().attributes)["rejected"], "not_json");
}
