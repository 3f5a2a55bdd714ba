//! Fields, by the names that findings give them: `spec.ingress[0].from[1].podSelector.matchLabels.example.com/team`.

use ringfence_netpol::finding::Fix;
use serde_json::Value as Json;

use super::Unfit;
use crate::read::{Entry, Node, Value};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Item(usize),
}

/// The nodes from the object down to a field, and the steps between them.
pub struct Way<'a> {
    /// Of the object first, of the field last.
    pub nodes: Vec<&'a Node>,
    pub steps: Vec<Step>,
}

impl<'a> Way<'a> {
    /// The way to a field. Of the keys that are there the longest that fits is meant.
    pub fn to(object: &'a Node, field: &str) -> Result<Self, Unfit> {
        let absent = || Unfit::Absent(field.to_owned());
        let mut way = Self {
            nodes: vec![object],
            steps: Vec::new(),
        };
        let (mut node, mut rest) = (object, field);
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if rest.is_empty() {
                return Ok(way);
            }
            match &node.value {
                Value::Map(entries) => {
                    let entry = leading(entries, rest).ok_or_else(absent)?;
                    rest = &rest[entry.key.len()..];
                    way.steps.push(Step::Key(entry.key.clone()));
                    node = &entry.node;
                }
                Value::List(items) => {
                    let (index, after) = rest
                        .strip_prefix('[')
                        .and_then(|rest| rest.split_once(']'))
                        .ok_or_else(absent)?;
                    let index: usize = index.parse().map_err(|_| absent())?;
                    node = items.get(index).ok_or_else(absent)?;
                    way.steps.push(Step::Item(index));
                    rest = after;
                }
                Value::Scalar(_) => return Err(absent()),
            }
            way.nodes.push(node);
        }
    }

    pub fn field(&self) -> &'a Node {
        self.nodes[self.nodes.len() - 1] // there is always the object
    }

    /// What holds the field, and the last step.
    pub fn holder(&self) -> Option<(&'a Node, &Step)> {
        let above = self.nodes.len().checked_sub(2)?;
        Some((self.nodes[above], self.steps.last()?))
    }
}

/// The entry whose key a path begins with.
fn leading<'a>(entries: &'a [Entry], path: &str) -> Option<&'a Entry> {
    let leads = |entry: &&Entry| {
        let after = path.strip_prefix(entry.key.as_str());
        after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
    };
    entries.iter().filter(leads).max_by_key(|entry| entry.key.len())
}

/// Makes the change in the object itself: what the changed text must say.
pub fn change(object: &mut Json, fix: &Fix) -> Result<(), Unfit> {
    let node = Node::from_json(object.clone());
    let steps = Way::to(&node, fix.field())?.steps;
    let absent = || Unfit::Absent(fix.field().to_owned());
    let kind = |kind: &'static str| Unfit::Kind(fix.field().to_owned(), kind);
    match fix {
        Fix::Replace { value, .. } => *at(object, &steps).ok_or_else(absent)? = value.clone(),
        Fix::Insert { key, value, .. } => {
            let map = at(object, &steps).ok_or_else(absent)?;
            let map = map.as_object_mut().ok_or_else(|| kind("map"))?;
            if map.contains_key(key) {
                return Err(Unfit::Present(key.clone()));
            }
            map.insert(key.clone(), value.clone());
        }
        Fix::Append { value, .. } => {
            let list = at(object, &steps).ok_or_else(absent)?;
            list.as_array_mut()
                .ok_or_else(|| kind("list"))?
                .push(value.clone());
        }
        Fix::Remove { .. } => match steps.split_last() {
            Some((Step::Key(key), above)) => {
                let map = at(object, above).and_then(Json::as_object_mut);
                map.ok_or_else(absent)?.remove(key);
            }
            Some((Step::Item(index), above)) => {
                let list = at(object, above).and_then(Json::as_array_mut);
                list.ok_or_else(absent)?.remove(*index);
            }
            None => return Err(kind("part of an object")),
        },
        Fix::Rename { key, .. } => {
            let Some((Step::Key(old), above)) = steps.split_last() else {
                return Err(kind("key"));
            };
            let map = at(object, above).and_then(Json::as_object_mut);
            let map = map.ok_or_else(absent)?;
            if map.contains_key(key) {
                return Err(Unfit::Present(key.clone()));
            }
            let value = map.remove(old).ok_or_else(absent)?;
            map.insert(key.clone(), value);
        }
    }
    Ok(())
}

fn at<'a>(object: &'a mut Json, steps: &[Step]) -> Option<&'a mut Json> {
    let mut value = object;
    for step in steps {
        value = match step {
            Step::Key(key) => value.get_mut(key)?,
            Step::Item(index) => value.get_mut(index)?,
        };
    }
    Some(value)
}
