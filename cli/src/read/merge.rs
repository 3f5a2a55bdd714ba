//! Keys of a map: none stands twice, and merge keys (`<<`) bring in those of other maps.

use std::collections::HashSet;

use super::documents::Fault;
use super::tree::{Entry, Node, Value};

const MERGE: &str = "<<";

/// The entries of a map, if no key stands twice, with its merge keys resolved.
pub fn finished(entries: Vec<Entry>) -> Result<Vec<Entry>, Fault> {
    refuse_twice(&entries)?;
    if entries.iter().all(|entry| entry.key != MERGE) {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.key == MERGE);
    for merge in merges {
        let sources = match merge.node.value {
            Value::List(list) => list,
            _ => vec![merge.node],
        };
        for Node { value, .. } in sources {
            let Value::Map(entries) = value else {
                return Err(Fault {
                    line: merge.place.line,
                    reason: "only maps can be merged by <<".to_owned(),
                });
            };
            let known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
            own.extend(entries.into_iter().filter(|entry| !known.contains(&entry.key)));
        }
    }
    Ok(own)
}

fn refuse_twice(entries: &[Entry]) -> Result<(), Fault> {
    let mut keys: Vec<(&str, usize)> = entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry.place.line))
        .collect();
    keys.sort(); // by line where equal
    let twice = keys
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0 && pair[0].0 != MERGE);
    match twice {
        Some([(key, first), (_, line)]) => Err(Fault {
            line: *line,
            reason: format!(
                "the key {key:?} stands twice in one map, first on line {first}; one of the two would be lost"
            ),
        }),
        _ => Ok(()),
    }
}
