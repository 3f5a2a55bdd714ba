//! Traces: spans sent to a collector by OTLP, protobuf over HTTP.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Request, Response};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::Error;

/// The target of spans that are traced, whatever the log's level: they are no lines of the log.
pub const TARGET: &str = "ringfence::trace";

/// How long a collector may take for one export.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where spans are sent, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Traces {
    /// A collector's address for OTLP over HTTP, as `http://collector.observability:4318`; without, nothing is traced.
    pub endpoint: Option<String>,
    /// How many of a hundred requests are traced. One that comes with a trace of its own is traced if that is.
    pub percent: u8,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            percent: 100,
        }
    }
}

/// What sends the spans of this process.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What makes spans of a process of this name; `None` if nothing is to be traced.
pub(super) fn tracer(component: &str, traces: &Traces) -> Result<Option<SdkTracer>, Error> {
    let Some(endpoint) = &traces.endpoint else {
        return Ok(None);
    };
    let invalid = |reason: String| Error::Traces {
        endpoint: endpoint.clone(),
        reason,
    };
    let is_http = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("http") && uri.authority().is_some() && matches!(uri.path(), "" | "/")
    });
    if !is_http {
        return Err(invalid("it is no address of that form".to_owned()));
    }
    let provider =
        provider(component, endpoint, traces.percent).map_err(|error| invalid(error.to_string()))?;
    let tracer = provider.tracer("ringfence");
    PROVIDER.set(provider).map_err(|_| Error::Twice)?;
    Ok(Some(tracer))
}

fn provider(
    component: &str,
    endpoint: &str,
    percent: u8,
) -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender {
            client: HyperClient::with_default_connector(PATIENCE, None),
            runtime: Handle::current(),
        })
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(PATIENCE)
        .build()?;
    let some = Sampler::TraceIdRatioBased(f64::from(percent.min(100)) / 100.0);
    let service = Resource::builder().with_service_name(format!("ringfence-{component}"));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(some)))
        .with_resource(service.build())
        .build())
}

/// Sends what is left. Blocks for as long as that takes, a few seconds at most.
pub(super) fn end() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(PATIENCE)
    {
        tracing::warn!(%error, "the last spans could not be sent");
    }
}

/// Makes a span a part of the trace that a request came with, if it came with one.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if PROVIDER.get().is_some() && headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        let _ = span.set_parent(parent); // a span that is not traced has none
    }
}

/// Sends on the process's own runtime what a thread of the exporter hands over.
#[derive(Debug)]
struct Sender {
    client: HyperClient,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}
