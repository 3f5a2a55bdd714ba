//! What can go wrong with a write.

use std::time::Duration;

/// Why an object could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{object}: the API server refused it ({code} {reason}): {message}")]
    Refused {
        object: String,
        code: u16,
        reason: String,
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    #[error("{object}: the API server could not be reached: {message}")]
    Unreachable { object: String, message: String },
    #[error("{object}: no answer from the API server within {seconds} s")]
    Late { object: String, seconds: u64 },
    #[error(
        "{object}: it was applied, but is stored otherwise; look for a mutating webhook that changes NetworkPolicies"
    )]
    NotHeld { object: String },
    #[error(
        "the baseline {baseline} is not as this replica sees it, whose view is behind; nothing of it is touched until they agree"
    )]
    Behind { baseline: String },
    #[error("this replica ceased to be the leader before it was written")]
    Deposed,
    #[error("writing the policies ended unexpectedly: {0}")]
    Ended(String),
}

impl Error {
    /// The only word about an error that metrics see.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { code: 401 | 403, .. } => "forbidden",
            Self::Refused { code: 404, .. } => "not_found",
            Self::Refused { code: 409, .. } => "conflict",
            Self::Refused { code: 400 | 422, .. } => "invalid",
            Self::Refused { code: 429, .. } => "throttled",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Late { .. } => "late",
            Self::NotHeld { .. } => "not_held",
            Self::Behind { .. } => "behind",
            Self::Deposed => "deposed",
            Self::Ended(_) => "ended",
        }
    }

    /// Whether it tells of one object, so that others may well be written.
    pub fn is_of_one_object(&self) -> bool {
        match self {
            Self::NotHeld { .. } | Self::Behind { .. } => true,
            Self::Refused { code, .. } => !matches!(code, 401 | 429 | 503 | 504),
            Self::Unreachable { .. } | Self::Late { .. } | Self::Deposed | Self::Ended(_) => false,
        }
    }

    /// How long the API server is to be left alone with that object at least. What says that there is too much to do asks for a second in its
    /// head line, which does not come as far as here.
    pub fn rest(&self) -> Duration {
        match self {
            Self::Refused {
                retry_after: Some(rest),
                ..
            } => *rest,
            Self::Refused { code: 429 | 503, .. } => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn of_request(object: &str, error: kube::Error) -> Self {
        let object = object.to_owned();
        match error {
            kube::Error::Api(status) => Self::Refused {
                object,
                code: status.code,
                retry_after: status
                    .details
                    .as_ref()
                    .map(|details| u64::from(details.retry_after_seconds))
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs),
                reason: status.reason,
                message: status.message,
            },
            other => Self::Unreachable {
                object,
                message: other.to_string(),
            },
        }
    }
}
