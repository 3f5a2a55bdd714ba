//! The agent: what the cluster says and which veths there are, brought to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ringfence_netpol::compile::{NodeRules, compile};
use ringfence_runtime::health::Condition;
use ringfence_runtime::view::{Progress, View};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::datapath::{Endpoint, Hooks, KernelMaps, Pins, ROOM, detach};
use crate::encode::plan::Endpoints;
use crate::encode::tables::Tables;
use crate::gate::Told;
use crate::link::cni::Results;
use crate::link::{Links, Veth};
use crate::metrics::Metrics;
use crate::seats::{Pods, Seats};
use crate::settings::{EnforcerSettings, SourceCheck};
use crate::sync::{self, Sync};
use crate::{datapath, link};

/// How often to look for what no news tells, while a veth is closed for not being known.
const LOOK: Duration = Duration::from_millis(250);
/// How often the kernel's counters are taken over.
const COUNT: Duration = Duration::from_secs(2);
/// How often it is checked that the filters are where they were put.
const CHECK: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);

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
    rules: NodeRules,
    pods: Pods,
    /// The view's revision that the rules were compiled from.
    compiled: Option<u64>,
    /// Defects that were said.
    said: BTreeSet<String>,
    /// An agent was here before, and some veths may be pods' that started while there was none.
    look_for_missed: bool,
    checked: Instant,
    /// Veths that the gate closed, and since when.
    closed: BTreeMap<u32, Instant>,
    results: Results,
    /// When the first change was heard of that is not in force yet.
    heard: Arc<Mutex<Option<Instant>>>,
    /// Until what agents before left was swept.
    pins: Option<Pins>,
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
            settings,
            view,
            links,
            sync: Sync::new(Arc::clone(&maps), ROOM),
            maps,
            hooks,
            metrics,
            ready,
            seats: Seats::default(),
            rules: NodeRules::default(),
            pods: Pods::default(),
            compiled: None,
            said: BTreeSet::new(),
            look_for_missed: resumed,
            checked: Instant::now(),
            closed: BTreeMap::new(),
            results,
            heard: Arc::default(),
            pins: Some(pins),
        }
    }

    /// Takes over the endpoints that an agent before left: their verdicts hold as they are, by this agent's programs.
    ///
    /// # Errors
    /// If interfaces or maps cannot be read.
    pub fn resume(&mut self, veths: &[Veth]) -> Result<(), anyhow::Error> {
        for endpoint in self.maps.endpoints()? {
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
        let mut retry = RETRY;
        let mut next = Instant::now();
        loop {
            let sweep = self.sync.sweep_due().unwrap_or(next + COUNT);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                told = news.recv() => match told {
                    Some(told) => self.hear(told, &mut news),
                    None => return,
                },
                () = sleep_until(next.min(sweep).into()) => {}
            }
            changes.mark_unchanged();
            let result = tokio::task::block_in_place(|| self.turn());
            next = Instant::now()
                + match result {
                    Ok(()) => {
                        retry = RETRY;
                        self.pause()
                    }
                    Err(error) => {
                        self.metrics.failures.with_label_values(&[error.kind()]).inc();
                        tracing::error!(%error, kind = error.kind(), "the rules could not be brought into force; those before stay; trying again");
                        retry = (retry * 2).min(RETRY_AT_MOST);
                        retry
                    }
                };
        }
    }

    fn hear(&mut self, first: Told, news: &mut UnboundedReceiver<Told>) {
        let mut told = Some(first);
        while let Some(one) = told {
            match one {
                Told::Closed(ifindex) => drop(self.closed.insert(ifindex, Instant::now())),
                Told::Failed(kind) => self.metrics.failures.with_label_values(&[kind]).inc(),
                Told::Changed => {}
            }
            told = news.try_recv().ok();
        }
    }

    fn heard(&self) -> MutexGuard<'_, Option<Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> Duration {
        let waiting = !self.closed.is_empty()
            || self
                .seats
                .iter()
                .any(|seat| seat.address.is_none() && seat.closed.is_some());
        if waiting || self.seats.missing(&self.pods) > 0 {
            LOOK
        } else {
            COUNT
        }
    }

    /// Everything once: what is as it should be costs little.
    fn turn(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        if self.sync.sweep_due().is_some_and(|due| started >= due) {
            self.sync.sweep()?;
        }
        let progress = self.view.progress();
        let revisions = self.metrics.revisions.clone();
        let revision = |state: &str, revision: u64| {
            let revision = i64::try_from(revision).unwrap_or(i64::MAX);
            revisions.with_label_values(&[state]).set(revision);
        };
        self.ready.view.set(progress.synced());
        if progress.synced() {
            let fresh = self.compiled != Some(progress.revision);
            let heard = self.heard().take();
            revision("seen", progress.revision);
            if fresh {
                self.compile(progress.revision);
            }
            let flips = self.enforce().inspect_err(|_| {
                // It is still to come into force.
                let mut later = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                *later = heard.or(*later);
            })?;
            if let Some(heard) = heard {
                self.metrics
                    .propagation_seconds
                    .observe(heard.elapsed().as_secs_f64());
            }
            revision("enforced", progress.revision);
            if let Some(pins) = self.pins.take() {
                self.tidy(&pins)?;
            }
            if fresh {
                self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
            }
            if flips > 0 {
                self.metrics.rules_revision.inc();
                tracing::info!(
                    pods = self.rules.endpoints.len(),
                    changed = flips,
                    milliseconds = started.elapsed().as_millis() as u64,
                    "rules in force"
                );
            }
            self.ready.rules.set(true);
            self.ready.pods.set(self.seats.missing(&self.pods) == 0);
        }
        if self.checked.elapsed() >= CHECK {
            self.checked = Instant::now();
            self.check_filters()?;
        }
        self.tell();
        Ok(())
    }

    fn compile(&mut self, revision: u64) {
        let view = self.view.clone();
        let cluster = view.read();
        self.rules = compile(&cluster, &self.settings.node_name);
        self.compiled = Some(revision);
        self.pods = Pods::of(&self.rules);
        let mut defects = BTreeSet::new();
        for (key, policy) in cluster
            .policies
            .iter()
            .filter(|(_, policy)| !policy.defects.is_empty())
        {
            let here = |(pod, _): &(&ringfence_netpol::cluster::Key, &ringfence_netpol::cluster::Pod)| {
                pod.namespace == key.namespace && self.rules.endpoints.contains_key(pod)
            };
            let selects = cluster
                .pods
                .iter()
                .filter(here)
                .any(|(_, pod)| policy.pods.matches(&pod.labels));
            if selects {
                defects.extend(policy.defects.iter().map(|defect| format!("{key}: {defect}")));
            }
        }
        for defect in defects.difference(&self.said) {
            tracing::warn!(
                defect,
                "a part of a policy cannot be understood; it opens nothing, and its pods are closed where it would apply"
            );
        }
        self.said = defects;
        self.metrics
            .policy_defects
            .set(i64::try_from(self.rules.defects).unwrap_or(i64::MAX));
    }

    /// Brings the rules to the kernel, for the veths that there are; how many endpoints came under other rules.
    fn enforce(&mut self) -> Result<usize, Error> {
        let veths = self.links.veths()?;
        let gone = self.seats.survey(&veths);
        for (ifindex, since) in std::mem::take(&mut self.closed) {
            if let Some(seat) = self.seats.get_mut(ifindex).filter(|seat| seat.address.is_none()) {
                (seat.closed, seat.attached) = (Some(since), true);
            }
        }
        if self.pods.is_one_unaddressed() || !self.seats.unknown().is_empty() {
            self.results.refresh();
        }
        self.pods.learn(self.results.claims());
        self.find_pods()?;
        let seated = self.seats.iter().filter(|seat| seat.address.is_some()).count();
        self.maps.flows.divide(seated);
        // What fails at one interface must not keep the others from their rules.
        let mut failure = None;
        let mut unseated = BTreeSet::new();
        for seat in self.seats.iter() {
            let ifindex = seat.veth.ifindex;
            let Some(address) = seat.address.filter(|address| self.pods.has(address)) else {
                continue;
            };
            let endpoint = Endpoint {
                ifindex,
                addresses: self.pods.addresses(&address),
                via: seat.veth.via(),
                lax: self.settings.source_check == SourceCheck::Isolated,
            };
            if let Err(error) = self.maps.admit(ifindex).and_then(|()| self.maps.bind(endpoint)) {
                unseated.insert(ifindex);
                failure.get_or_insert(error);
            }
        }
        let done = self.sync.apply(&self.rules, |tables| {
            let mut endpoints = endpoints(&self.seats, &self.pods, tables);
            endpoints.retain(|ifindex, _| !unseated.contains(ifindex));
            endpoints
        })?;
        // Only now, so that a veth which was open so far meets its rules at once and nothing before them.
        let bare: Vec<u32> = self
            .seats
            .iter()
            .filter(|seat| !seat.attached && seat.address.is_some_and(|address| self.pods.has(&address)))
            .map(|seat| seat.veth.ifindex)
            .collect();
        for ifindex in bare {
            if let Err(error) = self.hooks.attach(ifindex) {
                failure.get_or_insert(error);
            } else if let Some(seat) = self.seats.get_mut(ifindex) {
                (seat.attached, seat.closed) = (true, None);
            }
        }
        for ifindex in gone {
            self.maps.evict(ifindex)?;
        }
        self.let_go()?;
        failure.map_or(Ok(done.flips), |error| Err(error.into()))
    }

    /// Looks behind the veths whose pod is not known.
    fn find_pods(&mut self) -> Result<(), Error> {
        let missed = std::mem::take(&mut self.look_for_missed) && self.seats.is_awaited(&self.pods);
        for veth in self.seats.unknown() {
            let addresses = match self.links.addresses_behind(&veth) {
                Ok(addresses) => addresses,
                Err(error) => {
                    // Its namespace may have gone between the two questions.
                    tracing::debug!(ifindex = veth.ifindex, %error, "the addresses behind a veth could not be read");
                    continue;
                }
            };
            let Some(seat) = self.seats.get_mut(veth.ifindex) else {
                continue;
            };
            if let Some(address) = addresses.into_iter().find(|address| self.pods.has(address)) {
                tracing::debug!(ifindex = veth.ifindex, %address, "a pod's veth was found");
                (seat.address, seat.closed) = (Some(address), None);
            } else if missed
                && seat.closed.is_none()
                && self.links.is_kept_in(&veth, &self.settings.netns_path)?
            {
                self.maps.admit(veth.ifindex)?;
                self.hooks.attach(veth.ifindex)?;
                (seat.closed, seat.attached) = (Some(Instant::now()), true);
            }
        }
        Ok(())
    }

    /// Opens closed veths that turned out to be nobody's.
    fn let_go(&mut self) -> Result<(), Error> {
        for ifindex in self
            .seats
            .nobodys(&self.pods, self.settings.let_go_after(), Instant::now())
        {
            tracing::info!(
                ifindex,
                "a veth was closed as a new pod's, but every pod has its own: let go"
            );
            detach(ifindex)?;
            self.maps.evict(ifindex)?;
            if let Some(seat) = self.seats.get_mut(ifindex) {
                (seat.closed, seat.attached) = (None, false);
            }
        }
        Ok(())
    }

    /// Removes what agents before left and nothing needs any more: only now that this one's rules are in force, since until then
    /// another layout's filters may be what holds policy.
    fn tidy(&self, pins: &Pins) -> Result<(), Error> {
        for seat in self.seats.iter().filter(|seat| !seat.attached) {
            if Hooks::stand_at(seat.veth.ifindex) {
                tracing::info!(
                    ifindex = seat.veth.ifindex,
                    "removing the filters of an agent before from a veth that is no pod's"
                );
                detach(seat.veth.ifindex)?;
            }
        }
        Ok(pins.sweep()?)
    }

    /// Puts filters back that somebody else took away.
    fn check_filters(&mut self) -> Result<(), Error> {
        let mut failure = None;
        for seat in self.seats.iter().filter(|seat| seat.attached) {
            let ifindex = seat.veth.ifindex;
            if !self.hooks.are_attached(ifindex) {
                tracing::warn!(
                    ifindex,
                    "a filter was taken away by somebody else; it is put back"
                );
                self.metrics
                    .failures
                    .with_label_values(&["filter_taken_away"])
                    .inc();
                failure = self.hooks.attach(ifindex).err().or(failure);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn tell(&self) {
        let gauge = |vec: &prometheus::IntGaugeVec, label: &str, value: usize| {
            vec.with_label_values(&[label])
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        match self.maps.counts() {
            Ok(counts) => self.metrics.packets(&counts),
            Err(error) => tracing::debug!(%error, "the counters could not be read"),
        }
        if let Some(state) = self.sync.state() {
            let tables = [
                ("addresses", state.addresses.len(), ROOM.addresses),
                ("prefixes", state.prefixes.len(), ROOM.prefixes),
                ("decisions", state.decisions.len(), ROOM.decisions),
                ("services", state.services.len(), ROOM.services),
            ];
            for (map, entries, room) in tables {
                gauge(&self.metrics.map_entries, map, entries);
                gauge(&self.metrics.map_room, map, room);
            }
        }
        let known = self.seats.iter().filter_map(|seat| seat.address);
        let (known, ended): (Vec<_>, Vec<_>) = known.partition(|address| self.pods.has(address));
        let closed = self
            .seats
            .iter()
            .filter(|seat| seat.address.is_none() && seat.closed.is_some())
            .count();
        gauge(&self.metrics.endpoints, "known", known.len());
        gauge(&self.metrics.endpoints, "ended", ended.len());
        gauge(&self.metrics.endpoints, "pending", closed);
        gauge(&self.metrics.endpoints, "missing", self.seats.missing(&self.pods));
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

/// Whose rules apply where. A pod that is no more has no entry, and its veth is closed while it lasts.
fn endpoints(seats: &Seats, pods: &Pods, tables: &Tables) -> Endpoints {
    let known = seats.iter().filter_map(|seat| {
        let (ingress, egress) = pods.rulesets(&seat.address?)?;
        Some((
            seat.veth.ifindex,
            (tables.ruleset(ingress), tables.ruleset(egress)),
        ))
    });
    known.collect()
}
