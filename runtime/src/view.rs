//! The window to the cluster: watches that feed one [`Cluster`].
//!
//! Data flows one way. A watch converts each object on arrival and applies it; only if that changed something that
//! matters are the readers woken. A lost connection is retried for ever, with back-off; meanwhile the last state
//! stays, so that nothing which was right is undone by an outage.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use parking_lot::{RwLock, RwLockReadGuard};
use prometheus::{IntCounterVec, Opts, Registry};
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// A kind that can be watched into a [`View`].
pub trait Watchable:
    Observed<Entry: Send> + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

impl<K> Watchable for K where
    K: Observed<Entry: Send> + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

/// What a process sees of the cluster. Clones see the same.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: RwLock<Cluster>,
    progress: watch::Sender<Progress>,
    errors: IntCounterVec,
}

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
            }),
        })
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

    /// Starts to watch all objects of a kind, in a task of its own that ends with the runtime.
    pub fn watch<K: Watchable>(&self, client: Client) {
        self.shared.progress.send_modify(|progress| progress.pending += 1);
        tokio::spawn(self.clone().follow::<K>(client));
    }

    fn follow<K: Watchable>(self, client: Client) -> impl Future<Output = ()> + Send {
        let kind = K::kind(&()).into_owned();
        let events = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff();
        async move {
            let mut events = std::pin::pin!(events);
            let mut list: Vec<(Key, K::Entry)> = Vec::new();
            let mut listed = false;
            loop {
                match events.try_next().await {
                    Ok(Some(watcher::Event::Init)) => list.clear(),
                    Ok(Some(watcher::Event::InitApply(object))) => {
                        list.push((object.key(), object.observe()))
                    }
                    Ok(Some(watcher::Event::InitDone)) => {
                        let list = std::mem::take(&mut list);
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
                    Err(error) => {
                        self.shared.errors.with_label_values(&[&kind]).inc();
                        tracing::warn!(kind, %error, "the API server could not be listed or watched; trying again");
                    }
                }
            }
        }
    }

    fn change(&self, first_list: bool, change: impl FnOnce(&mut Cluster) -> bool) {
        let changed = change(&mut self.shared.cluster.write());
        if changed || first_list {
            self.shared.progress.send_modify(|progress| {
                progress.revision += u64::from(changed);
                progress.pending -= usize::from(first_list);
            });
        }
    }
}
