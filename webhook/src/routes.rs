//! `POST /validate`, `POST /guard`, `POST /mutate` and `POST /gate`: read a body within bounds of size and time, have it judged, answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use kube::core::admission::AdmissionResponse;
use ringfence_netpol::rollout::Mode;
use ringfence_runtime::view::{Progress, View};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::envelope::{self, Request};
use crate::intake::{Intake, Room};
use crate::metrics::Metrics;
use crate::review::{Decision, Memory, Seen, fill_in, gate, hold, review};
use crate::settings::{Limits, Review};
use crate::{answer, audit, traced};

/// How long a refusal waits for the view of the cluster to catch up with what was created a moment ago.
const CATCH_UP: Duration = Duration::from_millis(300);
/// How often it looks meanwhile, at most.
const LOOK: Duration = Duration::from_millis(50);
/// How much is read of a body that is announced to be too large: what says which request it is.
const BEGINNING: usize = 1 << 10;

/// What requests are judged with.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    view: View,
    /// Exchanged when the settings change under it.
    review: ArcSwap<Review>,
    limits: Limits,
    metrics: Metrics,
    intake: Arc<Intake>,
    turns: Semaphore,
    memory: Memory,
    leaving: AtomicBool,
}

/// What a route asks of [`crate::review`].
type Judge = fn(&Request, &Review, Option<&Seen<'_>>, i64) -> Decision;

/// A request that is answered without a judgement.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("the body is larger than {most} bytes")]
    TooLarge { most: usize, uid: Option<String> },
    #[error("the body did not come in within {0} s")]
    Slow(u64),
    #[error("too many requests at once; try again")]
    Busy,
    #[error("the body broke off")]
    Broken,
    #[error("the body must be application/json")]
    MediaType,
    #[error(transparent)]
    Envelope(#[from] envelope::Error),
}

impl Rejection {
    fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Slow(_) => "slow",
            Self::Busy => "busy",
            Self::Broken => "broken",
            Self::MediaType => "media_type",
            Self::Envelope(error) => error.kind(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Envelope(error) => error.status(),
        }
    }
}

impl App {
    pub fn new(view: View, review: Review, limits: Limits, metrics: Metrics) -> Self {
        let turns = Semaphore::new(limits.requests);
        let intake = Intake::new(limits.bodies_bytes);
        Self {
            shared: Arc::new(Shared {
                view,
                review: ArcSwap::from_pointee(review),
                limits,
                metrics,
                intake,
                turns,
                memory: Memory::default(),
                leaving: AtomicBool::new(false),
            }),
        }
    }

    /// The routes of the admission port.
    pub fn router(self) -> Router {
        Router::new()
            .route("/validate", post(validate))
            .route("/guard", post(guard))
            .route("/mutate", post(mutate))
            .route("/gate", post(gated))
            .fallback(nowhere)
            .method_not_allowed_fallback(not_posted)
            .layer(map_response_with_state(self.clone(), farewell))
            .with_state(self)
    }

    /// From now on asks every client to go elsewhere with its next request. API servers keep HTTP/1.1 connections
    /// for as long as they are used, whatever the endpoints say; one that is simply closed may have a request on its way,
    /// which then fails.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
    }

    /// The settings that are judged by now.
    pub fn review(&self) -> Arc<Review> {
        self.shared.review.load_full()
    }

    /// Judges by other settings from the next request on.
    pub fn set_review(&self, review: Review) {
        self.shared.review.store(Arc::new(review));
    }

    /// Judges by the view as it is now; without one while it is incomplete.
    fn judge(&self, judge: Judge, request: &Request) -> Decision {
        let Shared {
            view,
            review: settings,
            memory,
            ..
        } = &*self.shared;
        let settings = settings.load();
        if view.progress().synced() {
            let cluster = view.read();
            let seen = Seen::remembering(&cluster, memory);
            judge(request, &settings, Some(&seen), now())
        } else {
            judge(request, &settings, None, now())
        }
    }

    /// Judges, and before it refuses by comparison with the cluster gives the view a moment to catch up: a namespace that
    /// was created just before the policy that names it may not be in view yet. While it waits, the turn is another's.
    async fn decide(&self, judge: Judge, request: &Request, turn: SemaphorePermit<'_>) -> Decision {
        let progress = self.shared.view.subscribe();
        let decision = self.judge(judge, request);
        drop(turn);
        caught_up(decision, progress, || self.judge(judge, request)).await
    }

    /// Waits until it may judge.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Rejection> {
        let patience = Duration::from_secs(self.shared.limits.body_seconds);
        let turn = timeout(patience, self.shared.turns.acquire()).await;
        turn.map_err(|_| Rejection::Busy)?.map_err(|_| Rejection::Busy)
    }

    /// Reads a body, and says what memory it holds. Whoever sends slowly keeps nobody's turn, and no more memory than an address may.
    async fn read(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        body: Body,
    ) -> Result<(Vec<u8>, Room), Rejection> {
        let Limits {
            body_bytes,
            body_seconds,
            ..
        } = self.shared.limits;
        let mut room = self.shared.intake.enter(address).ok_or(Rejection::Busy)?;
        let patience = Duration::from_secs(body_seconds);
        let announced = announced(headers);
        if announced.is_some_and(|length| length > body_bytes) {
            // Whoever says this sends an object that is to be refused, in words that the API server understands.
            let beginning = timeout(patience, beginning(body)).await.unwrap_or_default();
            return Err(Rejection::TooLarge {
                most: body_bytes,
                uid: envelope::uid(&beginning),
            });
        }
        let length = announced.unwrap_or(body_bytes);
        timeout(patience, room.grow(length))
            .await
            .map_err(|_| Rejection::Busy)?;
        let bytes = timeout(patience, whole(body, announced, body_bytes)).await;
        Ok((bytes.map_err(|_| Rejection::Slow(body_seconds))??, room))
    }

    /// The answer to a request that cannot be judged for its size; `None` if it does not even say which request it is.
    fn too_large(&self, rejection: &Rejection) -> Option<AdmissionResponse> {
        let Rejection::TooLarge { most, uid } = rejection else {
            return None;
        };
        let uid = uid.clone()?;
        let refused = self.shared.review.load().mode == Mode::Enforce;
        tracing::warn!(uid, refused, "an object is too large to be judged");
        Some(answer::too_large(uid, *most, refused))
    }
}

/// Judges again as the view goes on, for as long as a refusal rests on it and it may be behind.
async fn caught_up(
    mut decision: Decision,
    mut progress: watch::Receiver<Progress>,
    again: impl Fn() -> Decision,
) -> Decision {
    let deadline = Instant::now() + CATCH_UP;
    // A timeout alone would not do: what changes all the time is always ready first.
    while decision.rests_on_view() && Instant::now() < deadline {
        match tokio::time::timeout_at(deadline, progress.changed()).await {
            Ok(Ok(())) => tokio::time::sleep(LOOK).await,
            Ok(Err(_)) | Err(_) => break, // nothing came that would change it
        }
        progress.mark_unchanged();
        decision = again();
    }
    decision
}

/// How long a body says that it is.
fn announced(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    length.parse().ok()
}

/// The first of a body.
async fn beginning(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < BEGINNING
        && let Some(Ok(frame)) = body.frame().await
    {
        let data = frame.into_data().unwrap_or_default();
        bytes.extend_from_slice(data.get(..BEGINNING).unwrap_or(&data));
    }
    bytes
}

/// All of a body, if it is not larger than it may be.
async fn whole(mut body: Body, announced: Option<usize>, most: usize) -> Result<Vec<u8>, Rejection> {
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|_| Rejection::Broken)?.into_data();
        let data = data.unwrap_or_default(); // trailers say nothing here
        if bytes.len() + data.len() > most {
            let missing = BEGINNING.saturating_sub(bytes.len());
            bytes.extend_from_slice(data.get(..missing).unwrap_or(&data));
            return Err(Rejection::TooLarge {
                most,
                uid: envelope::uid(bytes.get(..BEGINNING).unwrap_or(&bytes)),
            });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn nowhere(State(app): State<App>) -> StatusCode {
    app.shared.metrics.rejected("path");
    StatusCode::NOT_FOUND
}

async fn not_posted(State(app): State<App>) -> StatusCode {
    app.shared.metrics.rejected("method");
    StatusCode::METHOD_NOT_ALLOWED
}

async fn farewell(State(app): State<App>, mut response: Response) -> Response {
    if app.shared.leaving.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

async fn validate(State(app): State<App>, request: HttpRequest) -> Response {
    judged(&app, request, review).await
}

async fn guard(State(app): State<App>, request: HttpRequest) -> Response {
    judged(&app, request, hold).await
}

async fn judged(app: &App, request: HttpRequest, judge: Judge) -> Response {
    let result = answered(app, request, async |request, turn, start: Instant| {
        let decision = app.decide(judge, request, turn).await;
        let took = start.elapsed();
        app.shared.metrics.decided(&decision, took);
        audit::record(request, &decision, took);
        decision
    })
    .await;
    // To fail would let it pass where failures of this server are passed over.
    sent(result.or_else(|rejection| app.too_large(&rejection).ok_or(rejection)))
}

async fn mutate(State(app): State<App>, request: HttpRequest) -> Response {
    patched(&app, request, fill_in, Metrics::filled_in).await
}

async fn gated(State(app): State<App>, request: HttpRequest) -> Response {
    patched(&app, request, gate, Metrics::gated).await
}

async fn patched(app: &App, request: HttpRequest, judge: Judge, count: fn(&Metrics)) -> Response {
    let result = answered(app, request, async |request, _turn, start: Instant| {
        let decision = app.judge(judge, request);
        if decision.patch.is_some() {
            count(&app.shared.metrics);
            audit::record(request, &decision, start.elapsed());
        }
        decision
    });
    sent(result.await)
}

/// Reads a request, has it decided, and says what to answer; of what is no request, why.
async fn answered(
    app: &App,
    request: HttpRequest,
    decide: impl AsyncFnOnce(&Request, SemaphorePermit<'_>, Instant) -> Decision,
) -> Result<AdmissionResponse, Rejection> {
    let Shared { metrics, .. } = &*app.shared;
    let _in_flight = metrics.enter();
    let address = address(&request);
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let span = traced::request(headers);
    let result = async {
        let reading = app.read(headers, address, body);
        let (bytes, _room) = reading.instrument(traced::step("read")).await?;
        let start = Instant::now();
        let turn = app.turn().await?;
        // What is not even JSON is told that first, whatever it calls itself.
        let request = envelope::open(&bytes)?;
        if !is_json(headers) {
            return Err(Rejection::MediaType);
        }
        drop(bytes);
        let decision = decide(&request, turn, start)
            .instrument(traced::step("judge"))
            .await;
        traced::decided(&span, &request, &decision);
        Ok::<_, Rejection>(answer::answer(&request, &decision))
    };
    let result = result.instrument(span.clone()).await;
    if let Err(rejection) = &result {
        metrics.rejected(rejection.kind());
        span.record("rejected", rejection.kind());
        tracing::debug!(reason = rejection.kind(), %rejection, "not judged");
    }
    result
}

/// Who sent a request. Without a socket, as in tests, it is nobody.
fn address(request: &HttpRequest) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| {
        peer.ip().to_canonical()
    })
}

fn sent(result: Result<AdmissionResponse, Rejection>) -> Response {
    match result {
        Ok(response) => Json(response.into_review()).into_response(),
        Err(rejection) => (rejection.status(), format!("{rejection}\n")).into_response(),
    }
}

/// Seconds of the Unix time. A clock before 1970 has no exemption in force that should not be.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(i64::MAX, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
