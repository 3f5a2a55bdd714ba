//! Counts now and then what the kernel side holds, on a thread of its own: flows, and the memory that each map takes up.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::datapath::{Counted, Error, KernelMaps, REASONS};
use crate::metrics::Metrics;

/// How often to look whether a pod comes near its share of flows. To look costs some ten microseconds.
const LOOK: Duration = Duration::from_secs(5);
/// How often to count in any case.
const COUNT: Duration = Duration::from_secs(60);

/// What was counted last.
struct Census {
    maps: Arc<KernelMaps>,
    metrics: Metrics,
    counted: Option<(Instant, Counted, [u64; 4])>,
}

/// Starts to count.
///
/// # Errors
/// If there can be no further thread.
pub fn start(maps: Arc<KernelMaps>, metrics: Metrics) -> std::io::Result<()> {
    let mut census = Census {
        maps,
        metrics,
        counted: None,
    };
    let work = move || {
        loop {
            if let Err(error) = census.turn() {
                census.metrics.failures.with_label_values(&[error.kind()]).inc();
                tracing::warn!(%error, "flows could not be counted; trying again");
            }
            thread::sleep(LOOK);
        }
    };
    thread::Builder::new()
        .name("census".to_owned())
        .spawn(work)
        .map(drop)
}

impl Census {
    fn turn(&mut self) -> Result<(), Error> {
        let last = self.counted.as_ref().map(|(at, ..)| *at);
        let due = last.is_none_or(|last| last.elapsed() >= COUNT) || self.maps.flows.is_count_due(last);
        if due {
            self.count()?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Error> {
        let counted = self.maps.flows.count()?;
        let tallies = self.maps.counts()?;
        let made: [u64; 4] =
            std::array::from_fn(|table| tallies.get(REASONS.len() + table).copied().unwrap_or_default());
        if let Some((_, before, made_before)) = &self.counted {
            for (index, (table, _)) in self.maps.flows.room().into_iter().enumerate() {
                // What came, and neither is there nor was removed, had to make room for others.
                let came = made[index].saturating_sub(made_before[index]) + before.entries[index] as u64;
                let accounted = counted.entries[index] as u64 + counted.removed[index] as u64;
                self.metrics
                    .displaced
                    .with_label_values(&[table])
                    .inc_by(came.saturating_sub(accounted));
            }
        }
        for ((table, room), entries) in self.maps.flows.room().into_iter().zip(counted.entries) {
            gauge(&self.metrics.map_entries, table, entries as u64);
            gauge(&self.metrics.map_room, table, room as u64);
        }
        self.metrics
            .over_share
            .set(i64::try_from(counted.over).unwrap_or(i64::MAX));
        for (map, bytes) in self.maps.memory()? {
            gauge(&self.metrics.map_bytes, map, bytes);
        }
        self.counted = Some((Instant::now(), counted, made));
        Ok(())
    }
}

fn gauge(vec: &prometheus::IntGaugeVec, label: &str, value: u64) {
    vec.with_label_values(&[label])
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}
