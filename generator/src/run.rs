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
use crate::throttle::Throttle;
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

/// What each write waits for.
#[derive(Clone)]
struct Gates {
    places: Arc<Semaphore>,
    throttle: Arc<Throttle>,
}

struct Runner<W> {
    controller: Controller,
    statuses: Statuses,
    interval: Duration,
    /// When the statuses were last put together.
    tallied: Option<Instant>,
    gates: Gates,
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
            gates: Gates {
                places: Arc::new(Semaphore::new(settings.concurrency)),
                throttle: Arc::new(Throttle::new(settings.per_second)),
            },
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
                self.gates.clone(),
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
        let tallies = self.controller.tallies(now);
        let baselines = self.controller.baselines();
        let due = self
            .statuses
            .due(cluster, baselines, &tallies, self.interval, (now, &time));
        (due, self.statuses.wake())
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Error>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                tracing::error!(%error, "writing the policies of a namespace ended unexpectedly; trying again");
                (error.id(), Err(Error::Ended(error.to_string())))
            }
        };
        if let Some(namespace) = self.names.remove(&id) {
            self.controller.finished(&namespace, result, Instant::now());
        }
    }
}

/// Carries out the steps of a job. What one object is refused for keeps no other from being made, be it another baseline's; but once
/// something could not be made, nothing is removed any more. The first error is told.
async fn execute<W: Writer>(
    writer: W,
    job: Job,
    gates: Gates,
    metrics: Metrics,
    leadership: Leadership,
) -> Result<(), Error> {
    let Ok(_place) = gates.places.acquire().await else {
        return Err(Error::Ended("shutting down".to_owned()));
    };
    let mut first = None;
    for action in &job.actions {
        let verb = verb(action);
        if first.is_some() && matches!(action, Action::Delete { .. }) {
            break;
        }
        let write = async {
            gates.throttle.leave().await;
            metrics.writes.with_label_values(&[verb]).inc();
            writer.execute(&job.namespace, action).await
        };
        let written = leadership.guard(write).await.unwrap_or(Err(Error::Deposed));
        gates.throttle.ended(written.as_ref().err());
        let (namespace, policy, baseline) = (&job.namespace, action.policy(), action.baseline());
        let Err(error) = written else {
            tracing::info!(namespace, baseline, policy, verb, "written");
            continue;
        };
        tracing::warn!(namespace, baseline, policy, verb, %error, "could not be written; trying again");
        let alone = error.is_of_one_object();
        first.get_or_insert(error);
        if !alone {
            break; // the next one would fare no better
        }
    }
    first.map_or(Ok(()), Err)
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Apply { .. } => "apply",
        Action::Delete { .. } => "delete",
    }
}

/// As the API server stores times.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use parking_lot::Mutex;
    use prometheus::Registry;
    use ringfence_netpol::baseline::object::Digest;
    use ringfence_netpol::baseline::plan::Why;
    use serde_json::json;

    use super::*;
    use crate::notice::Notice;

    /// Refuses the policies that it is told to, and notes what it did to the others.
    #[derive(Clone, Default)]
    struct Refusing {
        code: u16,
        refused: BTreeSet<&'static str>,
        done: Arc<Mutex<Vec<String>>>,
    }

    impl Writer for Refusing {
        async fn execute(&self, _: &str, action: &Action) -> Result<(), Error> {
            if self.refused.contains(action.policy()) {
                return Err(Error::Refused {
                    object: action.policy().to_owned(),
                    code: self.code,
                    reason: "Refused".to_owned(),
                    message: String::new(),
                    retry_after: None,
                });
            }
            self.done
                .lock()
                .push(format!("{} {}", verb(action), action.policy()));
            Ok(())
        }

        async fn status(&self, _: &Due) -> Result<(), Error> {
            Ok(())
        }

        async fn notify(&self, _: &Notice) {}
    }

    fn apply(name: &str) -> Action {
        let policy = json!({"metadata": {"name": name, "labels": {"ringfence.dev/baseline": "a"}}});
        let policy: NetworkPolicy = serde_json::from_value(policy).unwrap();
        Action::Apply {
            digest: Digest::of_policy(&policy),
            policy: Box::new(policy),
            why: Why::Missing,
            basis: None,
        }
    }

    fn delete(name: &str) -> Action {
        Action::Delete {
            name: name.to_owned(),
            uid: "1".to_owned(),
            baseline: "a".to_owned(),
            basis: None,
        }
    }

    /// What is done of a job, and the object of the error that it ends with.
    async fn carried_out(code: u16, refused: &[&'static str]) -> (Vec<String>, Option<String>) {
        let writer = Refusing {
            code,
            refused: refused.iter().copied().collect(),
            done: Arc::default(),
        };
        let job = Job {
            namespace: "shop".to_owned(),
            actions: vec![apply("deny"), apply("x"), apply("y"), delete("old")],
        };
        let gates = Gates {
            places: Arc::new(Semaphore::new(1)),
            throttle: Arc::new(Throttle::new(1000)),
        };
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let result = execute(writer.clone(), job, gates, metrics, Leadership::alone()).await;
        let error = result.err().map(|error| match error {
            Error::Refused { object, .. } => object,
            other => other.to_string(),
        });
        let done = writer.done.lock().clone();
        (done, error)
    }

    #[tokio::test]
    async fn one_policy_that_is_refused_keeps_no_other_from_being_made_and_what_is_there_from_going() {
        let all = ["apply deny", "apply x", "apply y", "delete old"];
        assert_eq!(
            carried_out(403, &[]).await,
            (all.map(str::to_owned).to_vec(), None)
        );
        let (done, error) = carried_out(403, &["x"]).await;
        assert_eq!(
            (done, error.as_deref()),
            (vec!["apply deny".to_owned(), "apply y".to_owned()], Some("x"))
        );
        let (done, error) = carried_out(422, &["deny", "y"]).await;
        assert_eq!(
            (done, error.as_deref()),
            (vec!["apply x".to_owned()], Some("deny"))
        );
    }

    #[tokio::test]
    async fn an_api_server_that_has_too_much_to_do_is_not_asked_for_the_rest() {
        let (done, error) = carried_out(429, &["x"]).await;
        assert_eq!(
            (done, error.as_deref()),
            (vec!["apply deny".to_owned()], Some("x"))
        );
    }
}
