//! What can be measured of the generator; every label is bounded.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

#[derive(Clone)]
pub struct Metrics {
    /// Namespaces by state: `ready`, `pending`, `conflicting`, `failing`, and `open` for those that no baseline takes.
    pub namespaces: IntGaugeVec,
    /// From when a namespace was first seen until it had what it must.
    pub onboarding: Histogram,
    /// Objects that were as they must be and no longer were, by what happened to them: `deleted`, `edited`.
    pub repairs: IntCounterVec,
    /// Steps carried out, by verb: `apply`, `delete`, `status`.
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
        for verb in ["apply", "delete", "status"] {
            writes.with_label_values(&[verb]);
        }
        Ok(Self {
            namespaces,
            onboarding: histogram(
                "onboarding_seconds",
                "From when a new namespace was first seen until it had what it must",
                0.002,
            )?,
            repairs,
            writes,
            errors: counters("errors_total", "Steps that failed, by reason", "reason")?,
            passes: histogram("pass_seconds", "One look at all namespaces", 0.0001)?,
            invalid,
            leader,
            idle_passes,
        })
    }
}
