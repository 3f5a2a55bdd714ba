//! A request as a span of a trace, for whoever has set where traces go. Costs nothing while nobody has.

use axum::http::HeaderMap;
use ringfence_runtime::telemetry::{TRACE, continue_trace};
use tracing::Span;
use tracing::field::Empty;

use crate::audit::{codes, verdict};
use crate::envelope::Request;
use crate::review::Decision;

/// One request, as a part of the trace that it came with. API servers trace if they are told to, and then pass on which.
pub fn request(headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TRACE,
        "admission",
        otel.kind = "server",
        uid = Empty,
        operation = Empty,
        kind = Empty,
        namespace = Empty,
        name = Empty,
        verdict = Empty,
        codes = Empty,
        rejected = Empty,
    );
    if !span.is_disabled() {
        continue_trace(&span, headers);
    }
    span
}

/// A part of what is done for it.
pub fn step(name: &'static str) -> Span {
    tracing::info_span!(target: TRACE, "step", otel.name = name)
}

/// Writes down whom it was about and how it was decided.
pub fn decided(span: &Span, request: &Request, decision: &Decision) {
    if span.is_disabled() {
        return;
    }
    span.record("uid", &request.uid)
        .record("operation", tracing::field::debug(&request.operation))
        .record("kind", &request.kind.kind)
        .record("namespace", request.namespace.as_deref().unwrap_or_default())
        .record("name", &request.name)
        .record("verdict", verdict(decision))
        .record("codes", codes(decision));
}
