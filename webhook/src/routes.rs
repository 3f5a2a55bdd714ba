//! `POST /validate`, `POST /guard`, `POST /mutate` and `POST /gate`: read a body within bounds of size and time, have it judged, answer.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::lint::Known;
use ringfence_runtime::view::View;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::envelope::{self, Request};
use crate::metrics::Metrics;
use crate::review::{Decision, Seen, fill_in, gate, hold, review};
use crate::settings::{Limits, Review};
use crate::{answer, audit, traced};

/// How long a refusal waits for the view of the cluster to catch up with what was created a moment ago.
const CATCH_UP: Duration = Duration::from_millis(300);
/// How often it looks meanwhile, at most.
const LOOK: Duration = Duration::from_millis(50);

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
    turns: Semaphore,
    known: ArcSwap<Known>,
    leaving: AtomicBool,
}

/// What a route asks of [`crate::review`].
type Judge = fn(&Request, &Review, Option<&Seen<'_>>, i64) -> Decision;

/// A request that is answered without a judgement.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
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
            Self::TooLarge(_) => "too_large",
            Self::Slow(_) => "slow",
            Self::Busy => "busy",
            Self::Broken => "broken",
            Self::MediaType => "media_type",
            Self::Envelope(error) => error.kind(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
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
        Self {
            shared: Arc::new(Shared {
                view,
                review: ArcSwap::from_pointee(review),
                limits,
                metrics,
                turns,
                known: ArcSwap::default(),
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
            ..
        } = &*self.shared;
        let settings = settings.load();
        if view.progress().synced() {
            let cluster = view.read();
            let seen = Seen::knowing(&cluster, self.known(&cluster));
            judge(request, &settings, Some(&seen), now())
        } else {
            judge(request, &settings, None, now())
        }
    }

    /// What is known of the cluster: from the judgements before, unless something changed since.
    fn known(&self, cluster: &Cluster) -> Arc<Known> {
        let known = self.shared.known.load_full();
        if known.holds(cluster) {
            return known;
        }
        let fresh = Arc::new(Known::of(cluster));
        self.shared.known.store(Arc::clone(&fresh));
        fresh
    }

    /// Judges, and before it refuses by comparison with the cluster gives the view a moment to catch up: a namespace that
    /// was created just before the policy that names it may not be in view yet.
    async fn decide(&self, judge: Judge, request: &Request) -> Decision {
        let mut progress = self.shared.view.subscribe();
        let mut decision = self.judge(judge, request);
        let deadline = Instant::now() + CATCH_UP;
        while decision.rests_on_view() {
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(LOOK).await,
                Ok(Err(_)) | Err(_) => break, // nothing came that would change it
            }
            progress.mark_unchanged();
            decision = self.judge(judge, request);
        }
        decision
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Rejection> {
        let Limits {
            body_bytes,
            body_seconds,
            ..
        } = self.shared.limits;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        if announced
            .and_then(|length| length.parse::<u64>().ok())
            .is_some_and(|length| length > body_bytes as u64)
        {
            return Err(Rejection::TooLarge(body_bytes));
        }
        let whole = axum::body::to_bytes(body, body_bytes);
        match timeout(Duration::from_secs(body_seconds), whole).await {
            Err(_) => Err(Rejection::Slow(body_seconds)),
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error))
                if error
                    .source()
                    .is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) =>
            {
                Err(Rejection::TooLarge(body_bytes))
            }
            Ok(Err(_)) => Err(Rejection::Broken),
        }
    }
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

async fn validate(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    judged(&app, &headers, body, review).await
}

async fn guard(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    judged(&app, &headers, body, hold).await
}

async fn judged(app: &App, headers: &HeaderMap, body: Body, judge: Judge) -> Response {
    answered(app, headers, body, async |request, start: Instant| {
        let decision = app.decide(judge, request).await;
        let took = start.elapsed();
        app.shared.metrics.decided(&decision, took);
        audit::record(request, &decision, took);
        decision
    })
    .await
}

async fn mutate(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    patched(&app, &headers, body, fill_in).await
}

async fn gated(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    patched(&app, &headers, body, gate).await
}

async fn patched(app: &App, headers: &HeaderMap, body: Body, judge: Judge) -> Response {
    answered(app, headers, body, async |request, start: Instant| {
        let decision = app.judge(judge, request);
        app.shared.metrics.mutated(&decision);
        if decision.patch.is_some() {
            audit::record(request, &decision, start.elapsed());
        }
        decision
    })
    .await
}

/// Reads a request, has it decided, and answers; what is no request is told why.
async fn answered(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    decide: impl AsyncFnOnce(&Request, Instant) -> Decision,
) -> Response {
    let Shared {
        metrics,
        limits,
        turns,
        ..
    } = &*app.shared;
    let _in_flight = metrics.enter();
    let span = traced::request(headers);
    let result = async {
        // A turn is for reading too, so that what bodies hold in memory is bounded.
        let turn = timeout(Duration::from_secs(limits.body_seconds), turns.acquire()).await;
        let _turn = turn.map_err(|_| Rejection::Busy)?.map_err(|_| Rejection::Busy)?;
        let bytes = app.read(headers, body).instrument(traced::step("read")).await?;
        let start = Instant::now();
        // What is not even JSON is told that first, whatever it calls itself.
        let request = envelope::open(&bytes)?;
        if !is_json(headers) {
            return Err(Rejection::MediaType);
        }
        drop(bytes);
        let decision = decide(&request, start).instrument(traced::step("judge")).await;
        traced::decided(&span, &request, &decision);
        Ok::<_, Rejection>(answer::answer(&request, &decision))
    };
    match result.instrument(span.clone()).await {
        Ok(response) => Json(response.into_review()).into_response(),
        Err(rejection) => {
            metrics.rejected(rejection.kind());
            span.record("rejected", rejection.kind());
            tracing::debug!(reason = rejection.kind(), %rejection, "not judged");
            (rejection.status(), format!("{rejection}\n")).into_response()
        }
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
