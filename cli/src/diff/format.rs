//! The forms of a difference.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use ringfence_netpol::port::PortSet;
use serde_json::{Value, json};

use super::{Change, Difference, Format};
use crate::connlist::{ports_json, ports_text};

const GAINED: Style = AnsiColor::Green.on_default();
const LOST: Style = AnsiColor::Red.on_default();
const CHANGED: Style = AnsiColor::Yellow.on_default();

pub fn write(format: Format, difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text(difference, out),
        Format::Md => markdown(difference, out),
        Format::Json => json(difference, out),
    }
}

/// Gained, lost and changed connections.
fn counts(difference: &Difference) -> [usize; 3] {
    let count = |kind: Kind| {
        difference
            .changes
            .iter()
            .filter(|change| change.kind() == kind)
            .count()
    };
    [Kind::Gained, Kind::Lost, Kind::Changed].map(count)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gained,
    Lost,
    Changed,
}

impl Change {
    fn kind(&self) -> Kind {
        match (&self.before, &self.after) {
            (None, _) => Kind::Gained,
            (_, None) => Kind::Lost,
            (Some(_), Some(_)) => Kind::Changed,
        }
    }
}

fn text(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    for (style, sign, names) in [
        (GAINED, '+', &difference.added_workloads),
        (LOST, '-', &difference.removed_workloads),
    ] {
        for name in names {
            writeln!(out, "{style}{sign} workload {name}{style:#}")?;
        }
    }
    for change in &difference.changes {
        let Change { from, to, .. } = change;
        let (style, sign) = match change.kind() {
            Kind::Gained => (GAINED, '+'),
            Kind::Lost => (LOST, '-'),
            Kind::Changed => (CHANGED, '~'),
        };
        let ports: Vec<String> = ports(change);
        writeln!(
            out,
            "{style}{sign} {from} => {to} : {}{style:#}",
            ports.join(" -> ")
        )?;
    }
    let [gained, lost, changed] = counts(difference);
    writeln!(out, "{gained} gained, {lost} lost, {changed} changed")
}

fn ports(change: &Change) -> Vec<String> {
    [&change.before, &change.after]
        .into_iter()
        .flatten()
        .map(ports_text)
        .collect()
}

fn markdown(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    let [gained, lost, changed] = counts(difference);
    writeln!(
        out,
        "### Who reaches whom: {gained} gained, {lost} lost, {changed} changed\n"
    )?;
    for (title, names) in [
        ("New workloads", &difference.added_workloads),
        ("Removed workloads", &difference.removed_workloads),
    ] {
        if !names.is_empty() {
            writeln!(out, "{title}: `{}`\n", names.join("`, `"))?;
        }
    }
    if !difference.changes.is_empty() {
        writeln!(
            out,
            "| | from | to | before | after |\n| --- | --- | --- | --- | --- |"
        )?;
    }
    let cell = |ports: &Option<PortSet>| ports.as_ref().map_or("nothing".to_owned(), ports_text);
    for change in &difference.changes {
        let kind = match change.kind() {
            Kind::Gained => "gained",
            Kind::Lost => "lost",
            Kind::Changed => "changed",
        };
        let (before, after) = (cell(&change.before), cell(&change.after));
        writeln!(
            out,
            "| {kind} | {} | {} | {before} | {after} |",
            change.from, change.to
        )?;
    }
    Ok(())
}

fn json(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    let conn = |ports: &Option<PortSet>| ports.as_ref().map(ports_json);
    let row = |change: &Change| json!({"src": change.from, "dst": change.to, "before": conn(&change.before), "after": conn(&change.after)});
    let of_kind = |kind: Kind| {
        let changes = difference.changes.iter().filter(|change| change.kind() == kind);
        changes.map(row).collect::<Vec<Value>>()
    };
    let value = json!({
        "gained": of_kind(Kind::Gained),
        "lost": of_kind(Kind::Lost),
        "changed": of_kind(Kind::Changed),
        "addedWorkloads": difference.added_workloads,
        "removedWorkloads": difference.removed_workloads,
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)
}
