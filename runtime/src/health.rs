//! `/healthz`, `/readyz` and `/metrics`, on a port of their own.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use parking_lot::RwLock;
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How many connections there may be. The port is open to the whole cluster: with one more, the oldest is closed, so that whoever holds many
/// neither fills the memory nor keeps the kubelet out, whose probes are over in a moment.
const CONNECTIONS: usize = 256;
/// How long a connection may go without the head of a next request. Prometheus comes by again sooner.
const HEAD: Duration = Duration::from_secs(120);
/// How much of a request is held.
const BUFFER: usize = 16 << 10;

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
    let listener = TcpListener::bind(address).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("health and metrics cannot listen on {address}: {e}"),
        )
    })?;
    accept(listener, &router(readiness, registry)).await;
    Ok(())
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, router: &Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // As where there are no more file descriptors, which passes.
                tracing::warn!(%error, "the port for health and metrics takes no connection; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(answer(stream, router.clone()));
        open.push_back(connection.abort_handle());
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER);
    let service = TowerToHyperService::new(router);
    let served = server.serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the port for health and metrics ended");
    }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    async fn asked(stream: &mut TcpStream) -> io::Result<String> {
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await?;
        let mut text = vec![0; 1024];
        let read = stream.read(&mut text).await?;
        Ok(String::from_utf8_lossy(&text[..read]).into_owned())
    }

    #[tokio::test]
    async fn who_holds_many_connections_loses_the_oldest_and_keeps_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Readiness::default(), Registry::new());
        let task = tokio::spawn(async move { accept(listener, &router).await });
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS + 10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        let said = asked(&mut probe).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
        let again = asked(&mut probe).await.unwrap();
        assert!(again.starts_with("HTTP/1.1 200 OK"), "{again}");
        let mut rest = Vec::new();
        let closed = idle[0].read_to_end(&mut rest);
        let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
        let _ = closed.expect("the oldest is closed"); // a reset is an end too
        task.abort();
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
