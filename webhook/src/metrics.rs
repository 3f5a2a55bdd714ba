//! What is counted. Every label has few values, known beforehand.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use ringfence_netpol::api::LabelStandardStatus;
use ringfence_netpol::rollout::Why;

use crate::review::{Decision, Kind};

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    decisions: IntCounterVec,
    findings: IntCounterVec,
    rejected: IntCounterVec,
    connections: IntCounterVec,
    seconds: Histogram,
    filled_in: IntCounter,
    gated: IntCounter,
    standards: IntGaugeVec,
    in_flight: IntGauge,
    certificate: GaugeVec,
    settings_current: IntGauge,
    view_synced: IntGauge,
    view_age: Gauge,
}

impl Metrics {
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, Error>(counter)
        };
        let integer = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, Error>(gauge)
        };
        let metrics = Self {
            decisions: counter(
                "ringfence_webhook_decisions_total",
                "Admission requests decided, by kind and verdict (allowed, denied)",
                &["kind", "verdict"],
            )?,
            findings: counter(
                "ringfence_webhook_findings_total",
                "Findings, by code and what became of them (deny, warn, audit, exempt, glass_broken)",
                &["code", "severity"],
            )?,
            rejected: counter(
                "ringfence_webhook_rejected_requests_total",
                "Requests that were no admission requests or exceeded a limit, by reason",
                &["reason"],
            )?,
            connections: counter(
                "ringfence_webhook_refused_connections_total",
                "Connections that were refused or given up, by reason (crowded: as many as limits.connections; tls: no handshake; silent: \
                 nothing sent, or nothing read, for limits.idleSeconds)",
                &["reason"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "ringfence_webhook_review_seconds",
                    "Time from the whole body to the answer",
                )
                .buckets(vec![
                    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
                ]),
            )?,
            filled_in: IntCounter::new(
                "ringfence_webhook_filled_in_total",
                "Objects that were given labels by a standard's defaults",
            )?,
            gated: IntCounter::new(
                "ringfence_webhook_gated_pods_total",
                "Pods that were given a scheduling gate",
            )?,
            standards: IntGaugeVec::new(
                Opts::new(
                    "ringfence_webhook_standard_objects",
                    "Stored objects that are held to a label standard, by standard and state (checked, violating)",
                ),
                &["standard", "state"],
            )?,
            in_flight: integer(
                "ringfence_webhook_in_flight_requests",
                "Requests being read or judged",
            )?,
            certificate: GaugeVec::new(
                Opts::new(
                    "ringfence_webhook_certificate_expiry_timestamp_seconds",
                    "When a certificate ends, by certificate (serving, ca)",
                ),
                &["certificate"],
            )?,
            settings_current: integer(
                "ringfence_webhook_settings_current",
                "1 if what is in force is what the settings' file says, 0 if it cannot be used or a restart is needed",
            )?,
            view_synced: integer(
                "ringfence_webhook_view_synced",
                "1 if the cluster is in view, 0 if objects are judged without",
            )?,
            view_age: Gauge::new(
                "ringfence_webhook_view_age_seconds",
                "Time since the view of the cluster last changed",
            )?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.certificate.clone()))?;
        registry.register(Box::new(metrics.view_age.clone()))?;
        registry.register(Box::new(metrics.filled_in.clone()))?;
        registry.register(Box::new(metrics.gated.clone()))?;
        registry.register(Box::new(metrics.standards.clone()))?;
        metrics.settings_current.set(1);
        for kind in Kind::ALL {
            for verdict in ["allowed", "denied"] {
                metrics.decisions.with_label_values(&[kind.as_str(), verdict]);
            }
        }
        Ok(metrics)
    }

    pub fn decided(&self, decision: &Decision, took: Duration) {
        let verdict = if decision.allowed() { "allowed" } else { "denied" };
        self.decisions
            .with_label_values(&[decision.kind.as_str(), verdict])
            .inc();
        if decision.unreadable.is_some() {
            self.rejected("unreadable");
        }
        let denied = decision.denials().map(|finding| (finding.code, "deny"));
        let warned = decision.warnings().map(|finding| (finding.code, "warn"));
        let silent = decision.silent.iter().map(|silent| match silent.why {
            Why::Audit => (silent.finding.code, "audit"),
            Why::Exempt { .. } => (silent.finding.code, "exempt"),
        });
        let broken = decision.glass_broken.iter().flat_map(|broken| &broken.codes);
        let broken = broken.map(|code| (*code, "glass_broken"));
        for (code, severity) in denied.chain(warned).chain(silent).chain(broken) {
            self.findings.with_label_values(&[code, severity]).inc();
        }
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts an object that was given labels.
    pub fn filled_in(&self) {
        self.filled_in.inc();
    }

    /// Counts a pod that is to wait.
    pub fn gated(&self) {
        self.gated.inc();
    }

    /// What of the stored objects meets the standards. Standards are few, and the platform team's.
    pub fn standards(&self, standards: &BTreeMap<String, LabelStandardStatus>) {
        self.standards.reset();
        for (name, status) in standards {
            for (state, value) in [("checked", status.checked), ("violating", status.violating)] {
                self.standards
                    .with_label_values(&[name.as_str(), state])
                    .set(value);
            }
        }
    }

    pub fn connection_refused(&self, reason: &'static str) {
        self.connections.with_label_values(&[reason]).inc();
    }

    pub fn rejected(&self, reason: &'static str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Counts a request as in flight until what is returned is dropped.
    pub fn enter(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub fn certificates(&self, status: &ringfence_certs::Status) {
        // Seconds since 1970 are exact in a double for longer than certificates can say.
        #[allow(clippy::cast_precision_loss)]
        let set = |name, at: time::OffsetDateTime| {
            self.certificate
                .with_label_values(&[name])
                .set(at.unix_timestamp() as f64);
        };
        set("serving", status.leaf_not_after);
        set("ca", status.authority_not_after);
    }

    pub fn settings(&self, current: bool) {
        self.settings_current.set(i64::from(current));
    }

    pub fn view(&self, synced: bool, age: Duration) {
        self.view_synced.set(i64::from(synced));
        self.view_age.set(age.as_secs_f64());
    }
}

/// A request in flight.
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
