//! Logs, and traces where they are asked for.

mod traces;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

pub use traces::{TARGET as TRACE, Traces, continue_trace};

/// The settings of a process's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Log {
    /// What is logged, as `info` or `info,kube=warn` (the syntax of tracing-subscriber's `EnvFilter`).
    pub level: String,
    pub format: Format,
    pub traces: Traces,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object a line, for collectors.
    Json,
    /// For a terminal.
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Json,
            traces: Traces::default(),
        }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.level {level:?} cannot be understood ({reason}); write for example info or info,kube=warn")]
    Level { level: String, reason: String },
    #[error(
        "log.traces.endpoint {endpoint:?} cannot be used ({reason}); write for example http://collector.observability:4318"
    )]
    Traces { endpoint: String, reason: String },
    #[error("a log was started before in this process")]
    Twice,
}

/// Starts the log of this process, on standard error, and its traces. Must be called on the process's runtime.
///
/// # Errors
/// If the level or the collector's address cannot be understood, or a log was started before.
pub fn start(component: &str, log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.level).map_err(|e| Error::Level {
        level: log.level.clone(),
        reason: e.to_string(),
    })?;
    // What is there to be traced would cost the log time, and tells it nothing.
    let filter = filter.and(
        Targets::new()
            .with_default(tracing::Level::TRACE)
            .with_target(TRACE, None),
    );
    let traced = traces::tracer(component, &log.traces)?.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        // Requests to the API server are spans of its client.
        let client = Targets::new().with_target("kube_client", tracing::Level::DEBUG);
        layer.with_filter(client.with_target(TRACE, tracing::Level::INFO))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        Format::Text => lines.boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traced)
        .try_init()
        .map_err(|_| Error::Twice)
}

/// Sends the spans that are left, where there are any.
pub async fn end() {
    // It waits for the runtime, so it must not be waited for on it.
    let _ = tokio::task::spawn_blocking(traces::end).await; // nothing is left to be told to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_cannot_be_understood_is_named_with_a_mend() {
        let log = Log {
            level: "loud=very".to_owned(),
            ..Log::default()
        };
        let error = start("example", &log).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("log.level \"loud=very\" cannot be understood"),
            "{error}"
        );
    }
}
