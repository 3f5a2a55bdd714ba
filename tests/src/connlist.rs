//! Connection lists, as np-guard's collection has them: a folder for each, with `input/` (manifests) and `expected.json`:
//! `{"expected": [{"src", "dst", "conn"}, …], "ingress_controller": [{"dst", "conn"}, …]}`, or the first array alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use ringfence_cli::connlist::{connection_json, ports_json};
use ringfence_cli::read::{self, read};
use ringfence_netpol::cluster::Routing;
use ringfence_netpol::connections::{Connections, Options, by_ingress_controllers};
use serde_json::{Value, json};

/// The rows that differ, one line each.
///
/// # Errors
/// If the folder is none of such a collection, or its manifests cannot be used.
pub fn judge(folder: &Path) -> anyhow::Result<Vec<String>> {
    let expected = std::fs::read_to_string(folder.join("expected.json")).context("expected.json")?;
    let whole: Value = serde_json::from_str(&expected).context("expected.json")?;
    let expected = whole.get("expected").unwrap_or(&whole);
    let controllers = whole.get("ingress_controller");
    let expected = by_ends(expected.as_array().context("expected.json holds no array")?)?;
    let input = folder.join("input").to_string_lossy().into_owned();
    let reading = read(&[input], &read::Options::default());
    ensure!(reading.problems.is_empty(), "{}", reading.problems[0]);
    let connections = Connections::of(&reading.cluster, Options::default());
    let found: Vec<Value> = connections.iter().map(|row| connection_json(&row)).collect();
    let found = by_ends(&found)?;
    let mut differences = differences(&expected, &found);
    if let Some(controllers) = controllers.and_then(Value::as_array) {
        let rows =
            |row: &Value| json!({"src": "an ingress controller", "dst": row["dst"], "conn": row["conn"]});
        let expected = by_ends(&controllers.iter().map(rows).collect::<Vec<_>>())?;
        let found = by_ingress_controllers(&reading.cluster, &Routing::of(&reading.cluster));
        let found = found.into_iter().map(|(workload, ports)| {
            json!({"src": "an ingress controller", "dst": workload.to_string(), "conn": ports_json(&ports)})
        });
        differences.extend(self::differences(
            &expected,
            &by_ends(&found.collect::<Vec<_>>())?,
        ));
    }
    Ok(differences)
}

fn differences(expected: &Rows, found: &Rows) -> Vec<String> {
    let differ = |ends: &&Ends| expected.get(ends) != found.get(ends);
    let all: BTreeSet<&Ends> = expected.keys().chain(found.keys()).collect();
    let row = |ends: &Ends| {
        let show = |list: &Rows| list.get(ends).map_or("nothing".to_owned(), Value::to_string);
        let (from, to) = ends;
        format!("{from} -> {to}: must be {}, is {}", show(expected), show(found))
    };
    all.into_iter().filter(differ).map(row).collect()
}

type Ends = (String, String);
type Rows = BTreeMap<Ends, Value>;

fn by_ends(rows: &[Value]) -> anyhow::Result<Rows> {
    let text = |row: &Value, key: &str| {
        row[key]
            .as_str()
            .map(str::to_owned)
            .context("a row has no src or dst")
    };
    let rows = rows
        .iter()
        .map(|row| Ok(((text(row, "src")?, text(row, "dst")?), row["conn"].clone())));
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_lists_are_as_expected() {
        let collection = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/connlist");
        let mut judged = 0;
        for entry in std::fs::read_dir(collection).unwrap() {
            let folder = entry.unwrap().path();
            assert_eq!(
                judge(&folder).unwrap(),
                Vec::<String>::new(),
                "{}",
                folder.display()
            );
            judged += 1;
        }
        assert!(judged > 0);
    }
}
