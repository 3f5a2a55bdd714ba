//! Which status is to be written, and when: only what changed, and not too often.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ringfence_netpol::api::NamespaceBaselineStatus;
use ringfence_netpol::baseline::Baselines;
use ringfence_netpol::baseline::status::{Tally, status};
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

impl Statuses {
    /// The statuses that are to be written now, by baseline.
    pub fn due(
        &mut self,
        cluster: &Cluster,
        baselines: &Baselines,
        tallies: &BTreeMap<String, Tally>,
        interval: Duration,
        (now, time): (Instant, &Time),
    ) -> Vec<(String, NamespaceBaselineStatus)> {
        self.wake = None;
        self.written.retain(|name, _| baselines.get(name).is_some());
        let mut due = Vec::new();
        for (name, baseline) in baselines.iter() {
            let Some(tally) = tallies.get(name) else { continue };
            let stored = cluster
                .baselines
                .get(&Key::cluster(name))
                .and_then(|object| object.status.as_ref());
            let written = self.written.get(name);
            let wanted = status(
                baseline,
                tally,
                written.map(|written| &written.status).or(stored),
                time,
            );
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
            self.written.insert(
                name.to_owned(),
                Written {
                    status: wanted.clone(),
                    at: now,
                },
            );
            due.push((name.to_owned(), wanted));
        }
        due
    }

    /// When to ask again although nothing changed.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }
}
