//! Who reaches whom as a picture that stands for itself: no script, no font, nothing to be loaded.
//!
//! [`picture`] says what is drawn, bounded however large the cluster is; [`bundle`] draws one line for many that say the same;
//! [`arrange`] finds the places; [`draw`] writes.

mod arrange;
mod bundle;
mod draw;
mod picture;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use ringfence_netpol::connections::{Connection, Workload};

use picture::{Collector, Limits};

/// Writes the picture of the rows, among these workloads.
pub fn write<'a>(
    workloads: impl Iterator<Item = &'a Workload>,
    rows: impl Iterator<Item = Connection<'a>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_within(Limits::default(), workloads, rows, out)
}

fn write_within<'a>(
    limits: Limits,
    workloads: impl Iterator<Item = &'a Workload>,
    rows: impl Iterator<Item = Connection<'a>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut collector = Collector::new(limits, workloads);
    rows.for_each(|row| collector.add(&row));
    let picture = collector.finish();
    let drawing = arrange::arrange(&picture);
    draw::write(&picture, &drawing, out)
}
