//! `connlist --exposure`: what policies allow, whoever comes.

use std::io::{self, Write};

use ringfence_netpol::connections::Exposure;
use ringfence_netpol::policy::Direction;
use serde_json::{Value, json};

use super::Format;
use super::format::{field, ports_json, ports_text};
use crate::Error;

/// Writes the rows.
///
/// # Errors
/// If the form is one that these rows do not have.
pub fn write(format: Format, rows: &[Exposure], out: &mut dyn Write) -> Result<(), Error> {
    match format {
        Format::Text => text(rows, out)?,
        Format::Json => {
            let rows: Vec<Value> = rows.iter().map(object).collect();
            serde_json::to_writer_pretty(&mut *out, &rows).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Format::Csv => {
            writeln!(out, "workload,direction,peer,conn")?;
            for row in rows {
                let [workload, who] = [row.workload.to_string(), row.who.to_string()].map(field);
                writeln!(
                    out,
                    "{workload},{},{who},{}",
                    row.direction.field(),
                    field(opened(row))
                )?;
            }
        }
        Format::Md => {
            writeln!(
                out,
                "| workload | direction | peer | connections |\n| --- | --- | --- | --- |"
            )?;
            for row in rows {
                let direction = row.direction.field();
                writeln!(
                    out,
                    "| {} | {direction} | {} | {} |",
                    row.workload,
                    row.who,
                    opened(row)
                )?;
            }
        }
        Format::Dot | Format::Svg => {
            return Err(Error::Usage(
                "--exposure is a list, and has no form as a graph".to_owned(),
            ));
        }
    }
    Ok(())
}

fn text(rows: &[Exposure], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        let arrow = match row.direction {
            Direction::Ingress => "<=",
            Direction::Egress => "=>",
        };
        writeln!(out, "{} {arrow} {} : {}", row.workload, row.who, opened(row))?;
    }
    Ok(())
}

fn object(row: &Exposure) -> Value {
    json!({
        "workload": row.workload.to_string(),
        "direction": row.direction.field(),
        "peer": row.who.to_string(),
        "conn": ports_json(&row.ports),
        "namedPorts": row.named,
    })
}

fn opened(row: &Exposure) -> String {
    let ports = (!row.ports.is_empty()).then(|| ports_text(&row.ports));
    let all: Vec<String> = ports.into_iter().chain(row.named.iter().cloned()).collect();
    all.join("; ")
}
