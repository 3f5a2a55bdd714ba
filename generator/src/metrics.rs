//! What can be measured of the generator; every label is bounded.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

#[derive(Clone)]
pub struct Metrics {
    /// Namespaces by state: `ready`, `pending`, `conflicting`, `failing`, and `open` for those that no baseline takes.
    pub namespaces: IntGaugeVec,
    /// Namespaces to which something is still to be written.
    pub queue: IntGauge,
    /// For how long the first of them has been waiting, in seconds.
    pub queue_age: Gauge,
    /// From when a namespace was first seen until it had what it must; from when it was created, if nobody was looking then.
    pub onboarding: Histogram,
    /// Objects that were as they must be and no longer were, by what happened to them: `deleted`, `edited`.
    pub repairs: IntCounterVec,
    /// Steps carried out, by verb: `apply`, `delete`, `status`, `ungate`.
    pub writes: IntCounterVec,
    /// Steps that failed, by reason.
    pub errors: IntCounterVec,
    pub passes: Histogram,
    /// Baselines that could not be understood, at the last look.
    pub invalid: IntGauge,
    /// Whether this replica acts.
    pub leader: IntGauge,
    /// Passes over all namespaces that found everything as it must be.
    pub idle_passes: IntCounter,
    /// Pods that wait at the scheduling gate.
    pub gated: IntGauge,
    /// For how long the first of them has been waiting, in seconds.
    pub gate_age: IntGauge,
    /// From a pod's creation until its gate was taken off.
    pub gate: Histogram,
}

impl Metrics {
    /// # Errors
    /// If they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = |name: &str| format!("ringfence_generator_{name}");
        let counters = |metric: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name(metric), help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let histogram = |metric: &str, help: &str, first: f64| {
            let buckets = prometheus::exponential_buckets(first, 2.0, 14)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name(metric), help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let namespaces = IntGaugeVec::new(
            Opts::new(name("namespaces"), "Namespaces, by state of their baselines"),
            &["state"],
        )?;
        registry.register(Box::new(namespaces.clone()))?;
        let gauge = |metric: &str, help: &str| {
            let gauge = IntGauge::new(name(metric), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let queue_age = Gauge::new(
            name("queue_age_seconds"),
            "For how long the first namespace has been waiting to be written to",
        )?;
        registry.register(Box::new(queue_age.clone()))?;
        let invalid = gauge("invalid_baselines", "Baselines that could not be understood")?;
        let leader = gauge("leader", "Whether this replica holds the lease, and so acts")?;
        let idle_passes = IntCounter::new(
            name("idle_passes_total"),
            "Passes that found everything as it must be",
        )?;
        registry.register(Box::new(idle_passes.clone()))?;
        let repairs = counters(
            "repairs_total",
            "Policies that were deleted or edited, and restored",
            "change",
        )?;
        let writes = counters("writes_total", "Steps carried out, by verb", "verb")?;
        for change in ["deleted", "edited"] {
            repairs.with_label_values(&[change]);
        }
        for verb in ["apply", "delete", "status", "ungate"] {
            writes.with_label_values(&[verb]);
        }
        Ok(Self {
            namespaces,
            onboarding: histogram(
                "onboarding_seconds",
                "From when a new namespace was seen, or was created while nobody was looking, until it had what it must",
                0.002,
            )?,
            repairs,
            writes,
            errors: counters("errors_total", "Steps that failed, by reason", "reason")?,
            passes: histogram("pass_seconds", "One look at all namespaces", 0.0001)?,
            invalid,
            leader,
            idle_passes,
            gated: gauge("gated_pods", "Pods that wait at the scheduling gate")?,
            gate_age: gauge(
                "gated_oldest_seconds",
                "For how long the first pod has been waiting at the scheduling gate",
            )?,
            gate: histogram(
                "gate_seconds",
                "From a pod's creation until its scheduling gate was taken off",
                0.5,
            )?,
            queue: gauge("queue", "Namespaces to which something is still to be written")?,
            queue_age,
        })
    }
}
