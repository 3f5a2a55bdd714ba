//! What can go wrong with a write.

/// Why an object could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{object}: the API server refused it ({code} {reason}): {message}")]
    Refused {
        object: String,
        code: u16,
        reason: String,
        message: String,
    },
    #[error("{object}: the API server could not be reached: {message}")]
    Unreachable { object: String, message: String },
    #[error("{object}: no answer from the API server within {seconds} s")]
    Late { object: String, seconds: u64 },
    #[error(
        "{object}: it was applied, but is stored otherwise; look for a mutating webhook that changes NetworkPolicies"
    )]
    NotHeld { object: String },
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
            Self::Deposed => "deposed",
            Self::Ended(_) => "ended",
        }
    }

    pub(crate) fn of_request(object: &str, error: kube::Error) -> Self {
        let object = object.to_owned();
        match error {
            kube::Error::Api(status) => Self::Refused {
                object,
                code: status.code,
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
