//! YAML and JSON as trees that know where they stand.

use serde_json::Value as Json;

/// Where something stands in its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1; 0 is nowhere.
    pub line: usize,
    /// The bytes from `start` to before `end`.
    pub start: usize,
    pub end: usize,
}

/// A node of a document.
#[derive(Debug, Clone)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    Scalar(Json),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with what stands under it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    /// The place of the key.
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// Where it begins, counted from 1.
    pub fn line(&self) -> usize {
        self.place.line
    }

    /// How many nodes it has.
    pub(super) fn size(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::List(list) => 1 + list.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.node.size()).sum::<usize>(),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Json::Null))
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.node),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A node that stands in no file: all its places are nowhere.
    pub fn from_json(json: Json) -> Self {
        let value = match json {
            Json::Array(list) => Value::List(list.into_iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                let entry = |(key, value)| Entry {
                    key,
                    place: Place::default(),
                    node: Self::from_json(value),
                };
                Value::Map(map.into_iter().map(entry).collect())
            }
            scalar => Value::Scalar(scalar),
        };
        Self {
            place: Place::default(),
            value,
        }
    }

    /// The same without lines.
    pub fn into_json(self) -> Json {
        match self.value {
            Value::Scalar(value) => value,
            Value::List(list) => list.into_iter().map(Self::into_json).collect(),
            Value::Map(entries) => entries
                .into_iter()
                .map(|entry| (entry.key, entry.node.into_json()))
                .collect(),
        }
    }

    /// The line of a field such as `spec.ingress[0].from[1].podSelector`; where it is not there, that of the deepest part that is.
    pub fn line_of(&self, path: &str) -> usize {
        let (mut line, mut node, mut rest) = (self.line(), self, path);
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            match &node.value {
                Value::Map(entries) => {
                    let leads = |entry: &&Entry| {
                        let after = rest.strip_prefix(entry.key.as_str());
                        after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                    };
                    let Some(entry) = entries.iter().filter(leads).max_by_key(|entry| entry.key.len()) else {
                        return line;
                    };
                    rest = &rest[entry.key.len()..];
                    (line, node) = (entry.place.line, &entry.node);
                }
                Value::List(list) => {
                    let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                    let Some((index, after)) = index else { return line };
                    let Some(item) = index.parse().ok().and_then(|index: usize| list.get(index)) else {
                        return line;
                    };
                    rest = after;
                    (line, node) = (item.line(), item);
                }
                Value::Scalar(_) => return line,
            }
        }
    }
}
