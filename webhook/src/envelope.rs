//! From a body to an admission request. What is none gets a reason that says what was wrong.

use axum::http::StatusCode;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, META_API_VERSION_V1, META_KIND};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request about an object of any kind.
pub type Request = AdmissionRequest<DynamicObject>;

/// Why a body is no admission request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error(
        "the body is a {kind} of {api_version}; this server reads AdmissionReview of admission.k8s.io/v1"
    )]
    NotAReview { kind: String, api_version: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the request in the AdmissionReview cannot be read: {0}")]
    BadRequest(String),
}

impl Error {
    /// The class of this error, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NotAReview { .. } => "not_a_review",
            Self::NoRequest => "no_request",
            Self::BadRequest(_) => "bad_request",
        }
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

/// The outermost object. Its request is looked into only once the rest is right.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

/// # Errors
/// If the body is no AdmissionReview of version 1 with a request.
pub fn open(body: &[u8]) -> Result<Request, Error> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|e| {
        if e.is_data() {
            Error::NotAReview {
                kind: "JSON value".to_owned(),
                api_version: "no version".to_owned(),
            }
        } else {
            Error::NotJson(e.to_string())
        }
    })?;
    let Envelope {
        api_version,
        kind,
        request,
    } = envelope;
    if kind != META_KIND || api_version != META_API_VERSION_V1 {
        let named = |text: String, none: &str| match text.chars().take(80).collect::<String>() {
            text if text.is_empty() => none.to_owned(),
            text => text,
        };
        return Err(Error::NotAReview {
            kind: named(kind, "JSON value"),
            api_version: named(api_version, "no version"),
        });
    }
    let request = request.ok_or(Error::NoRequest)?;
    let mut request: Request =
        serde_json::from_str(request.get()).map_err(|e| Error::BadRequest(e.to_string()))?;
    if request.uid.is_empty() {
        return Err(Error::BadRequest("uid is empty".to_owned()));
    }
    request.types.kind = META_KIND.to_owned();
    request.types.api_version = META_API_VERSION_V1.to_owned();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::testing::body;

    #[test]
    fn what_is_no_admission_request_is_told_why() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let review = |request: &str| {
            format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
        };
        let table = [
            (String::new(), "not_json"),
            ("not json".to_owned(), "not_json"),
            ("{".to_owned(), "not_json"),
            ("{}trailing".to_owned(), "not_json"),
            (deep.clone(), "not_a_review"),
            ("{}".to_owned(), "not_a_review"),
            ("[]".to_owned(), "not_a_review"),
            ("null".to_owned(), "not_a_review"),
            ("1e999".to_owned(), "not_json"),
            (r#"{"apiVersion":7,"kind":[]}"#.to_owned(), "not_a_review"),
            (
                r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}"#
                    .to_owned(),
                "not_a_review",
            ),
            (r#"{"apiVersion":"v1","kind":"Pod"}"#.to_owned(), "not_a_review"),
            (review("null"), "no_request"),
            (review("{}"), "bad_request"),
            (review("[1]"), "bad_request"),
            (review(&deep), "bad_request"),
            (review(r#"{"uid":1}"#), "bad_request"),
        ];
        for (text, expected) in table {
            let kind = open(text.as_bytes())
                .map(|_| "taken")
                .unwrap_or_else(|e| e.kind());
            assert_eq!(kind, expected, "{}", text.chars().take(100).collect::<String>());
        }
        assert_eq!(open(b"\xff\xfe").unwrap_err().kind(), "not_json");
    }

    #[test]
    fn a_request_is_read_with_its_uid() {
        assert_eq!(open(&body("networkpolicies", "{}", None)).unwrap().uid, "uid-1");
    }
}
