//! The loop: a change in the view, the end of a job or a time that has come → one look → jobs and statuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use ringfence_netpol::baseline::plan::Action;
use ringfence_runtime::health::Condition;
use ringfence_runtime::view::View;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::controller::{Controller, Job};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::settings::Writes;
use crate::statuses::Statuses;
use crate::writer::Writer;

/// Jobs that wait for each one that runs: enough that none of the places idles, few enough that memory does not grow with the cluster.
const QUEUE: usize = 16;

/// A look never takes more than this part of the time.
const SHARE: u32 = 4;

/// Keeps every namespace as its baselines say, until the view ends.
pub async fn run<W: Writer>(view: View, writer: W, settings: &Writes, metrics: Metrics, looked: Condition) {
    let mut runner = Runner {
        controller: Controller::new(
            settings.pace(),
            settings.concurrency.saturating_mul(QUEUE),
            metrics.clone(),
        ),
        statuses: Statuses::default(),
        interval: Duration::from_millis(settings.status_milliseconds),
        places: Arc::new(Semaphore::new(settings.concurrency)),
        jobs: JoinSet::new(),
        names: HashMap::new(),
        writer,
        metrics,
    };
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
            Some(ended) = runner.jobs.join_next_with_id(), if !runner.jobs.is_empty() => runner.ended(ended),
            () = alarm => {}
        }
        // What else is there already is seen by the same look.
        while let Some(ended) = runner.jobs.try_join_next_with_id() {
            runner.ended(ended);
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
        runner.look(&view);
        looked.set(true);
        let end = Instant::now();
        rested = end + (end - start) * SHARE;
        wake = [runner.controller.wake(end), runner.statuses.wake()]
            .into_iter()
            .flatten()
            .min();
        wake = wake.map(|time| time.max(rested));
    }
}

struct Runner<W> {
    controller: Controller,
    statuses: Statuses,
    interval: Duration,
    places: Arc<Semaphore>,
    jobs: JoinSet<Result<(), Error>>,
    /// The namespaces of the jobs, so that one that ends badly is known too.
    names: HashMap<Id, String>,
    writer: W,
    metrics: Metrics,
}

impl<W: Writer> Runner<W> {
    fn look(&mut self, view: &View) {
        let now = Instant::now();
        let (jobs, statuses) = {
            let cluster = view.read();
            let jobs = self.controller.look(&cluster, now);
            let time = Time(whole_seconds(Timestamp::now()));
            let tallies = self.controller.tallies();
            let baselines = self.controller.baselines();
            let statuses = self
                .statuses
                .due(&cluster, baselines, &tallies, self.interval, (now, &time));
            (jobs, statuses)
        };
        for job in jobs {
            let namespace = job.namespace.clone();
            let task = execute(
                self.writer.clone(),
                job,
                Arc::clone(&self.places),
                self.metrics.clone(),
            );
            self.names.insert(self.jobs.spawn(task).id(), namespace);
        }
        for due in statuses {
            let (writer, metrics) = (self.writer.clone(), self.metrics.clone());
            tokio::spawn(async move {
                metrics.writes.with_label_values(&["status"]).inc();
                if let Err(error) = writer.status(&due).await {
                    metrics.errors.with_label_values(&[error.kind()]).inc();
                    tracing::warn!(baseline = due.baseline, %error, "its status could not be written; trying again");
                }
            });
        }
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
        writer.execute(&job.namespace, action).await?;
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
