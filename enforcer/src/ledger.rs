//! Who was denied what: the kernel's counts and events, in terms of pods and policies, as lines of the log.
//!
//! The kernel side counts every denied packet in a row for all of its kind (pod, direction, reason, peer, protocol, port), and tells at
//! once of the first one of a kind, though not of more than some hundred a second. The rows are read every few seconds. What a flood of different kinds pushed
//! out of the table before it was read is in no line, but it is counted: it is what the reasons' counters have and the rows have not.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::policy::Direction;
use ringfence_runtime::view::View;

use crate::datapath::{Denial, Denials, Error, KernelMaps};
use crate::metrics::Metrics;

/// How often the rows are read.
const READ: Duration = Duration::from_secs(10);
/// So many lines at most each time; the rest is summed up in one.
const LINES: usize = 50;

/// Starts to write down denials.
///
/// # Errors
/// If the rows cannot be read, or there can be no further thread.
pub fn start(
    maps: Arc<KernelMaps>,
    denials: Denials,
    view: View,
    metrics: Metrics,
) -> Result<(), anyhow::Error> {
    let mut ledger = Ledger::begin(maps, denials, view, metrics)?;
    thread::Builder::new().name("ledger".to_owned()).spawn(move || {
        loop {
            if let Err(error) = ledger.turn() {
                ledger.metrics.failures.with_label_values(&[error.kind()]).inc();
                tracing::warn!(%error, "denials could not be read; trying again");
                thread::sleep(READ);
            }
        }
    })?;
    Ok(())
}

struct Ledger {
    maps: Arc<KernelMaps>,
    denials: Denials,
    view: View,
    metrics: Metrics,
    /// How many packets of each kind were written down so far; at first what an agent before left.
    counted: HashMap<Denial, u64>,
    /// How many packets fell before this agent began, and how many it has written down since.
    before: u64,
    attributed: u64,
    dropped: u64,
    read: Instant,
}

impl Ledger {
    fn begin(maps: Arc<KernelMaps>, denials: Denials, view: View, metrics: Metrics) -> Result<Self, Error> {
        let before = maps.recorded_drops()?;
        let mut counted = HashMap::new();
        denials.each(|denial, packets| {
            counted.insert(denial, packets);
        })?;
        Ok(Self {
            maps,
            denials,
            view,
            metrics,
            counted,
            before,
            attributed: 0,
            dropped: before,
            read: Instant::now(),
        })
    }

    fn turn(&mut self) -> Result<(), Error> {
        let told = self.denials.wait(READ)?;
        if !told.is_empty() {
            let names = self.names();
            for denial in told {
                // The first of its kind, unless its row was pushed out and made anew.
                self.counted.insert(denial, 1);
                self.attributed += 1;
                self.say(&names, &denial, 1);
            }
        }
        if self.read.elapsed() >= READ {
            self.read = Instant::now();
            self.read_rows()?;
        }
        Ok(())
    }

    fn read_rows(&mut self) -> Result<(), Error> {
        let dropped = self.maps.recorded_drops()?;
        if self.dropped == dropped {
            return Ok(());
        }
        self.dropped = dropped;
        let mut rows = HashMap::new();
        self.denials.each(|denial, packets| {
            rows.insert(denial, packets);
        })?;
        let mut grown = growth(&self.counted, &rows);
        self.counted = rows;
        self.attributed += grown.iter().map(|(more, _)| more).sum::<u64>();
        let unattributed = (dropped - self.before.min(dropped)).saturating_sub(self.attributed);
        let counter = &self.metrics.unattributed;
        counter.inc_by(unattributed.saturating_sub(counter.get()));
        if grown.is_empty() {
            return Ok(());
        }
        grown.sort_unstable_by_key(|(more, _)| std::cmp::Reverse(*more));
        let names = self.names();
        for (more, denial) in grown.iter().take(LINES) {
            self.say(&names, denial, *more);
        }
        let rest = grown.get(LINES..).unwrap_or_default();
        if !rest.is_empty() {
            let packets: u64 = rest.iter().map(|(more, _)| more).sum();
            tracing::info!(kinds = rest.len(), packets, "denied, of further kinds");
        }
        Ok(())
    }

    /// Whose address is whose, as of now.
    fn names(&self) -> BTreeMap<IpAddr, Key> {
        let cluster = self.view.read();
        let governed = cluster.pods.iter().filter(|(_, pod)| pod.is_governed());
        governed
            .flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, key.clone())))
            .collect()
    }

    fn say(&self, names: &BTreeMap<IpAddr, Key>, denial: &Denial, packets: u64) {
        let mine = self.maps.addresses_of(denial.ifindex).unwrap_or_default();
        let pod = mine.iter().find_map(|address| names.get(&address));
        let isolating = pod.map(|pod| isolating(&self.view.read(), pod, denial.direction));
        tracing::info!(
            reason = denial.reason,
            direction = denial.direction.field(),
            pod = pod.map(ToString::to_string),
            interface = denial.ifindex,
            peer = %denial.peer,
            peer_pod = names.get(&denial.peer).map(ToString::to_string),
            protocol = %protocol(denial.protocol),
            port = denial.port,
            packets,
            policies = isolating.filter(|policies| !policies.is_empty()),
            "denied"
        );
    }
}

/// The kinds of which there are more than there were. A row that has fewer was pushed out and made anew.
fn growth(before: &HashMap<Denial, u64>, rows: &HashMap<Denial, u64>) -> Vec<(u64, Denial)> {
    rows.iter()
        .map(|(denial, packets)| {
            let known = before.get(denial).copied().filter(|known| known <= packets);
            (packets - known.unwrap_or_default(), *denial)
        })
        .filter(|(more, _)| *more > 0)
        .collect()
}

/// The policies that isolate a pod in a direction, as one text.
fn isolating(cluster: &Cluster, pod: &Key, direction: Direction) -> String {
    let Some(labels) = cluster.pods.get(pod).map(|pod| &pod.labels) else {
        return String::new();
    };
    let policies = cluster
        .policies
        .iter()
        .filter(|(key, _)| key.namespace == pod.namespace);
    policies
        .filter(|(_, policy)| policy.rules(direction).is_some() && policy.pods.matches(labels))
        .map(|(key, _)| key.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(port: u16) -> Denial {
        Denial {
            ifindex: 7,
            direction: Direction::Ingress,
            reason: "ingress",
            peer: IpAddr::from([10, 0, 0, 2]),
            protocol: 6,
            port,
        }
    }

    #[test]
    fn what_is_counted_twice_is_written_down_once() {
        let before = HashMap::from([(denial(1), 5), (denial(2), 9), (denial(3), 2)]);
        let rows = HashMap::from([(denial(1), 5), (denial(2), 12), (denial(3), 1), (denial(4), 8)]);
        let mut grown = growth(&before, &rows);
        grown.sort_unstable_by_key(|(_, denial)| denial.port);
        assert_eq!(grown, [(3, denial(2)), (1, denial(3)), (8, denial(4))]);
    }
}
