//! Takes the scheduling gate off pods whose namespace has what it must have.
//!
//! The webhook gives it to pods that are created before that (a setting, for clusters in which another than Ringfence's enforcer enforces). What is
//! waited for, both ask of one function. Only pods without a node are watched, and only of those with the gate is anything kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use ringfence_netpol::baseline::gate::{GATE, baselines, holds};
use ringfence_netpol::baseline::object::FIELD_MANAGER;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_runtime::lease::Leadership;
use ringfence_runtime::view::View;
use serde_json::json;
use tokio::sync::watch;

use crate::error::Error;
use crate::metrics::Metrics;

/// How many pods are let go at once.
const AT_ONCE: usize = 16;

/// How long until those are tried again that could not be let go, and how often the age of the oldest is told.
const AGAIN: Duration = Duration::from_secs(1);

/// A pod that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    uid: String,
    /// In seconds of the Unix time.
    created: i64,
}

type Pods = BTreeMap<Key, Waiting>;

/// The pods that wait.
#[derive(Clone)]
struct Gated {
    pods: Arc<Mutex<Pods>>,
    changed: Arc<watch::Sender<()>>,
}

/// Lets pods go as soon as they need not wait any more, while this replica leads.
pub async fn run(view: View, client: Client, patience: Duration, metrics: Metrics, leadership: Leadership) {
    let gated = Gated {
        pods: Arc::default(),
        changed: Arc::new(watch::channel(()).0),
    };
    tokio::join!(
        gated.follow(client.clone()),
        gated.clone().release(view, client, patience, metrics, leadership)
    );
}

impl Gated {
    /// Keeps account of who waits.
    async fn follow(&self, client: Client) {
        let unscheduled = watcher::Config::default().fields("spec.nodeName=");
        let mut events = std::pin::pin!(watcher(Api::<Pod>::all(client), unscheduled).default_backoff());
        let mut listed = Pods::new();
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(pod))) => {
                    listed.extend(waiting(&pod).map(|waiting| (key(&pod), waiting)));
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    *self.pods.lock() = std::mem::take(&mut listed);
                    self.changed.send_replace(());
                }
                Ok(Some(watcher::Event::Apply(pod))) => {
                    match waiting(&pod) {
                        Some(waiting) => self.pods.lock().insert(key(&pod), waiting),
                        None => self.pods.lock().remove(&key(&pod)),
                    };
                    self.changed.send_replace(());
                }
                Ok(Some(watcher::Event::Delete(pod))) => {
                    self.pods.lock().remove(&key(&pod));
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "pods that wait at a scheduling gate could not be listed or watched; trying again");
                }
            }
        }
    }

    async fn release(
        self,
        view: View,
        client: Client,
        patience: Duration,
        metrics: Metrics,
        mut leadership: Leadership,
    ) {
        let (mut changed, mut progress) = (self.changed.subscribe(), view.subscribe());
        loop {
            let pods = self.pods.lock().clone();
            let now = Timestamp::now().as_second();
            let age = |waiting: &Waiting| now.saturating_sub(waiting.created);
            metrics.gated.set(i64::try_from(pods.len()).unwrap_or(i64::MAX));
            metrics
                .gate_age
                .set(pods.values().map(age).max().unwrap_or_default());
            let term = leadership.term();
            let free = match term.is_some() && progress.borrow_and_update().synced() && !pods.is_empty() {
                true => free(&view.read(), pods),
                false => Pods::new(),
            };
            stream::iter(free)
                .for_each_concurrent(AT_ONCE, |(key, waiting)| {
                    let (metrics, leadership) = (&metrics, &leadership);
                    let (client, pods) = (client.clone(), &self.pods);
                    async move {
                        let request = open(client, &key, &waiting, patience);
                        match leadership.guard(request).await.unwrap_or(Err(Error::Deposed)) {
                            Ok(()) => {
                                let mut pods = pods.lock();
                                if pods.get(&key) == Some(&waiting) {
                                    pods.remove(&key); // else another of its name waits by now
                                }
                                drop(pods);
                                metrics.writes.with_label_values(&["ungate"]).inc();
                                let waited = now.saturating_sub(waiting.created).max(0);
                                metrics.gate.observe(waited as f64);
                                tracing::info!(namespace = key.namespace, pod = key.name, "need not wait any more");
                            }
                            Err(error) => {
                                metrics.errors.with_label_values(&[error.kind()]).inc();
                                tracing::warn!(namespace = key.namespace, pod = key.name, %error, "its scheduling gate could not be taken off; trying again");
                            }
                        }
                    }
                })
                .await;
            let idle = self.pods.lock().is_empty();
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                changed = progress.changed(), if !idle => if changed.is_err() { return },
                () = leadership.changed(term) => {}
                () = tokio::time::sleep(AGAIN), if !idle => {}
            }
        }
    }
}

/// Those that need not wait any more.
fn free(cluster: &Cluster, pods: Pods) -> Pods {
    let baselines = baselines(cluster);
    let mut held: BTreeMap<String, bool> = BTreeMap::new();
    let mut is_free = |key: &Key| {
        let held = held.entry(key.namespace.clone()).or_insert_with(|| {
            holds(cluster, &baselines, &key.namespace, |policy| {
                cluster.policy_records.get(policy).is_some()
            })
        });
        !*held
    };
    pods.into_iter().filter(|(key, _)| is_free(key)).collect()
}

fn key(pod: &Pod) -> Key {
    Key::new(pod.namespace().unwrap_or_default(), pod.name_any())
}

fn waiting(pod: &Pod) -> Option<Waiting> {
    let spec = pod.spec.as_ref()?;
    let gated = spec
        .scheduling_gates
        .iter()
        .flatten()
        .any(|gate| gate.name == GATE);
    let leaving = pod.metadata.deletion_timestamp.is_some();
    (gated && !leaving).then(|| Waiting {
        uid: pod.uid().unwrap_or_default(),
        created: pod
            .creation_timestamp()
            .map(|time| time.0.as_second())
            .unwrap_or_default(),
    })
}

/// Takes the gate off exactly this pod, and leaves those of others.
async fn open(client: Client, key: &Key, waiting: &Waiting, patience: Duration) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client, &key.namespace);
    let patch = json!({
        "metadata": {"uid": waiting.uid},
        "spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]},
    });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Strategic(patch);
    let request = api.patch(&key.name, &parameters, &patch);
    let object = format!("Pod {key}");
    match tokio::time::timeout(patience, request).await {
        Err(_) => Err(Error::Late {
            object,
            seconds: patience.as_secs(),
        }),
        // It is gone, or another of its name is there.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
        Ok(result) => result
            .map(drop)
            .map_err(|error| Error::of_request(&object, error)),
    }
}
