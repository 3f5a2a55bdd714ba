//! `/healthz`, `/readyz` and `/metrics`, on a port of their own.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::RwLock;
use prometheus::{Registry, TextEncoder};

/// What must hold for the process to be ready: named conditions, all false at first.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<RwLock<BTreeMap<&'static str, bool>>>,
}

/// One condition of a [`Readiness`].
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a condition that does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.conditions.write().insert(name, false);
        Condition {
            name,
            readiness: self.clone(),
        }
    }

    /// The conditions that do not hold.
    pub fn missing(&self) -> Vec<&'static str> {
        self.conditions
            .read()
            .iter()
            .filter(|(_, holds)| !**holds)
            .map(|(name, _)| *name)
            .collect()
    }
}

impl Condition {
    pub fn set(&self, holds: bool) {
        let before = self.readiness.conditions.write().insert(self.name, holds);
        if before != Some(holds) {
            tracing::info!(condition = self.name, holds, "readiness");
        }
    }
}

/// The routes; `/healthz` says that the process can answer, `/readyz` names what is missing.
pub fn router(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

/// Serves [`router`] until the process ends.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(address: SocketAddr, readiness: Readiness, registry: Registry) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("health and metrics cannot listen on {address}: {e}"),
        )
    })?;
    axum::serve(listener, router(readiness, registry)).await
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", missing.join(", ")),
        )
    }
}

async fn metrics(State(registry): State<Registry>) -> axum::response::Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn get(readiness: &Readiness, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(readiness.clone(), Registry::new())
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn not_ready_names_what_is_missing_and_ready_needs_all() {
        let readiness = Readiness::default();
        let (view, tls) = (readiness.condition("view"), readiness.condition("tls"));
        assert_eq!(
            get(&readiness, "/readyz").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "waiting for: tls, view\n".to_owned()
            )
        );
        view.set(true);
        assert_eq!(
            get(&readiness, "/readyz").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        tls.set(true);
        assert_eq!(get(&readiness, "/readyz").await.0, StatusCode::OK);
        assert_eq!(get(&readiness, "/healthz").await.0, StatusCode::OK);
        assert_eq!(get(&readiness, "/metrics").await.0, StatusCode::OK);
    }
}
