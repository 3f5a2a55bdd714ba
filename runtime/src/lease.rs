//! One of several replicas acts at a time: leader election by a `Lease`, in the manner of client-go.
//!
//! The times of two machines are never compared. A candidate measures by its own clock how long the record has not changed, and
//! takes the lease once that is longer than the lease's duration; a leader measures from *before* it asked for a renewal, and
//! ceases to be one a quarter of the duration before anybody else can begin. So a leader that is cut off has stopped by the time the next one
//! starts, whatever their clocks say. Every write of the record names the version that it replaces, so of two candidates one wins.

mod candidate;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::settings::Invalid;
use candidate::{Candidate, Step};

/// The settings of a component's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Election {
    /// Where the Lease is.
    pub namespace: String,
    pub name: String,
    /// Who this replica is; it must be no other's. Absent: the host's name and a random suffix.
    pub identity: Option<String>,
    /// How long a leader that says nothing more is still believed to be one. A crashed one is replaced after this time and a quarter.
    pub duration_seconds: u16,
}

impl Default for Election {
    fn default() -> Self {
        Self {
            namespace: "ringfence-system".to_owned(),
            name: "ringfence".to_owned(),
            identity: None,
            duration_seconds: 2,
        }
    }
}

impl Election {
    /// # Errors
    /// A lease that could not be held.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, reason: &str| {
            Err(Invalid {
                field,
                reason: reason.to_owned(),
            })
        };
        if self.duration_seconds == 0 {
            return invalid("election.durationSeconds", "must be at least 1");
        }
        if self.identity.as_ref().is_some_and(String::is_empty) {
            return invalid("election.identity", "is empty; leave it out, or name the pod");
        }
        Ok(())
    }

    fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| {
            use std::hash::{BuildHasher, RandomState};
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "process".to_owned());
            // Seeded by the operating system.
            format!("{host}_{:016x}", RandomState::new().hash_one(std::process::id()))
        })
    }
}

/// Whether this replica may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Standby,
    Leader {
        /// Grows with each time that this replica becomes the leader.
        term: u64,
        until: Instant,
    },
}

/// What a replica knows of its being the leader. Clones know the same.
#[derive(Debug, Clone)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
}

impl Leadership {
    /// Of a replica that is alone, and needs nobody's leave.
    pub fn alone() -> Self {
        let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365);
        let (_, standing) = watch::channel(Standing::Leader { term: 1, until: far });
        Self { standing }
    }

    /// The term in which this replica may act at this moment; `None` if it may not.
    pub fn term(&self) -> Option<u64> {
        match *self.standing.borrow() {
            Standing::Leader { term, until } if Instant::now() < until => Some(term),
            _ => None,
        }
    }

    /// Waits until another term begins or this one ends. Never returns for a replica that is alone.
    pub async fn changed(&mut self, term: Option<u64>) {
        loop {
            if self.term() != term {
                return;
            }
            let until = match *self.standing.borrow_and_update() {
                Standing::Leader { until, .. } => Some(until),
                Standing::Standby => None,
            };
            let fence = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.standing.changed() => if changed.is_err() {
                    if term.is_none() { std::future::pending::<()>().await }
                    if let Some(until) = until { tokio::time::sleep_until(until).await }
                    return;
                },
                () = fence => {}
            }
        }
    }

    /// Carries out something that only a leader may do; `None` if it ceased to be one before that was done.
    pub async fn guard<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        let term = self.term()?;
        let mut own = self.clone();
        tokio::select! {
            biased;
            () = own.changed(Some(term)) => None,
            done = act => Some(done),
        }
    }
}

/// Stands for election until it is told to [`Self::resign`].
pub struct Elector {
    resign: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Elector {
    /// Starts to stand for election, in a task of its own.
    pub fn start(client: Client, election: &Election) -> (Self, Leadership) {
        let duration = Duration::from_secs(u64::from(election.duration_seconds));
        let (standing, receiver) = watch::channel(Standing::Standby);
        let (resign, resigned) = oneshot::channel();
        let stand = Stand {
            api: Api::namespaced(client, &election.namespace),
            candidate: Candidate::new(&election.name, election.identity(), duration),
            duration,
            standing,
            term: 0,
            failing: false,
        };
        let task = tokio::spawn(stand.run(resigned));
        (Self { resign, task }, Leadership { standing: receiver })
    }

    /// Ends being the leader at once, and lets the next one begin without waiting.
    pub async fn resign(self) {
        let _ = self.resign.send(()); // it has ended already
        let _ = self.task.await;
    }
}

struct Stand {
    api: Api<Lease>,
    candidate: Candidate,
    duration: Duration,
    standing: watch::Sender<Standing>,
    term: u64,
    failing: bool,
}

impl Stand {
    async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        loop {
            let pause = tokio::select! {
                biased;
                _ = &mut resigned => break,
                pause = self.round() => pause,
            };
            tokio::select! {
                biased;
                _ = &mut resigned => break,
                () = sleep(pause) => {}
            }
        }
        self.standing.send_replace(Standing::Standby);
        let Some(release) = self.candidate.release(Timestamp::now()) else {
            return;
        };
        let patience = Instant::now() + self.duration;
        match timeout_at(patience, self.write(&release)).await {
            Ok(Ok(_)) => tracing::info!("the lease is released"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be released; it runs out by itself")
            }
            Err(_) => tracing::warn!("the lease could not be released in time; it runs out by itself"),
        }
    }

    /// Looks at the lease, takes or renews it if it may; how long to wait before the next round.
    async fn round(&mut self) -> Duration {
        match self.attempt().await {
            Ok(()) => {
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("the lease can be read and written again");
                }
            }
            Err(error) => {
                self.candidate.unsure();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error, "the lease could not be read or written; trying again");
                }
            }
        }
        let now = Instant::now();
        self.announce(now);
        self.candidate.pause(now)
    }

    async fn attempt(&mut self) -> Result<(), String> {
        if self.candidate.must_look() {
            let stored = self.in_time(self.api.get_opt(self.candidate.name())).await?;
            let stored = stored.map_err(|error| error.to_string())?;
            self.candidate.saw(stored, Instant::now());
        }
        let lease = match self.candidate.step(Instant::now(), Timestamp::now()) {
            Step::Wait => return Ok(()),
            Step::Write(lease) => lease,
        };
        // Nobody else can have seen the record before this: what was spent on looking costs no time as the leader.
        let asked = Instant::now();
        match self.in_time(self.write(&lease)).await? {
            Ok(stored) => self.candidate.won(stored, asked),
            // Somebody else wrote it meanwhile, perhaps to take it: look again.
            Err(kube::Error::Api(status)) if status.code == 409 => self.candidate.unsure(),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// One request. None must outlast the lease that it is to renew, and each has that long for itself: an API server that needs more than
    /// half of it for one answer must still come to have a leader.
    async fn in_time<T>(&self, request: impl Future<Output = T>) -> Result<T, String> {
        let patience = Instant::now() + self.duration / 2;
        timeout_at(patience, request)
            .await
            .map_err(|_| "no answer in time".to_owned())
    }

    async fn write(&self, lease: &Lease) -> kube::Result<Lease> {
        let parameters = PostParams::default();
        match lease.metadata.resource_version {
            Some(_) => self.api.replace(self.candidate.name(), &parameters, lease).await,
            None => self.api.create(&parameters, lease).await,
        }
    }

    fn announce(&mut self, now: Instant) {
        let before = *self.standing.borrow();
        let after = match self.candidate.leads_until().filter(|until| *until > now) {
            None => Standing::Standby,
            Some(until) => {
                if !matches!(before, Standing::Leader { until, .. } if until > now) {
                    self.term += 1;
                }
                Standing::Leader {
                    term: self.term,
                    until,
                }
            }
        };
        match (before, after) {
            (Standing::Standby, Standing::Leader { .. }) => {
                tracing::info!(identity = self.candidate.identity(), "leading");
            }
            (Standing::Leader { .. }, Standing::Standby) => {
                tracing::warn!(identity = self.candidate.identity(), "no longer leading");
            }
            _ => {}
        }
        self.standing.send_replace(after);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    /// An API server with one lease, which needs so long for each answer. What it is to refuse next, it does.
    #[derive(Clone, Default)]
    struct Server {
        delay: Duration,
        lease: Arc<Mutex<Option<Value>>>,
        refusals: Arc<Mutex<Vec<u16>>>,
    }

    impl Server {
        fn client(&self) -> Client {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    sleep(server.delay).await;
                    let method = request.method().clone();
                    let bytes = request.into_body().collect_bytes().await?;
                    let (code, body) = server.answer(&method, &bytes);
                    let response = Response::builder().status(code);
                    response
                        .body(Body::from(body.to_string().into_bytes()))
                        .map_err(kube::Error::HttpError)
                }
            });
            Client::new(service, "default")
        }

        fn answer(&self, method: &Method, bytes: &[u8]) -> (u16, Value) {
            let failure = |code: u16| {
                let reason = if code == 404 { "NotFound" } else { "Other" };
                (
                    code,
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}),
                )
            };
            let mut lease = self.lease.lock();
            if method == Method::GET {
                return lease.clone().map_or(failure(404), |lease| (200, lease));
            }
            if let Some(code) = self.refusals.lock().pop() {
                return failure(code);
            }
            let mut sent: Value = serde_json::from_slice(bytes).unwrap();
            let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            let stored = lease.as_ref().and_then(version);
            if version(&sent) != stored {
                return failure(409);
            }
            let next = stored.and_then(|stored| stored.parse().ok()).unwrap_or(0_u64) + 1;
            sent["metadata"]["resourceVersion"] = json!(next.to_string());
            *lease = Some(sent.clone());
            (200, sent)
        }
    }

    fn election() -> Election {
        Election {
            identity: Some("a".to_owned()),
            ..Election::default()
        }
    }

    /// For how much of a time a replica leads.
    async fn led(leadership: &Leadership, time: Duration) -> Duration {
        const STEP: Duration = Duration::from_millis(10);
        let (end, mut led) = (Instant::now() + time, Duration::ZERO);
        while Instant::now() < end {
            sleep(STEP).await;
            led += STEP * u32::from(leadership.term().is_some());
        }
        led
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_api_server_comes_to_have_a_leader_that_stays_one() {
        let server = Server {
            delay: Duration::from_millis(600),
            ..Server::default()
        };
        let (elector, leadership) = Elector::start(server.client(), &election());
        led(&leadership, Duration::from_secs(3)).await;
        let time = Duration::from_secs(20);
        assert!(led(&leadership, time).await >= time - Duration::from_millis(50));
        elector.resign().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_renewal_that_is_refused_deposes_nobody() {
        let server = Server::default();
        let (elector, leadership) = Elector::start(server.client(), &election());
        led(&leadership, Duration::from_secs(3)).await;
        let term = leadership.term();
        assert!(term.is_some());
        for _ in 0..5 {
            server.refusals.lock().push(429);
            let time = Duration::from_secs(2);
            assert!(led(&leadership, time).await >= time - Duration::from_millis(50));
        }
        assert_eq!(leadership.term(), term);
        elector.resign().await;
    }
}
