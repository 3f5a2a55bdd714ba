//! The window to the cluster: watches that feed one [`Cluster`].
//!
//! Data flows one way. A watch converts each object on arrival and applies it; only if that changed something that
//! matters are the readers woken. A lost connection is retried for ever, with back-off; meanwhile the last state
//! stays, so that nothing which was right is undone by an outage.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use prometheus::{IntCounterVec, Opts, Registry};
use ringfence_netpol::cluster::{self, Cluster, Key, Observed};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::health::Condition;

/// A kind that can be watched into a [`View`].
pub trait Watchable:
    Observed<Entry: Send> + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

impl<K> Watchable for K where
    K: Observed<Entry: Send> + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

/// How long until a kind that is not served is asked for again.
const UNSERVED: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Always,
    Perhaps,
}

/// How fast a watch that broke is tried again. An outage of the API server must not be outlasted by much: a second or two, scattered,
/// is slow enough for one that struggles, since API priority and fairness queues what comes.
fn patience() -> watcher::ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times()
        .with_jitter() // adds up to as much again
        .into()
}

/// Whether an error says that there is no such kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        if status.code == 404)
}

/// What a process sees of the cluster. Clones see the same.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
    /// How many seconds one watch lasts; absent: as long as the client lets it.
    renewal: Option<u32>,
}

struct Shared {
    cluster: RwLock<Cluster>,
    progress: watch::Sender<Progress>,
    errors: IntCounterVec,
    derive: Mutex<Option<Derive>>,
}

/// Adds to a cluster what follows from it. Runs with each change, before any reader sees that.
pub type Derive = Box<dyn FnMut(&mut Cluster) + Send>;

/// How far a view has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Grows by one with each change that matters.
    pub revision: u64,
    /// Kinds whose first list is still to come.
    pub pending: usize,
}

impl Progress {
    /// Whether every kind has been listed once, so that what is not in the view is not in the cluster.
    pub fn synced(self) -> bool {
        self.pending == 0
    }
}

impl View {
    /// An empty view that watches nothing yet; it counts as synced until the first [`Self::watch`].
    ///
    /// # Errors
    /// If its metrics are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let errors = IntCounterVec::new(
            Opts::new(
                "ringfence_view_errors_total",
                "Failed lists and watches of the API server, by kind",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(errors.clone()))?;
        let (progress, _) = watch::channel(Progress::default());
        Ok(Self {
            shared: Arc::new(Shared {
                cluster: RwLock::default(),
                progress,
                errors,
                derive: Mutex::default(),
            }),
            renewal: None,
        })
    }

    /// The same view, whose watches from now on are made anew after so many seconds each. A connection that was lost without a word is noticed no
    /// sooner: who writes by what it sees must not go by an old picture for minutes. Each costs the API server a request, so it is not for
    /// what runs on every node.
    pub fn renewing(&self, seconds: u32) -> Self {
        Self {
            renewal: Some(seconds),
            ..self.clone()
        }
    }

    /// A view of a cluster that is known already, for whoever has no API server to watch.
    ///
    /// # Errors
    /// If its metrics are registered already.
    pub fn of(cluster: Cluster, registry: &Registry) -> Result<Self, prometheus::Error> {
        let view = Self::new(registry)?;
        *view.shared.cluster.write() = cluster;
        Ok(view)
    }

    /// The state as it is now. Hold it shortly: events wait meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, Cluster> {
        self.shared.cluster.read()
    }

    /// Wakes on every change that matters, and when a kind is first listed.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    pub fn progress(&self) -> Progress {
        *self.shared.progress.borrow()
    }

    /// Has something added to the cluster with each change.
    pub fn derive(&self, mut derive: Derive) {
        derive(&mut self.shared.cluster.write());
        *self.shared.derive.lock() = Some(derive);
    }

    /// Starts to watch all objects of a kind, in a task of its own that ends with the runtime.
    pub fn watch<K: Watchable>(&self, client: Client) {
        self.start::<K>(client, watcher::Config::default(), Served::Always);
    }

    /// The same, of a kind that not every cluster has: where it is not served there is none, until it is.
    pub fn watch_if_served<K: Watchable>(&self, client: Client) {
        self.start::<K>(client, watcher::Config::default(), Served::Perhaps);
    }

    /// The same, of the objects of a kind that a label selector selects.
    pub fn watch_labelled<K: Watchable>(&self, client: Client, selector: &str) {
        self.start::<K>(
            client,
            watcher::Config::default().labels(selector),
            Served::Always,
        );
    }

    /// The same, of those that a field selector selects. One that it does not select any more is deleted, for who watches.
    pub fn watch_fields<K: Watchable>(&self, client: Client, selector: &str) {
        self.start::<K>(
            client,
            watcher::Config::default().fields(selector),
            Served::Always,
        );
    }

    /// Keeps a condition at whether everything is in view, in a task of its own.
    pub fn keep(&self, condition: Condition) {
        let mut progress = self.subscribe();
        tokio::spawn(async move {
            loop {
                condition.set(progress.borrow_and_update().synced());
                if progress.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn start<K: Watchable>(&self, client: Client, mut config: watcher::Config, served: Served) {
        config.timeout = self.renewal;
        self.shared.progress.send_modify(|progress| progress.pending += 1);
        tokio::spawn(self.clone().follow::<K>(client, config, served));
    }

    fn follow<K: Watchable>(
        self,
        client: Client,
        config: watcher::Config,
        served: Served,
    ) -> impl Future<Output = ()> + Send {
        let kind = K::kind(&()).into_owned();
        let events = watcher(Api::<K>::all(client), config).backoff(patience());
        async move {
            let mut events = std::pin::pin!(events);
            let mut list: Vec<(Key, K::Entry)> = Vec::new();
            // Of those that are listed, until the cluster's own takes over.
            let mut shared = cluster::Shared::default();
            let mut listed = false;
            loop {
                match events.try_next().await {
                    Ok(Some(watcher::Event::Init)) => list.clear(),
                    Ok(Some(watcher::Event::InitApply(object))) => {
                        list.push((object.key(), K::share(object.observe(), &mut shared)));
                    }
                    Ok(Some(watcher::Event::InitDone)) => {
                        let list = std::mem::take(&mut list);
                        drop(std::mem::take(&mut shared));
                        tracing::debug!(kind, objects = list.len(), "listed");
                        let first = !std::mem::replace(&mut listed, true);
                        self.change(first, |cluster| cluster.reset::<K>(list));
                    }
                    Ok(Some(watcher::Event::Apply(object))) => {
                        self.change(false, |cluster| cluster.apply(&object))
                    }
                    Ok(Some(watcher::Event::Delete(object))) => {
                        self.change(false, |cluster| cluster.delete(&object));
                    }
                    Ok(None) => return,
                    Err(error) if served == Served::Perhaps && is_unknown_kind(&error) => {
                        list.clear();
                        let first = !std::mem::replace(&mut listed, true);
                        self.change(first, |cluster| cluster.reset::<K>([]));
                        if first {
                            tracing::info!(
                                kind,
                                "the API server does not serve it; looking again now and then"
                            );
                        }
                        tokio::time::sleep(UNSERVED).await;
                    }
                    Err(error) => {
                        self.shared.errors.with_label_values(&[&kind]).inc();
                        tracing::warn!(kind, %error, "the API server could not be listed or watched; trying again");
                    }
                }
            }
        }
    }

    fn change(&self, first_list: bool, change: impl FnOnce(&mut Cluster) -> bool) {
        let changed = {
            let mut cluster = self.shared.cluster.write();
            let changed = change(&mut cluster);
            if changed && let Some(derive) = self.shared.derive.lock().as_mut() {
                derive(&mut cluster);
            }
            changed
        };
        if changed || first_list {
            self.shared.progress.send_modify(|progress| {
                progress.revision += u64::from(changed);
                progress.pending -= usize::from(first_list);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_view_that_is_to_renew_its_watches_tells_the_api_server_how_long_they_last() {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = Arc::clone(&seen);
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let watches = query.contains("watch=true");
                seen.lock().push(query);
                if watches {
                    std::future::pending::<()>().await;
                }
                let list = json!({"apiVersion": "v1", "kind": "NamespaceList", "metadata": {"resourceVersion": "1"}, "items": []});
                Response::builder().body(Body::from(list.to_string().into_bytes()))
            }
        });
        let view = View::new(&Registry::new()).unwrap();
        view.renewing(45)
            .watch::<Namespace>(Client::new(service, "default"));
        let mut progress = view.subscribe();
        while !progress.borrow_and_update().synced() {
            progress.changed().await.unwrap();
        }
        let watch = async {
            loop {
                let found = asked
                    .lock()
                    .iter()
                    .find(|query| query.contains("watch=true"))
                    .cloned();
                match found {
                    Some(found) => return found,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let watch = tokio::time::timeout(Duration::from_secs(5), watch).await.unwrap();
        assert!(watch.contains("timeoutSeconds=45"), "{watch}");
    }
}
