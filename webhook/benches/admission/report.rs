//! What was measured, and among what.

use ringfence_bench::{Figure, Report};

pub fn report(figures: Vec<Figure>) {
    let mut report = Report::new("webhook").unwrap();
    for figure in figures {
        let figure = figure.beside("pods", 10_000).beside("policies", 2_000);
        report.say(figure).unwrap();
    }
}

/// So that such a part of the values is not above it.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    assert!(
        !values.is_empty(),
        "nothing was measured: RINGFENCE_BENCH_SECONDS is too little for this machine"
    );
    ringfence_bench::percentile(values, part * 100.0)
}
