//! The loop: a change in the view, the end of a job or a time that has come → one look → jobs and statuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use ringfence_netpol::baseline::plan::Action;
use ringfence_netpol::cluster::Cluster;
use ringfence_runtime::lease::Leadership;
use ringfence_runtime::view::View;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::controller::{Controller, Job, Look};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::settings::Writes;
use crate::statuses::{Due, Statuses};
use crate::writer::Writer;

/// Jobs that wait for each one that runs: enough that none of the places idles, few enough that memory does not grow with the cluster.
const QUEUE: usize = 16;

/// A look never takes more than this part of the time.
const SHARE: u32 = 4;

/// Keeps every namespace as its baselines say while this replica leads, until the view ends.
pub async fn run<W: Writer>(
    view: View,
    writer: W,
    settings: &Writes,
    metrics: Metrics,
    mut leadership: Leadership,
) {
    loop {
        let term = leadership.term();
        metrics.leader.set(i64::from(term.is_some()));
        if term.is_none() {
            leadership.changed(term).await;
            continue;
        }
        // What a term left half done is found so by the next one, here or in another replica: whatever the runner has under
        // way ends with it.
        let runner = Runner::new(writer.clone(), settings, metrics.clone(), leadership.clone());
        tokio::select! {
            biased;
            () = leadership.changed(term) => {}
            () = runner.work(&view) => return,
        }
    }
}

struct Runner<W> {
    controller: Controller,
    statuses: Statuses,
    interval: Duration,
    /// When the statuses were last put together.
    tallied: Option<Instant>,
    places: Arc<Semaphore>,
    jobs: JoinSet<Result<(), Error>>,
    /// The namespaces of the jobs, so that one that ends badly is known too.
    names: HashMap<Id, String>,
    /// Statuses and Events that are being written.
    said: JoinSet<()>,
    writer: W,
    metrics: Metrics,
    leadership: Leadership,
}

impl<W: Writer> Runner<W> {
    fn new(writer: W, settings: &Writes, metrics: Metrics, leadership: Leadership) -> Self {
        let capacity = settings.concurrency.saturating_mul(QUEUE);
        let mut controller = Controller::new(settings.pace(), capacity, metrics.clone());
        controller.set_clock(Instant::now(), Timestamp::now().as_second());
        Self {
            controller,
            statuses: Statuses::default(),
            interval: Duration::from_millis(settings.status_milliseconds),
            tallied: None,
            places: Arc::new(Semaphore::new(settings.concurrency)),
            jobs: JoinSet::new(),
            names: HashMap::new(),
            said: JoinSet::new(),
            writer,
            metrics,
            leadership,
        }
    }

    async fn work(mut self, view: &View) {
        let mut progress = view.subscribe();
        let mut rested = Instant::now();
        let mut wake = Some(rested);
        loop {
            let alarm = async {
                match wake {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => self.ended(ended),
                Some(_) = self.said.join_next(), if !self.said.is_empty() => continue,
                () = alarm => {}
            }
            // What else is there already is seen by the same look.
            while let Some(ended) = self.jobs.try_join_next_with_id() {
                self.ended(ended);
            }
            let start = Instant::now();
            if !progress.borrow_and_update().synced() {
                wake = None; // the view says when
                continue;
            }
            if start < rested {
                wake = Some(rested);
                continue;
            }
            let told = self.look(view);
            let end = Instant::now();
            rested = end + (end - start) * SHARE;
            wake = [self.controller.wake(end), told].into_iter().flatten().min();
            wake = wake.map(|time| time.max(rested));
        }
    }

    /// Looks, and sets going what follows; when to look again because of what is to be said.
    fn look(&mut self, view: &View) -> Option<Instant> {
        let now = Instant::now();
        let (Look { jobs, notices, .. }, statuses, wake) = {
            let cluster = view.read();
            let look = self.controller.look(&cluster, now);
            let (statuses, wake) = self.statuses(&cluster, now);
            (look, statuses, wake)
        };
        for notice in notices {
            let (writer, leadership) = (self.writer.clone(), self.leadership.clone());
            self.said.spawn(async move {
                leadership.guard(writer.notify(&notice)).await;
            });
        }
        for job in jobs {
            let namespace = job.namespace.clone();
            let task = execute(
                self.writer.clone(),
                job,
                Arc::clone(&self.places),
                self.metrics.clone(),
                self.leadership.clone(),
            );
            self.names.insert(self.jobs.spawn(task).id(), namespace);
        }
        for due in statuses {
            let (writer, metrics) = (self.writer.clone(), self.metrics.clone());
            let leadership = self.leadership.clone();
            self.said.spawn(async move {
                metrics.writes.with_label_values(&["status"]).inc();
                let written = leadership.guard(writer.status(&due)).await;
                if let Err(error) = written.unwrap_or(Err(Error::Deposed)) {
                    metrics.errors.with_label_values(&[error.kind()]).inc();
                    tracing::warn!(baseline = due.baseline, %error, "its status could not be written; trying again");
                }
            });
        }
        wake
    }

    /// The statuses that are to be written now, and when to ask again. They tell of every namespace, so they are not put together
    /// more often than they may be written.
    fn statuses(&mut self, cluster: &Cluster, now: Instant) -> (Vec<Due>, Option<Instant>) {
        if let Some(tallied) = self.tallied
            && now < tallied + self.interval
        {
            return (Vec::new(), Some(tallied + self.interval));
        }
        self.tallied = Some(now);
        self.controller.gauge(now);
        let time = Time(whole_seconds(Timestamp::now()));
        let tallies = self.controller.tallies();
        let baselines = self.controller.baselines();
        let due = self
            .statuses
            .due(cluster, baselines, &tallies, self.interval, (now, &time));
        (due, self.statuses.wake())
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Error>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(Error::Ended(error.to_string()))),
        };
        if let Some(namespace) = self.names.remove(&id) {
            self.controller.finished(&namespace, result, Instant::now());
        }
    }
}

async fn execute<W: Writer>(
    writer: W,
    job: Job,
    places: Arc<Semaphore>,
    metrics: Metrics,
    leadership: Leadership,
) -> Result<(), Error> {
    let Ok(_place) = places.acquire().await else {
        return Err(Error::Ended("shutting down".to_owned()));
    };
    for action in &job.actions {
        let verb = match action {
            Action::Apply { .. } => "apply",
            Action::Delete { .. } => "delete",
        };
        metrics.writes.with_label_values(&[verb]).inc();
        let written = leadership.guard(writer.execute(&job.namespace, action)).await;
        written.unwrap_or(Err(Error::Deposed))?;
        tracing::info!(namespace = job.namespace, policy = name(action), verb, "written");
    }
    Ok(())
}

fn name(action: &Action) -> &str {
    match action {
        Action::Apply { policy, .. } => policy.metadata.name.as_deref().unwrap_or_default(),
        Action::Delete { name, .. } => name,
    }
}

/// As the API server stores times.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
