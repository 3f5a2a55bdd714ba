//! The agent: what the cluster says and which veths there are, brought to the kernel.
//!
//! A change of the cluster costs what it changes: [`rules`] says what that is. A new pod costs a look behind its own veth; which veths there
//! are is asked only when one is gone or is not a new pod's, and at intervals ([`pace`]).

pub mod pace;
pub mod rules;
mod seating;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use ringfence_runtime::health::Condition;
use ringfence_runtime::view::{Progress, View};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::sleep_until;

use self::pace::{Look, Pace};
use self::rules::{Changed, Rules};
use crate::datapath::{Hooks, KernelMaps, Pins, ROOM};
use crate::gate::Told;
use crate::link::cni::Results;
use crate::link::{Links, One, Veth};
use crate::metrics::Metrics;
use crate::seats::Seats;
use crate::settings::EnforcerSettings;
use crate::sync::{self, Sync};
use crate::{datapath, link};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error(transparent)]
    Sync(#[from] sync::Error<datapath::Error>),
}

impl Error {
    fn kind(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Datapath(error) | Self::Sync(sync::Error::Store(error)) => error.kind(),
            Self::Sync(sync::Error::Overflow(_)) => "overflow",
        }
    }
}

/// What `/readyz` waits for.
pub struct Ready {
    pub view: Condition,
    pub rules: Condition,
    pub pods: Condition,
    pub filters: Condition,
}

pub struct Agent {
    settings: EnforcerSettings,
    view: View,
    links: Links,
    maps: Arc<KernelMaps>,
    hooks: Arc<Hooks>,
    sync: Sync<Arc<KernelMaps>>,
    metrics: Metrics,
    ready: Ready,
    seats: Seats,
    rules: Rules,
    /// The view's revision that the rules follow.
    followed: Option<u64>,
    /// Whether something that the rules say is not in force yet.
    news: bool,
    pace: Pace,
    /// At what could not be looked yet, since the cluster was not in view.
    owed: Look,
    /// An agent was here before, and some veths may be pods' that started while there was none.
    look_for_missed: bool,
    /// Veths that are gone, or are others' under the same index.
    gone: BTreeSet<u32>,
    /// Veths whose pod is known, and whose element of the map could not be written.
    unseated: BTreeSet<u32>,
    /// Veths that the gate closed, and since when.
    closed: BTreeMap<u32, (Veth, Instant)>,
    results: Results,
    /// When the first change was heard of that is not in force yet.
    heard: Arc<Mutex<Option<Instant>>>,
    pins: Pins,
    /// What agents before left was swept.
    tidied: bool,
    /// The veths that were there when this agent began.
    present: Vec<u32>,
}

impl Agent {
    /// `pins`, and whether an agent was here before, and left its maps there.
    pub fn new(
        settings: EnforcerSettings,
        view: View,
        links: Links,
        (maps, hooks): (Arc<KernelMaps>, Arc<Hooks>),
        (metrics, ready): (Metrics, Ready),
        (pins, resumed): (Pins, bool),
    ) -> Self {
        let results = Results::of(&settings.cni_results_path);
        Self {
            rules: Rules::new(&settings.node_name),
            settings,
            view,
            links,
            sync: Sync::new(Arc::clone(&maps), ROOM),
            maps,
            hooks,
            metrics,
            ready,
            seats: Seats::default(),
            followed: None,
            news: false,
            pace: Pace::new(Instant::now()),
            owed: Look::AtAll,
            look_for_missed: resumed,
            gone: BTreeSet::new(),
            unseated: BTreeSet::new(),
            closed: BTreeMap::new(),
            results,
            heard: Arc::default(),
            pins,
            tidied: false,
            present: Vec::new(),
        }
    }

    /// Takes over the endpoints that an agent before left: their verdicts hold as they are, by this agent's programs.
    ///
    /// # Errors
    /// If interfaces or maps cannot be read.
    pub fn resume(&mut self, veths: &[Veth]) -> Result<(), anyhow::Error> {
        self.present = self.links.all()?.iter().map(One::ifindex).collect();
        for ifindex in &self.present {
            let pods = veths.iter().find(|veth| veth.ifindex == *ifindex);
            let is_pods = |veth| self.links.is_kept_in(veth, &self.settings.netns_path);
            // The way to the API server may be among them. Pods' have to wait for it.
            if !pods.map_or(Ok(false), is_pods)? {
                self.maps.look_at(*ifindex);
            }
        }
        let endpoints = self.maps.endpoints()?;
        if endpoints.is_empty() {
            // Flows may be there all the same, of an agent whose rules had another layout: none of them was judged by these.
            self.sync.begin_after(self.maps.flows.newest_generation()?);
        }
        for endpoint in endpoints {
            match veths.iter().find(|veth| veth.ifindex == endpoint.ifindex) {
                None => self.maps.evict(endpoint.ifindex)?,
                Some(veth) => {
                    self.seats
                        .resume(*veth, endpoint.addresses.iter().next(), Instant::now());
                    let attached = self.hooks.attach(veth.ifindex);
                    if let Err(error) = &attached {
                        tracing::error!(%error, "a veth keeps the filters of the agent before; trying again");
                    }
                    if let Some(seat) = self.seats.get_mut(veth.ifindex) {
                        seat.attached = attached.is_ok();
                    }
                }
            }
        }
        Ok(())
    }

    /// Works for ever.
    pub async fn run(mut self, mut news: UnboundedReceiver<Told>) {
        let mut changes = self.view.subscribe();
        tokio::spawn(note_first(self.view.subscribe(), Arc::downgrade(&self.heard)));
        loop {
            let look = self.pace.look_due();
            let wake = self.sync.sweep_due().map_or(look, |sweep| sweep.min(look));
            let mut told = Look::No;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                one = news.recv() => match one {
                    Some(one) => {
                        self.pace.heard();
                        told = self.hear(one, &mut news);
                    }
                    None => return,
                },
                () = sleep_until(wake.into()) => {}
            }
            changes.mark_unchanged();
            let result = tokio::task::block_in_place(|| self.turn(told));
            if let Err(error) = result {
                self.metrics.failures.with_label_values(&[error.kind()]).inc();
                self.ready.rules.set(false);
                tracing::error!(%error, kind = error.kind(), "the rules could not be brought into force; those before stay; trying again");
                self.pace.failed(Instant::now());
            }
        }
    }

    /// Takes what was told, all of it, and says at what to look for that.
    fn hear(&mut self, first: Told, news: &mut UnboundedReceiver<Told>) -> Look {
        let mut told = Some(first);
        let mut look = Look::AtUnknown;
        while let Some(one) = told {
            match one {
                Told::Closed(veth) => {
                    self.closed.insert(veth.ifindex, (veth, Instant::now()));
                }
                Told::Named => {}
                Told::Changed => look = Look::AtAll,
                Told::Failed(kind) => {
                    self.metrics.failures.with_label_values(&[kind]).inc();
                    look = Look::AtAll;
                }
            }
            told = news.try_recv().ok();
        }
        look
    }

    fn heard(&self) -> MutexGuard<'_, Option<Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever there is to do; `told`: at what to look for the news that there are of veths.
    fn turn(&mut self, told: Look) -> Result<(), Error> {
        let started = Instant::now();
        if self.sync.sweep_due().is_some_and(|due| started >= due) {
            self.sync.sweep()?;
        }
        let mut look = told.max(self.pace.look(started)).max(self.owed);
        self.owed = look;
        let progress = self.view.progress();
        let revisions = self.metrics.revisions.clone();
        let revision = |state: &str, revision: u64| {
            let revision = i64::try_from(revision).unwrap_or(i64::MAX);
            revisions.with_label_values(&[state]).set(revision);
        };
        self.ready.view.set(progress.synced());
        if progress.synced() {
            let heard = self.heard().take();
            revision("seen", progress.revision);
            let Changed { delta, defects } = self.follow(progress.revision);
            for defect in defects {
                tracing::warn!(
                    defect,
                    "a part of a policy cannot be understood; it opens nothing, and its pods are closed where it would apply"
                );
            }
            self.sync.take(&delta);
            if !delta.endpoints.is_empty() {
                look = look.max(Look::AtUnknown);
            }
            self.news |= !delta.is_empty();
            if look > Look::No || self.news {
                self.enforce(look, started).inspect_err(|_| {
                    // It is still to come into force.
                    let mut later = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    *later = heard.or(*later);
                })?;
                self.news = false;
                self.owed = Look::No;
            }
            if let Some(heard) = heard {
                self.metrics
                    .propagation_seconds
                    .observe(heard.elapsed().as_secs_f64());
            }
            revision("enforced", progress.revision);
            if !delta.is_empty() {
                self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
            }
        }
        if self.pace.check(started) {
            self.check_filters()?;
        }
        if look == Look::AtAll {
            self.tell();
        }
        if look > Look::No {
            self.pace.succeeded(Instant::now(), look, self.is_waiting());
        }
        Ok(())
    }

    /// What the cluster's changes change here.
    fn follow(&mut self, revision: u64) -> Changed {
        if self.followed.replace(revision) == Some(revision) {
            return Changed::default();
        }
        let changed = self.rules.follow(&self.view.read());
        self.metrics
            .policy_defects
            .set(i64::try_from(self.rules.defects()).unwrap_or(i64::MAX));
        changed
    }

    /// Brings the rules to the kernel, for the veths that there are. What fails at one interface does not keep the others from their
    /// rules.
    fn enforce(&mut self, look: Look, started: Instant) -> Result<(), Error> {
        let seated = match look {
            Look::No => Ok(()),
            Look::AtUnknown | Look::AtAll => self.seat(look)?,
        };
        let done = self.sync.apply(
            || self.rules.everything(),
            |encoder| seating::endpoints(&self.seats, self.rules.pods(), encoder, &self.unseated),
        )?;
        // Only now, so that a veth which was open so far meets its rules at once and nothing before them.
        let attached = self.attach();
        self.note_opened();
        if look > Look::No {
            self.let_go()?;
        }
        seated.and(attached)?;
        if !self.tidied {
            self.tidy()?;
            self.tidied = true;
            // Those that were there before are under their rules now, or nobody's; whatever comes is closed from its first packet on.
            self.present
                .iter()
                .for_each(|ifindex| self.maps.look_at(*ifindex));
            self.maps.arm();
            self.ready.filters.set(true);
        }
        if done.flips > 0 {
            self.metrics.rules_revision.inc();
            tracing::info!(
                pods = self.rules.pods().len(),
                changed = done.flips,
                milliseconds = started.elapsed().as_millis() as u64,
                "rules in force"
            );
        }
        self.ready.rules.set(true);
        self.ready.pods.set(self.seats.missing(self.rules.pods()) == 0);
        Ok(())
    }
}

/// Notes when the first change was heard of since somebody last looked.
async fn note_first(mut changes: watch::Receiver<Progress>, heard: Weak<Mutex<Option<Instant>>>) {
    while changes.changed().await.is_ok() {
        let Some(heard) = heard.upgrade() else {
            return;
        };
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Instant::now);
    }
}
