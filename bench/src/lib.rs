//! What a benchmark found: figures with their bounds, said in a table as they come and written to `target/bench/results.jsonl`, one
//! object a line. A development dependency of everything that measures, and no part of the product.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The figures of one benchmark.
pub struct Report {
    component: &'static str,
    results: File,
    missed: usize,
}

/// One figure: what was measured, beside what, and what it must not exceed (or fall short of).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[must_use = "a figure is said by `Report::say`"]
pub struct Figure {
    name: String,
    value: f64,
    unit: Cow<'static, str>,
    bound: Option<Bound>,
    beside: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit: Cow::Borrowed(unit),
            bound: None,
            beside: Map::new(),
        }
    }

    /// `None`: it is only said.
    pub fn at_most(mut self, bound: impl Into<Option<f64>>) -> Self {
        self.bound = bound.into().map(Bound::AtMost);
        self
    }

    /// As [`Self::at_most`].
    pub fn at_least(mut self, bound: impl Into<Option<f64>>) -> Self {
        self.bound = bound.into().map(Bound::AtLeast);
        self
    }

    /// What the figure is to be read with: the same of something else, in the same run.
    pub fn beside(mut self, what: impl Into<String>, value: impl Into<Value>) -> Self {
        self.beside.insert(what.into(), value.into());
        self
    }

    /// Whether it keeps its bound, if it has one.
    pub fn is_within(&self) -> Option<bool> {
        self.bound.map(|bound| match bound {
            Bound::AtMost(bound) => self.value <= bound,
            Bound::AtLeast(bound) => self.value >= bound,
        })
    }
}

impl Report {
    /// Figures of this part of the product, appended to those of earlier runs.
    ///
    /// # Errors
    /// If the file of results cannot be written to.
    pub fn new(component: &'static str) -> io::Result<Self> {
        let path = target().join("bench/results.jsonl");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(Self {
            component,
            results: File::options().create(true).append(true).open(path)?,
            missed: 0,
        })
    }

    /// A line that stands above the figures to come.
    pub fn title(&self, title: impl Display) {
        println!("\n{title}");
    }

    /// Says a figure, and writes it down.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn say(&mut self, figure: Figure) -> io::Result<()> {
        let within = figure.is_within();
        let verdict = match figure.bound {
            None => String::new(),
            Some(bound) => {
                let (sign, bound) = match bound {
                    Bound::AtMost(bound) => ("at most", bound),
                    Bound::AtLeast(bound) => ("at least", bound),
                };
                let word = if within == Some(false) { "MISSED" } else { "holds" };
                format!("{word}: {sign} {bound} {}", figure.unit)
            }
        };
        self.missed += usize::from(within == Some(false));
        let bound = figure
            .bound
            .map(|(Bound::AtMost(bound) | Bound::AtLeast(bound))| bound);
        let line = json!({
            "component": self.component, "figure": figure.name, "value": figure.value, "unit": figure.unit,
            "bound": bound, "within": within, "beside": figure.beside,
        });
        println!(
            "  {:72} {:>12} {:5} {verdict}",
            figure.name,
            short(figure.value),
            figure.unit
        );
        writeln!(self.results, "{line}")
    }

    /// How many figures missed their bounds.
    pub fn missed(&self) -> usize {
        self.missed
    }
}

/// As many digits as anybody reads.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 || value.fract() == 0.0 => 0,
        value if value >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Cargo's folder for what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// The kubeconfig of the cluster to measure on: that of `KUBECONFIG`, else of the project's own, which is brought up.
///
/// # Errors
/// If there is none, and none can be brought up.
pub fn kubeconfig() -> io::Result<PathBuf> {
    if let Some(given) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        return Ok(given.into());
    }
    let made = Command::new("make")
        .args(["--silent", "--no-print-directory", "cluster"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stderr(Stdio::inherit())
        .output()?;
    let printed = String::from_utf8_lossy(&made.stdout).into_owned();
    match printed.lines().last() {
        Some(path) if made.status.success() => Ok(path.into()),
        _ => Err(io::Error::other("there is no cluster to run on")),
    }
}

/// The percentile of some values, by the nearest rank. 0 if there are none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The resident memory of a process, now (`VmRSS`) or at its highest (`VmHWM`), in MiB.
///
/// # Errors
/// If there is no such process.
pub fn memory(pid: u32, which: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |line: &str| {
        line.strip_prefix(which)?
            .strip_prefix(':')?
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
    };
    let kib = status.lines().find_map(of);
    kib.map(|kib| kib / 1024.0)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {which}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), 50.0);
        assert_eq!(percentile(&values, 99.0), 99.0);
        assert_eq!(percentile(&values, 100.0), 100.0);
        assert_eq!(percentile(&[3.0], 1.0), 3.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn a_bound_is_kept_from_below_or_from_above() {
        let figure = || Figure::new("x", 2.0, "ms");
        assert_eq!(figure().is_within(), None);
        assert_eq!(figure().at_most(2.0).is_within(), Some(true));
        assert_eq!(figure().at_most(1.0).is_within(), Some(false));
        assert_eq!(figure().at_least(3.0).is_within(), Some(false));
    }

    #[test]
    fn this_process_takes_up_memory() {
        assert!(memory(std::process::id(), "VmRSS").is_ok_and(|mib| mib > 0.5));
        assert!(memory(std::process::id(), "VmNone").is_err());
    }
}
