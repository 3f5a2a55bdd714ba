//! Values as text: in the form of what stands around them.

use ringfence_netpol::finding::flow;
use serde_json::Value as Json;

/// How things are written at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All strings in double quotes: JSON, and YAML that looks like it.
    Json,
    /// YAML on one line.
    Flow,
    /// YAML in lines, indented by as much.
    Block(usize),
}

impl Form {
    pub fn key(self, key: &str) -> String {
        match self {
            Self::Json => Json::from(key).to_string(),
            Self::Flow | Self::Block(_) => flow(&Json::from(key)),
        }
    }

    /// A value that stands for itself, as an item does.
    pub fn value(self, value: &Json) -> String {
        match self {
            Self::Json => value.to_string(),
            Self::Flow => flow(value),
            Self::Block(indent) => block(value, indent),
        }
    }

    /// A key with its value.
    pub fn entry(self, key: &str, value: &Json) -> String {
        match (self, value) {
            (Self::Block(indent), Json::Object(map)) if !map.is_empty() => {
                let inner = indent + 2;
                format!("{}:\n{}{}", self.key(key), " ".repeat(inner), block(value, inner))
            }
            (Self::Block(indent), Json::Array(list)) if !list.is_empty() => {
                format!(
                    "{}:\n{}{}",
                    self.key(key),
                    " ".repeat(indent),
                    block(value, indent)
                )
            }
            _ => format!("{}: {}", self.key(key), self.value(value)),
        }
    }
}

/// A value in lines; the first is where the writer is, those after it are indented.
fn block(value: &Json, indent: usize) -> String {
    let form = Form::Block(indent);
    let line = format!("\n{}", " ".repeat(indent));
    match value {
        Json::Object(map) if !map.is_empty() => {
            let entries: Vec<String> = map.iter().map(|(key, value)| form.entry(key, value)).collect();
            entries.join(&line)
        }
        Json::Array(list) if !list.is_empty() => {
            let items: Vec<String> = list
                .iter()
                .map(|item| format!("- {}", block(item, indent + 2)))
                .collect();
            items.join(&line)
        }
        other => flow(other),
    }
}
