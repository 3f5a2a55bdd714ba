//! Which status is to be written, and when: only what changed, and not too often. And which change of it deserves an Event.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ringfence_netpol::api::NamespaceBaselineStatus;
use ringfence_netpol::baseline::Baselines;
use ringfence_netpol::baseline::status::{PROGRESSING, Tally, status};
use ringfence_netpol::cluster::{Cluster, Key};
use tokio::time::Instant;

/// How long a status that was written may stay unseen in the view before it is written again.
const UNSEEN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Statuses {
    written: BTreeMap<String, Written>,
    wake: Option<Instant>,
}

struct Written {
    status: NamespaceBaselineStatus,
    at: Instant,
}

/// A status that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub baseline: String,
    pub uid: Option<String>,
    pub status: NamespaceBaselineStatus,
    pub event: Option<Event>,
}

/// What `kubectl describe` shows under Events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub reason: String,
    pub note: String,
}

/// An Event if a baseline begins or ceases to be ready, or is not for another reason than before.
fn event(before: Option<&NamespaceBaselineStatus>, after: &NamespaceBaselineStatus) -> Option<Event> {
    let ready = |status: &NamespaceBaselineStatus| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .cloned()
    };
    let (before, after) = (before.and_then(ready), ready(after)?);
    if before
        .is_some_and(|before| (before.status, before.reason) == (after.status.clone(), after.reason.clone()))
        || after.reason == PROGRESSING
    {
        return None;
    }
    Some(Event {
        warning: after.status != "True",
        reason: after.reason,
        note: after.message,
    })
}

impl Statuses {
    /// The statuses that are to be written now, by baseline.
    pub fn due(
        &mut self,
        cluster: &Cluster,
        baselines: &Baselines,
        tallies: &BTreeMap<String, Tally>,
        interval: Duration,
        (now, time): (Instant, &Time),
    ) -> Vec<Due> {
        self.wake = None;
        self.written.retain(|name, _| baselines.get(name).is_some());
        let mut due = Vec::new();
        for (name, baseline) in baselines.iter() {
            let Some(tally) = tallies.get(name) else { continue };
            let object = cluster.baselines.get(&Key::cluster(name));
            let stored = object.and_then(|object| object.status.as_ref());
            let written = self.written.get(name);
            let before = written.map(|written| &written.status).or(stored);
            let wanted = status(baseline, tally, before, time);
            if stored == Some(&wanted) {
                continue;
            }
            let rest = match written {
                None => Duration::ZERO,
                Some(written) if written.status == wanted => UNSEEN,
                Some(_) => interval,
            };
            let next = written.map_or(now, |written| written.at + rest);
            if next > now {
                self.wake = Some(self.wake.map_or(next, |wake| wake.min(next)));
                continue;
            }
            let event = event(before, &wanted);
            self.written.insert(
                name.to_owned(),
                Written {
                    status: wanted.clone(),
                    at: now,
                },
            );
            due.push(Due {
                baseline: name.to_owned(),
                uid: object.and_then(|object| object.metadata.uid.clone()),
                status: wanted,
                event,
            });
        }
        due
    }

    /// When to ask again although nothing changed.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }
}
