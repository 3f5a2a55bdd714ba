//! The forms of a list of connections. Each is written as it is found: no list is held whole.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};

use ringfence_netpol::connections::{Connection, End, Workload};
use ringfence_netpol::port::{PortRange, PortSet, Protocol};
use serde_json::{Map, Value, json};

use super::{Format, svg};

type Rows<'a, 'b> = &'b mut dyn Iterator<Item = Connection<'a>>;

/// Writes the rows. What else there is to be seen in a picture are the workloads.
pub fn write<'a>(
    format: Format,
    workloads: impl Iterator<Item = &'a Workload>,
    mut rows: impl Iterator<Item = Connection<'a>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Rows<'a, '_> = &mut rows;
    match format {
        Format::Text => text(rows, out),
        Format::Json => json(rows, out),
        Format::Csv => csv(rows, out),
        Format::Md => markdown(rows, out),
        Format::Dot => dot(rows, out),
        Format::Svg => svg::write(workloads, rows, out),
    }
}

/// The ports as people read them: `TCP 80,8080-8090; UDP 53`.
pub fn ports_text(ports: &PortSet) -> String {
    if *ports == PortSet::All {
        return "everything".to_owned();
    }
    let ranges = ports.ranges();
    let is_whole = |range: &&PortRange| range.first <= 1 && range.last == u16::MAX;
    if ranges.iter().filter(is_whole).count() == Protocol::ALL.len() {
        return "all ports".to_owned(); // not the same: nothing without ports, such as ping
    }
    let mut text = String::new();
    let mut last = None;
    for range in ranges {
        if last == Some(range.protocol) {
            text.push(',');
        } else {
            let separator = if last.is_some() { "; " } else { "" };
            let _ = write!(text, "{separator}{} ", range.protocol); // writing to a String cannot fail
            last = Some(range.protocol);
        }
        let _ = match (range.first, range.last) {
            (0 | 1, u16::MAX) => write!(text, "any"),
            (first, last) if first == last => write!(text, "{first}"),
            (first, last) => write!(text, "{first}-{last}"),
        };
    }
    text
}

/// A connection as an object: `{"src", "dst", "conn": {"TCP": [[80, 80]]}}`.
pub fn connection_json(row: &Connection<'_>) -> Value {
    json!({"src": row.from.to_string(), "dst": row.to.to_string(), "conn": ports_json(&row.ports)})
}

/// Closed intervals by protocol. Everything is every port of every protocol that has some: JSON's readers ask for ports.
pub fn ports_json(ports: &PortSet) -> Value {
    let whole: Vec<PortRange> = Protocol::ALL.map(PortRange::whole).to_vec();
    let ranges = match ports {
        PortSet::All => whole.as_slice(),
        PortSet::Ranges(ranges) => ranges,
    };
    let mut by_protocol = Map::new();
    for range in ranges {
        let list = by_protocol
            .entry(range.protocol.to_string())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(json!([range.first.max(1), range.last])); // nothing listens on port 0
        }
    }
    Value::Object(by_protocol)
}

fn text(rows: Rows<'_, '_>, out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        writeln!(out, "{} => {} : {}", row.from, row.to, ports_text(&row.ports))?;
    }
    Ok(())
}

fn json(rows: Rows<'_, '_>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "[")?;
    // Few sets of ports are in use, however many rows there are.
    let mut known: HashMap<PortSet, String> = HashMap::new();
    for (index, row) in rows.enumerate() {
        let separator = if index == 0 { "\n" } else { ",\n" };
        let ports = known
            .entry(row.ports)
            .or_insert_with_key(|ports| ports_json(ports).to_string());
        write!(
            out,
            "{separator} {{\"src\":{},\"dst\":{},\"conn\":{ports}}}",
            quoted(row.from),
            quoted(row.to)
        )?;
    }
    writeln!(out, "\n]")
}

/// An end as a JSON string. Names come from files, and so may hold anything.
fn quoted(end: End<'_>) -> String {
    let name = end.to_string();
    if name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    {
        format!("\"{name}\"")
    } else {
        Value::from(name).to_string()
    }
}

fn csv(rows: Rows<'_, '_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "src,dst,conn")?;
    for row in rows {
        let [from, to] = [row.from, row.to].map(|end| field(end.to_string()));
        writeln!(out, "{from},{to},{}", field(ports_text(&row.ports)))?;
    }
    Ok(())
}

/// A field of CSV, in quotes where it needs them.
pub fn field(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn markdown(rows: Rows<'_, '_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "| from | to | connections |\n| --- | --- | --- |")?;
    for row in rows {
        writeln!(out, "| {} | {} | {} |", row.from, row.to, ports_text(&row.ports))?;
    }
    Ok(())
}

/// Graphviz's language: a box for every namespace, the outside apart.
fn dot(rows: Rows<'_, '_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "digraph {{\n  rankdir=LR\n  node [shape=box]")?;
    let mut ends: BTreeSet<(String, String)> = BTreeSet::new();
    let mut place = |end: End<'_>| {
        ends.insert(match end {
            End::Outside(_) | End::IngressController => (String::new(), end.to_string()),
            End::Workload(workload) => (workload.namespace.clone(), workload.to_string()),
        });
    };
    for row in rows {
        place(row.from);
        place(row.to);
        writeln!(
            out,
            "  \"{}\" -> \"{}\" [label=\"{}\"]",
            row.from,
            row.to,
            ports_text(&row.ports)
        )?;
    }
    let mut ends = ends.into_iter().peekable();
    while let Some((namespace, name)) = ends.next() {
        if namespace.is_empty() {
            writeln!(out, "  \"{name}\" [shape=ellipse]")?;
            continue;
        }
        writeln!(
            out,
            "  subgraph \"cluster_{namespace}\" {{\n    label=\"{namespace}\""
        )?;
        let mut next = Some(name);
        while let Some(name) = next {
            let short = name.split_once('/').map_or(name.as_str(), |(_, short)| short);
            writeln!(out, "    \"{name}\" [label=\"{short}\"]")?;
            next = ends
                .next_if(|(other, _)| *other == namespace)
                .map(|(_, name)| name);
        }
        writeln!(out, "  }}")?;
    }
    writeln!(out, "}}")
}
