//! A table for people, and lines for programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

/// What a figure is held to.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    None,
    AtMost(f64),
    AtLeast(f64),
}

pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    bound: Bound,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, bound: Bound) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            bound,
        }
    }

    /// The bound, and whether it is held.
    fn verdict(&self) -> Option<(f64, bool)> {
        match self.bound {
            Bound::None => None,
            Bound::AtMost(bound) => Some((bound, self.value <= bound)),
            Bound::AtLeast(bound) => Some((bound, self.value >= bound)),
        }
    }
}

pub fn report(figures: &[Figure]) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = target.join("bench/results.jsonl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut results = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    for figure in figures {
        let Figure {
            name, value, unit, ..
        } = figure;
        let verdict = figure.verdict();
        let line = json!({
            "component": "webhook", "figure": name, "value": value, "unit": unit,
            "bound": verdict.map(|(bound, _)| bound), "within": verdict.map(|(_, within)| within),
            "beside": {"pods": 10_000, "policies": 2_000},
        });
        writeln!(results, "{line}").unwrap();
        let verdict = match verdict {
            Some((bound, true)) => format!("PASS    {bound} {unit}"),
            Some((bound, false)) => format!("MISSED  {bound} {unit}"),
            None => String::new(),
        };
        println!("{name:66} {value:10.3} {unit:4} {verdict}");
    }
}

/// So that such a part of the values is not above it.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    assert!(
        !values.is_empty(),
        "nothing was measured: RINGFENCE_BENCH_SECONDS is too little for this machine"
    );
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
