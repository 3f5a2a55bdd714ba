//! Connection lists, as np-guard's collection has them: a folder for each, with `input/` (manifests) and `expected.json`:
//! `{"expected": [{"src", "dst", "conn"}, …], "ingress_controller": [{"dst", "conn"}, …]}`, or the first array alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::command::Ringfence;

/// How the command line calls what serves Ingress objects.
const CONTROLLER: &str = "{ingress-controller}";

/// The rows of `connlist` that differ, one line each.
///
/// # Errors
/// If the folder is none of such a collection, or its manifests cannot be used.
pub fn judge(folder: &Path, ringfence: &Ringfence) -> anyhow::Result<Vec<String>> {
    let expected = std::fs::read_to_string(folder.join("expected.json")).context("expected.json")?;
    let whole: Value = serde_json::from_str(&expected).context("expected.json")?;
    let expected = whole.get("expected").unwrap_or(&whole);
    let mut expected = by_ends(expected.as_array().context("expected.json holds no array")?)?;
    let input = folder.join("input");
    let mut arguments = vec!["connlist", input.to_str().context("no UTF-8")?, "-o", "json"];
    if let Some(controllers) = whole.get("ingress_controller").and_then(Value::as_array) {
        let row = |row: &Value| json!({"src": CONTROLLER, "dst": row["dst"], "conn": row["conn"]});
        expected.extend(by_ends(&controllers.iter().map(row).collect::<Vec<_>>())?);
        arguments.push("--ingress-controller");
    }
    let ran = ringfence.run(&arguments)?;
    ensure!(ran.code == 0, "connlist ended with {}: {}", ran.code, ran.err);
    let found: Vec<Value> = serde_json::from_str(&ran.out)?;
    Ok(differences(&expected, &by_ends(&found)?))
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
                judge(&folder, &Ringfence::Here).unwrap(),
                Vec::<String>::new(),
                "{}",
                folder.display()
            );
            judged += 1;
        }
        assert!(judged > 0);
    }
}
