//! Documents of YAML and JSON, one after the other.
//!
//! The parser works on events, so that neither depth nor size of a document ends in recursion or memory without bound:
//! nesting is limited by the parser, and what aliases add to a document is counted.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use serde_json::Value as Json;

use super::merge;
use super::scalar;
use super::tree::{Entry, Node, Place, Value};

/// Nesting beyond this is no manifest.
const DEPTH: usize = 100;
/// How many nodes the aliases of one file may add.
const ALIASED: usize = 100_000;
/// JSON has no limit for keys, YAML's of 1024 would refuse some.
const KEY_LENGTH: usize = 64 * 1024;

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
            Event::MappingStart(style, 0, _) => self.root(style, span, item)?,
            event => self.node(event, span)?,
        };
        match self.expect()? {
            (Event::DocumentEnd, _) => Ok(Some(node)),
            (_, span) => Err(Fault::at(span, "something follows the end of the document")),
        }
    }

    /// A map at the root of a document, whose `items` are handed out.
    fn root(
        &mut self,
        style: StructureStyle,
        span: Span,
        item: &mut dyn FnMut(&Node, Node),
    ) -> Result<Node, Fault> {
        let mut root = Node {
            place: place(span),
            value: Value::Map(Vec::new()),
        };
        let mut end = root.place.start;
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                root.place.end = end_of(style, end, span);
                if let Value::Map(entries) = root.value {
                    root.value = Value::Map(merge::finished(entries)?);
                }
                return Ok(root);
            }
            let key = self.key(event, span)?;
            let (event, value_span) = self.expect()?;
            let node = match event {
                Event::SequenceStart(style, 0, _) if key == "items" => {
                    self.items(style, value_span, &mut |node| item(&root, node))?
                }
                event => self.node(event, value_span)?,
            };
            end = node.place.end;
            if let Value::Map(entries) = &mut root.value {
                entries.push(Entry {
                    key,
                    place: place(span),
                    node,
                });
            }
        }
    }

    /// A list whose members are handed out; what is left of it is empty.
    fn items(
        &mut self,
        style: StructureStyle,
        span: Span,
        item: &mut dyn FnMut(Node),
    ) -> Result<Node, Fault> {
        let mut list = place(span);
        let mut end = list.start;
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::SequenceEnd) {
                list.end = end_of(style, end, span);
                return Ok(Node {
                    place: list,
                    value: Value::List(Vec::new()),
                });
            }
            let node = self.node(event, span)?;
            end = node.place.end;
            item(node);
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fault> {
        let mut place = place(span);
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
            Event::SequenceStart(style, anchor, _) => {
                let mut list = Vec::new();
                place.end = self.items(style, span, &mut |node| list.push(node))?.place.end;
                (Value::List(list), anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let entries = self.entries(style, &mut place)?;
                (Value::Map(merge::finished(entries)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            _ => return Err(Fault::at(span, "no value where one must be")),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.charge(&node, span)?;
        }
        Ok(node)
    }

    fn entries(&mut self, style: StructureStyle, map: &mut Place) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        let mut end = map.start;
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                map.end = end_of(style, end, span);
                return Ok(entries);
            }
            let key = self.key(event, span)?;
            let (event, value_span) = self.expect()?;
            let node = self.node(event, value_span)?;
            end = node.place.end;
            entries.push(Entry {
                key,
                place: place(span),
                node,
            });
        }
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
            place: place(span),
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

fn place(span: Span) -> Place {
    Place {
        line: span.start.line(),
        start: span.start.byte_offset().unwrap_or_default(),
        end: span.end.byte_offset().unwrap_or_default(),
    }
}

/// Where a list or map ends: at its bracket, or with the last that stands in it (comments behind it are none of it).
fn end_of(style: StructureStyle, last: usize, span: Span) -> usize {
    match style {
        StructureStyle::Flow => place(span).end,
        StructureStyle::Block => last,
    }
}

#[cfg(test)]
mod tests;
