//! From a body to an admission request. What is none gets a reason that says what was wrong.

use axum::http::StatusCode;
use kube::core::admission::{META_API_VERSION_V1, META_KIND, Operation};
use kube::core::gvk::GroupVersionKind;
use ringfence_netpol::requester::Requester;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// A request about an object of any kind. The objects stay text until it is known what to read them as, and are read once.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub uid: String,
    pub kind: GroupVersionKind,
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// Empty where the name is still to be made, and for each object of a collection that is deleted.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    pub operation: Operation,
    pub user_info: UserInfo,
    #[serde(default)]
    pub object: Option<Box<RawValue>>,
    #[serde(default)]
    pub old_object: Option<Box<RawValue>>,
    #[serde(default)]
    pub dry_run: bool,
}

/// Who asks.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserInfo {
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub groups: Option<Vec<String>>,
}

impl Request {
    pub fn requester(&self) -> Requester {
        Requester {
            username: self.user_info.username.clone().unwrap_or_default(),
            groups: self.user_info.groups.clone().unwrap_or_default(),
        }
    }

    /// The object as it is to be; `None` where there is none.
    ///
    /// # Errors
    /// If it is not what `K` is.
    pub fn object<K: DeserializeOwned>(&self) -> serde_json::Result<Option<K>> {
        read(self.object.as_deref())
    }

    /// The object as it is stored; `None` where there is none.
    ///
    /// # Errors
    /// If it is not what `K` is.
    pub fn old_object<K: DeserializeOwned>(&self) -> serde_json::Result<Option<K>> {
        read(self.old_object.as_deref())
    }
}

fn read<K: DeserializeOwned>(text: Option<&RawValue>) -> serde_json::Result<Option<K>> {
    text.map(|text| serde_json::from_str(text.get())).transpose()
}

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

/// A body as nearly all are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain {
    api_version: String,
    kind: String,
    request: Request,
}

/// The outermost object of a body with which something is wrong. Its request is looked into only once the rest is right.
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

/// The uid of the request in a body of which only the beginning is there: API servers write it first of all, and what others could have
/// written stands behind it.
pub fn uid(beginning: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\"uid\":\"";
    let at = beginning
        .windows(FIELD.len())
        .position(|window| window == FIELD)?;
    let value = beginning.get(at + FIELD.len()..)?;
    let value = value.split(|byte| *byte == b'"').next()?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let whole = at + FIELD.len() + value.len() < beginning.len();
    (whole && (1..=64).contains(&value.len()) && value.iter().all(plain))
        .then(|| String::from_utf8_lossy(value).into_owned())
}

/// # Errors
/// If the body is no AdmissionReview of version 1 with a request.
pub fn open(body: &[u8]) -> Result<Request, Error> {
    // What is right is read in one go; only of what is not it is asked what.
    match serde_json::from_slice::<Plain>(body) {
        Ok(Plain {
            api_version,
            kind,
            request,
        }) if kind == META_KIND && api_version == META_API_VERSION_V1 && !request.uid.is_empty() => {
            Ok(request)
        }
        _ => examine(body),
    }
}

fn examine(body: &[u8]) -> Result<Request, Error> {
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
    let request: Request =
        serde_json::from_str(request.get()).map_err(|e| Error::BadRequest(e.to_string()))?;
    if request.uid.is_empty() {
        return Err(Error::BadRequest("uid is empty".to_owned()));
    }
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
    fn the_uid_is_known_from_the_beginning_of_a_body() {
        let beginning = |text: &str| uid(text.as_bytes());
        let review = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"0df28fbd-5f5f","kind":{"#;
        assert_eq!(beginning(review), Some("0df28fbd-5f5f".to_owned()));
        assert_eq!(beginning(r#"{"request":{"uid":"0df28"#), None, "it is cut off");
        assert_eq!(beginning(r#"{"request":{"uid":"","#), None);
        assert_eq!(beginning(r#"{"request":{"uid":"a b","#), None);
        assert_eq!(beginning("garbage"), None);
    }

    #[test]
    fn a_request_is_read_with_its_uid() {
        assert_eq!(open(&body("networkpolicies", "{}", None)).unwrap().uid, "uid-1");
    }
}
