//! YAML and JSON as trees that know their lines.
//!
//! The parser works on events, so that neither depth nor size of a document ends in recursion or memory without bound:
//! nesting is limited by the parser, and what aliases add to a document is counted.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value as Json;

use super::scalar;

/// Nesting beyond this is no manifest.
const DEPTH: usize = 100;
/// How many nodes the aliases of one file may add.
const ALIASED: usize = 100_000;
/// JSON has no limit for keys, YAML's of 1024 would refuse some.
const KEY_LENGTH: usize = 64 * 1024;

/// A node of a document.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins, counted from 1.
    pub line: usize,
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
    /// The line of the key.
    pub line: usize,
    pub node: Node,
}

/// Why text is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub reason: String,
}

impl Fault {
    fn at(span: Span, reason: impl Into<String>) -> Self {
        Self {
            line: span.start.line(),
            reason: reason.into(),
        }
    }
}

/// The documents of a text, one after the other.
pub struct Documents<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    done: bool,
}

impl<'a> Documents<'a> {
    pub fn of(text: &'a str) -> Self {
        let mut options = granit_parser::options! {
            simple_key_max_lookahead: KEY_LENGTH,
            flow_nesting_limit: DEPTH,
            block_nesting_limit: DEPTH,
        };
        options.set_emit_comments(false);
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            aliased: 0,
            done: false,
        }
    }

    /// The next document; after a fault, the one after the next `---`. The members of a list at the root's key `items` are handed to
    /// `item` as they come, with what of the root stood before them, and are left out of the document: lists can be large.
    pub fn next_document(&mut self, item: &mut dyn FnMut(&Node, Node)) -> Option<Result<Node, Fault>> {
        if self.done {
            return None;
        }
        self.anchors.clear();
        match self.document(item) {
            Ok(Some(node)) => Some(Ok(node)),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(fault) => {
                self.done = !self.parser.proceed_next_document().unwrap_or(false);
                Some(Err(fault))
            }
        }
    }

    fn event(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::StreamStart, _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => {
                    return Err(Fault {
                        line: error.marker().line(),
                        reason: error.info(),
                    });
                }
            }
        }
    }

    /// An event where there must be one.
    fn expect(&mut self) -> Result<(Event<'a>, Span), Fault> {
        self.event()?.ok_or_else(|| Fault {
            line: 1,
            reason: "ends within a document".to_owned(),
        })
    }

    fn document(&mut self, item: &mut dyn FnMut(&Node, Node)) -> Result<Option<Node>, Fault> {
        loop {
            match self.event()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), _)) => break,
                Some(_) => {}
            }
        }
        let (event, span) = self.expect()?;
        let node = match event {
            Event::MappingStart(_, 0, _) => self.root(span, item)?,
            event => self.node(event, span)?,
        };
        match self.expect()? {
            (Event::DocumentEnd, _) => Ok(Some(node)),
            (_, span) => Err(Fault::at(span, "something follows the end of the document")),
        }
    }

    /// A map at the root of a document, whose `items` are handed out.
    fn root(&mut self, span: Span, item: &mut dyn FnMut(&Node, Node)) -> Result<Node, Fault> {
        let mut root = Node {
            line: span.start.line(),
            value: Value::Map(Vec::new()),
        };
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                return finished(root);
            }
            let key = self.key(event, span)?;
            let (event, value_span) = self.expect()?;
            let node = if key == "items" && matches!(event, Event::SequenceStart(_, 0, _)) {
                loop {
                    let (event, span) = self.expect()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let node = self.node(event, span)?;
                    item(&root, node);
                }
                Node {
                    line: value_span.start.line(),
                    value: Value::List(Vec::new()),
                }
            } else {
                self.node(event, value_span)?
            };
            if let Value::Map(entries) = &mut root.value {
                entries.push(Entry {
                    key,
                    line: span.start.line(),
                    node,
                });
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fault> {
        let line = span.start.line();
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let as_string = tag
                    .as_deref()
                    .is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let value = if style == ScalarStyle::Plain && !as_string {
                    scalar::resolve(&text)
                } else {
                    Json::String(text.into_owned())
                };
                (Value::Scalar(value), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut list = Vec::new();
                loop {
                    let (event, span) = self.expect()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    list.push(self.node(event, span)?);
                }
                (Value::List(list), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let (event, span) = self.expect()?;
                    if matches!(event, Event::MappingEnd) {
                        break;
                    }
                    let key = self.key(event, span)?;
                    let (event, value_span) = self.expect()?;
                    let node = self.node(event, value_span)?;
                    entries.push(Entry {
                        key,
                        line: span.start.line(),
                        node,
                    });
                }
                let node = finished(Node {
                    line,
                    value: Value::Map(entries),
                })?;
                (node.value, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            _ => return Err(Fault::at(span, "no value where one must be")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.charge(&node, span)?;
        }
        Ok(node)
    }

    fn key(&mut self, event: Event<'a>, span: Span) -> Result<String, Fault> {
        match self.node(event, span)?.value {
            Value::Scalar(Json::String(key)) => Ok(key),
            // As the API's clients do it: `80` and `true` become strings.
            Value::Scalar(Json::Null) => Ok("null".to_owned()),
            Value::Scalar(other) => Ok(other.to_string()),
            Value::List(_) | Value::Map(_) => Err(Fault::at(span, "a key must be a string")),
        }
    }

    /// What an alias stands for, as if it had been written there.
    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Fault::at(span, "the alias is inside of what it stands for"));
        };
        self.charge(&node, span)?;
        Ok(Node {
            line: span.start.line(),
            ..node
        })
    }

    fn charge(&mut self, node: &Node, span: Span) -> Result<(), Fault> {
        self.aliased += node.size();
        if self.aliased > ALIASED {
            let reason = format!("anchors and aliases make more than {ALIASED} values of this file");
            return Err(Fault::at(span, reason));
        }
        Ok(())
    }
}

/// The map, if no key stands twice, with its merge keys resolved.
fn finished(node: Node) -> Result<Node, Fault> {
    if let Value::Map(entries) = &node.value {
        let mut keys: Vec<(&str, usize)> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.line))
            .collect();
        keys.sort(); // by line where equal
        let twice = keys
            .windows(2)
            .find(|pair| pair[0].0 == pair[1].0 && pair[0].0 != "<<");
        if let Some([(key, first), (_, line)]) = twice {
            return Err(Fault {
                line: *line,
                reason: format!(
                    "the key {key:?} stands twice in one map, first on line {first}; one of the two would be lost"
                ),
            });
        }
    }
    merged(node)
}

/// The map with its merge keys (`<<`) resolved.
fn merged(node: Node) -> Result<Node, Fault> {
    let Node {
        line,
        value: Value::Map(entries),
    } = node
    else {
        return Ok(node);
    };
    if entries.iter().all(|entry| entry.key != "<<") {
        return Ok(Node {
            line,
            value: Value::Map(entries),
        });
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.key == "<<");
    for merge in merges {
        let sources = match merge.node.value {
            Value::List(list) => list,
            value => vec![Node {
                line: merge.node.line,
                value,
            }],
        };
        for source in sources {
            let Value::Map(entries) = source.value else {
                return Err(Fault {
                    line: merge.line,
                    reason: "only maps can be merged by <<".to_owned(),
                });
            };
            let known: std::collections::HashSet<String> =
                own.iter().map(|entry| entry.key.clone()).collect();
            own.extend(entries.into_iter().filter(|entry| !known.contains(&entry.key)));
        }
    }
    Ok(Node {
        line,
        value: Value::Map(own),
    })
}

impl Node {
    /// How many nodes it has.
    fn size(&self) -> usize {
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

    /// A node that stands in no file: all its lines are 0.
    pub fn from_json(json: Json) -> Self {
        let value = match json {
            Json::Array(list) => Value::List(list.into_iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                let entry = |(key, value)| Entry {
                    key,
                    line: 0,
                    node: Self::from_json(value),
                };
                Value::Map(map.into_iter().map(entry).collect())
            }
            scalar => Value::Scalar(scalar),
        };
        Self { line: 0, value }
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
        let (mut line, mut node, mut rest) = (self.line, self, path);
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
                    (line, node) = (entry.line, &entry.node);
                }
                Value::List(list) => {
                    let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                    let Some((index, after)) = index else { return line };
                    let Some(item) = index.parse().ok().and_then(|index: usize| list.get(index)) else {
                        return line;
                    };
                    rest = after;
                    (line, node) = (item.line, item);
                }
                Value::Scalar(_) => return line,
            }
        }
    }
}

#[cfg(test)]
mod tests;
