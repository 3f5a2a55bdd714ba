//! Logs.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The settings of a process's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Log {
    /// What is logged, as `info` or `info,kube=warn` (the syntax of tracing-subscriber's `EnvFilter`).
    pub level: String,
    pub format: Format,
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
        }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.level {level:?} cannot be understood ({reason}); write for example info or info,kube=warn")]
    Level { level: String, reason: String },
    #[error("a log was started before in this process")]
    Twice,
}

/// Starts the log of this process, on standard error.
///
/// # Errors
/// If the level cannot be understood, or a log was started before.
pub fn start(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.level).map_err(|e| Error::Level {
        level: log.level.clone(),
        reason: e.to_string(),
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        Format::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        Format::Text => subscriber.try_init(),
    }
    .map_err(|_| Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_cannot_be_understood_is_named_with_a_mend() {
        let error = start(&Log {
            level: "loud=very".to_owned(),
            ..Log::default()
        })
        .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("log.level \"loud=very\" cannot be understood"),
            "{error}"
        );
    }
}
