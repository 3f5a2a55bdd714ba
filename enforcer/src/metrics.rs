//! What the agent tells about itself.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::datapath::{REASONS, TALLIES};

#[derive(Clone)]
pub struct Metrics {
    pub sync_seconds: Histogram,
    pub propagation_seconds: Histogram,
    pub opening_seconds: Histogram,
    pub revisions: IntGaugeVec,
    pub failures: IntCounterVec,
    pub map_entries: IntGaugeVec,
    pub map_room: IntGaugeVec,
    pub map_bytes: IntGaugeVec,
    pub displaced: IntCounterVec,
    pub over_share: IntGauge,
    pub self_checks: IntCounterVec,
    /// Denied packets that no line of the log tells of.
    pub unattributed: IntCounter,
    unsent: IntCounter,
    pub endpoints: IntGaugeVec,
    pub policy_defects: IntGauge,
    pub policies_ahead: IntGauge,
    pub rules_revision: IntGauge,
    packets: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 14)?;
        let name = |name: &str| format!("ringfence_enforcer_{name}");
        let vec =
            |what: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name(what), help), &[label]);
        let metrics = Self {
            sync_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    name("sync_duration_seconds"),
                    "From taking up a change of the cluster to its being in force",
                )
                .buckets(buckets),
            )?,
            propagation_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    name("propagation_duration_seconds"),
                    "From hearing of a change from the API server to its being in force in the kernel",
                )
                .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?),
            )?,
            opening_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    name("pod_opening_duration_seconds"),
                    "From when the container runtime knew a new pod's address until the pod was under its rules, and no more closed",
                )
                .buckets(prometheus::exponential_buckets(0.001, 2.0, 14)?),
            )?,
            revisions: vec(
                "view_revision",
                "How many changes of the cluster were seen, and up to which one they are in force",
                "state",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    name("failures_total"),
                    "What went wrong, by kind; the rules before stay in force meanwhile",
                ),
                &["kind"],
            )?,
            map_entries: vec("map_entries", "Entries in a table of the kernel side", "map")?,
            map_room: vec("map_room_entries", "How many entries a table has room for", "map")?,
            map_bytes: vec(
                "map_memory_bytes",
                "The kernel's memory that a map takes up",
                "map",
            )?,
            displaced: IntCounterVec::new(
                Opts::new(
                    name("flows_displaced_total"),
                    "Flows that were forgotten to make room for others, or replaced, by the table that they were in",
                ),
                &["map"],
            )?,
            over_share: IntGauge::new(
                name("endpoints_over_share"),
                "Pods that had more flows than their share, when they were last counted",
            )?,
            self_checks: IntCounterVec::new(
                Opts::new(
                    name("self_checks_total"),
                    "Proofs that what is loaded denies and allows as it should, by result",
                ),
                &["result"],
            )?,
            unattributed: IntCounter::new(
                name("denied_packets_unattributed_total"),
                "Denied packets that no line of the log tells of, since there were too many kinds of them",
            )?,
            unsent: IntCounter::new(
                name("denied_events_unsent_total"),
                "First packets of a kind that were not told of at once, since there were too many; they are counted all the same",
            )?,
            endpoints: vec("endpoints", "Pods of this node, by state", "state")?,
            policies_ahead: IntGauge::new(
                name("policies_ahead"),
                "Policies of baselines that are enforced here and not stored yet",
            )?,
            policy_defects: IntGauge::new(
                name("policy_defects"),
                "Parts of policies of this node's pods that could not be understood, and so are closed",
            )?,
            rules_revision: IntGauge::new(
                name("rules_revision"),
                "Grows with every change that came into force",
            )?,
            packets: IntCounterVec::new(
                Opts::new(
                    name("packets_total"),
                    "Packets judged at pods' veths, by verdict and reason",
                ),
                &["verdict", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.sync_seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.propagation_seconds.clone()))?;
        registry.register(Box::new(metrics.opening_seconds.clone()))?;
        registry.register(Box::new(metrics.revisions.clone()))?;
        registry.register(Box::new(metrics.policy_defects.clone()))?;
        registry.register(Box::new(metrics.policies_ahead.clone()))?;
        registry.register(Box::new(metrics.rules_revision.clone()))?;
        registry.register(Box::new(metrics.packets.clone()))?;
        registry.register(Box::new(metrics.displaced.clone()))?;
        registry.register(Box::new(metrics.unattributed.clone()))?;
        registry.register(Box::new(metrics.self_checks.clone()))?;
        registry.register(Box::new(metrics.unsent.clone()))?;
        registry.register(Box::new(metrics.over_share.clone()))?;
        for gauge in [
            &metrics.map_entries,
            &metrics.map_room,
            &metrics.map_bytes,
            &metrics.endpoints,
        ] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }

    /// Takes over what the kernel counted, since it was first installed.
    pub fn packets(&self, counts: &[u64]) {
        for ((_, verdict, reason), count) in REASONS.iter().zip(counts) {
            let counter = self.packets.with_label_values(&[*verdict, *reason]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let unsent = TALLIES.iter().position(|(_, name)| *name == "unsent");
        let unsent = unsent.and_then(|index| counts.get(REASONS.len() + index));
        self.unsent.inc_by(
            unsent
                .copied()
                .unwrap_or_default()
                .saturating_sub(self.unsent.get()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_follow_the_kernels_counters() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let mut counts = vec![0; REASONS.len()];
        counts[0] = 7;
        metrics.packets(&counts);
        counts[0] = 9;
        metrics.packets(&counts);
        assert_eq!(
            metrics.packets.with_label_values(&["pass", "established"]).get(),
            9
        );
    }
}
