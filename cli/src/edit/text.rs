//! What to write where.

use std::ops::Range;

use ringfence_netpol::finding::Fix;
use serde_json::Value as Json;

use super::place::{Step, Way};
use super::value::Form;
use super::{Edit, Unfit};
use crate::read::{Entry, Node, Value};

/// The piece of the text that a change is about.
pub fn edit(text: &str, object: &Node, fix: &Fix) -> Result<Edit, Unfit> {
    let way = Way::to(object, fix.field())?;
    let source = Source { text };
    match fix {
        Fix::Replace { value, .. } => Ok(source.replace(&way, value)),
        Fix::Remove { .. } => source.remove(&way),
        Fix::Insert { key, value, .. } => source.insert(&way, key, value),
        Fix::Append { value, .. } => source.append(&way, value),
        Fix::Rename { key, .. } => source.rename(&way, key),
    }
}

struct Source<'a> {
    text: &'a str,
}

impl Source<'_> {
    fn replace(&self, way: &Way<'_>, value: &Json) -> Edit {
        let place = way.field().place;
        let old = self.text.get(place.start..place.end).unwrap_or_default();
        let form = self.form_of(way);
        let mut with = match value {
            // In the quotes that it had.
            Json::String(text) if old.starts_with('\'') && !text.contains('\'') && !has_control(text) => {
                format!("'{text}'")
            }
            Json::String(_) if old.starts_with('"') => value.to_string(),
            value if form == Form::Json => value.to_string(),
            value => Form::Flow.value(value),
        };
        if old.is_empty() && !self.text[..place.start].ends_with([' ', '\n']) {
            with.insert(0, ' '); // nothing stood there
        }
        Edit {
            at: place.start..place.end,
            with,
        }
    }

    fn rename(&self, way: &Way<'_>, key: &str) -> Result<Edit, Unfit> {
        let (_, entry) = self.entry(way)?;
        let old = &self.text[entry.place.start..entry.place.end];
        let form = if old.starts_with('"') {
            Form::Json
        } else {
            Form::Flow
        };
        Ok(Edit {
            at: entry.place.start..entry.place.end,
            with: form.key(key),
        })
    }

    fn insert(&self, way: &Way<'_>, key: &str, value: &Json) -> Result<Edit, Unfit> {
        let map = way.field();
        let Value::Map(entries) = &map.value else {
            return Err(Unfit::Kind("what it goes into".to_owned(), "map"));
        };
        let Some(last) = entries.last() else {
            let form = self.form_of(way);
            let form = if form == Form::Json { form } else { Form::Flow };
            return Ok(Edit {
                at: map.place.start..map.place.end,
                with: format!("{{{}}}", form.entry(key, value)),
            });
        };
        if self.is_flow(map) {
            let json = self.text[last.place.start..].starts_with('"');
            let form = if json { Form::Json } else { Form::Flow };
            return Ok(self.after_in_flow(last.place.start, last.node.place.end, &form.entry(key, value)));
        }
        let column = self.column(entries[0].place.start);
        let end = self.line_end(last.node.place.end.max(last.place.end));
        Ok(self.new_line(end, column, &Form::Block(column).entry(key, value)))
    }

    fn append(&self, way: &Way<'_>, value: &Json) -> Result<Edit, Unfit> {
        let list = way.field();
        let Value::List(items) = &list.value else {
            return Err(Unfit::Kind("what it goes into".to_owned(), "list"));
        };
        let form = self.form_of(way);
        let flow = if form == Form::Json { form } else { Form::Flow };
        let Some(last) = items.last() else {
            return Ok(Edit {
                at: list.place.start..list.place.end,
                with: format!("[{}]", flow.value(value)),
            });
        };
        if self.is_flow(list) {
            return Ok(self.after_in_flow(last.place.start, last.place.end, &flow.value(value)));
        }
        let column = self.column(self.dash(last)?);
        let end = self.line_end(last.place.end);
        let item = format!("- {}", Form::Block(column + 2).value(value));
        Ok(self.new_line(end, column, &item))
    }

    fn remove(&self, way: &Way<'_>) -> Result<Edit, Unfit> {
        let (holder, step) = way
            .holder()
            .ok_or_else(|| Unfit::Kind("the object".to_owned(), "part of one"))?;
        // Each part with where it begins and ends.
        let (parts, index, nothing): (Vec<Range<usize>>, usize, &str) = match (&holder.value, step) {
            (Value::Map(entries), Step::Key(key)) => {
                let index = entries.iter().position(|entry| entry.key == *key);
                let index = index.ok_or_else(|| Unfit::Absent(key.clone()))?;
                let part = |entry: &Entry| entry.place.start..entry.node.place.end.max(entry.place.end + 1);
                (entries.iter().map(part).collect(), index, "{}")
            }
            (Value::List(items), Step::Item(index)) => {
                let flow = self.is_flow(holder);
                let part = |item: &Node| {
                    let start = if flow { item.place.start } else { self.dash(item)? };
                    Ok(start..item.place.end)
                };
                let parts: Result<_, Unfit> = items.iter().map(part).collect();
                (parts?, *index, "[]")
            }
            _ => return Err(Unfit::Otherwise),
        };
        let part = parts[index].clone();
        let at = match (index.checked_sub(1), parts.get(index + 1)) {
            (None, None) if self.is_flow(holder) => holder.place.start..holder.place.end,
            (None, None) => self.behind_key(way).unwrap_or(part.start)..part.end,
            _ if self.is_flow(holder) => match index.checked_sub(1) {
                Some(before) => parts[before].end..part.end,
                None => part.start..parts[index + 1].start,
            },
            (_, next) if self.begins_line(part.start) => {
                let start = self.line_start(part.start);
                let end = self.line_end(part.end);
                let end = next.map_or(end, |next| end.min(self.line_start(next.start)));
                return self
                    .without_comments(start..end, part.end..part.end)
                    .map(|_| Edit {
                        at: start..self.after_newline(end),
                        with: String::new(),
                    });
            }
            // `- a: 1`, with more keys below: what comes next moves up to where it stood.
            (None, Some(next)) => part.start..next.start,
            (Some(_), _) => return Err(Unfit::Otherwise),
        };
        self.without_comments(at.clone(), parts[index].clone())?;
        let with = match parts.len() {
            1 if self.text[..at.start].ends_with(':') => format!(" {nothing}"),
            1 => nothing.to_owned(),
            _ => String::new(),
        };
        Ok(Edit { at, with })
    }

    /// Behind the colon of the key that what holds the field stands under.
    fn behind_key(&self, way: &Way<'_>) -> Option<usize> {
        let above = way.nodes.len().checked_sub(3)?;
        let Value::Map(entries) = &way.nodes[above].value else {
            return None;
        };
        let Step::Key(key) = &way.steps[above] else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == *key)?;
        let rest = self.text.get(entry.place.end..)?;
        rest.starts_with(':').then_some(entry.place.end + 1)
    }

    /// Whether a comment stands in a range but outside of what is taken away with its own.
    fn without_comments(&self, range: Range<usize>, own: Range<usize>) -> Result<(), Unfit> {
        if own.is_empty() {
            return Ok(());
        }
        let [before, after] = [
            range.start..own.start.max(range.start),
            own.end.min(range.end)..range.end,
        ]
        .map(|range| self.text.get(range).unwrap_or_default());
        if before.contains('#') || after.contains('#') {
            return Err(Unfit::Comment);
        }
        Ok(())
    }

    /// The entry that the way ends at, and its map.
    fn entry<'n>(&self, way: &Way<'n>) -> Result<(&'n Node, &'n Entry), Unfit> {
        if let Some((holder, Step::Key(key))) = way.holder()
            && let Value::Map(entries) = &holder.value
            && let Some(entry) = entries.iter().find(|entry| entry.key == *key)
        {
            return Ok((holder, entry));
        }
        Err(Unfit::Kind("what is to be renamed".to_owned(), "key"))
    }

    /// Behind something in brackets: on a line of its own, if that is.
    fn after_in_flow(&self, start: usize, end: usize, what: &str) -> Edit {
        let with = if self.begins_line(start) {
            let indent = &self.text[self.line_start(start)..start];
            format!(",{}{indent}{what}", self.newline())
        } else {
            format!(", {what}")
        };
        Edit { at: end..end, with }
    }

    fn new_line(&self, at: usize, column: usize, what: &str) -> Edit {
        let newline = self.newline();
        let indent = " ".repeat(column);
        let what = what.replace('\n', newline);
        // The end of a line, of the text, or (behind a text of several lines) the beginning of the next line.
        let with = if at > 0 && self.text[..at].ends_with('\n') {
            format!("{indent}{what}{newline}")
        } else {
            format!("{newline}{indent}{what}")
        };
        Edit { at: at..at, with }
    }

    /// How things are written where a way ends.
    fn form_of(&self, way: &Way<'_>) -> Form {
        let quoted = |node: &&Node| match &node.value {
            Value::Map(entries) => entries
                .first()
                .is_some_and(|entry| self.text[entry.place.start..].starts_with('"')),
            Value::List(_) | Value::Scalar(_) => false,
        };
        if way
            .nodes
            .iter()
            .rev()
            .any(|node| self.is_flow(node) && quoted(node))
        {
            Form::Json
        } else {
            Form::Flow
        }
    }

    /// Whether it stands in brackets; a list in lines begins where its first item does.
    fn is_flow(&self, node: &Node) -> bool {
        let rest = &self.text[node.place.start..];
        match &node.value {
            Value::Map(_) => rest.starts_with('{'),
            Value::List(items) => {
                rest.starts_with('[')
                    && items
                        .first()
                        .is_none_or(|first| first.place.start > node.place.start)
            }
            Value::Scalar(_) => false,
        }
    }

    /// The dash before an item.
    fn dash(&self, item: &Node) -> Result<usize, Unfit> {
        let before = self.text[..item.place.start].trim_end();
        before.strip_suffix('-').map(str::len).ok_or(Unfit::Otherwise)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    fn begins_line(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at].trim().is_empty()
    }

    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    /// The end of the line, if nothing but a comment is there; else the place itself.
    fn line_end(&self, at: usize) -> usize {
        if self.text[..at].ends_with('\n') {
            return at;
        }
        let rest = &self.text[at..];
        let line = rest.split('\n').next().unwrap_or_default();
        let blank = line.trim_start();
        if blank.is_empty() || blank.starts_with('#') {
            at + line.trim_end_matches('\r').len()
        } else {
            at
        }
    }

    fn after_newline(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let newline = ["\r\n", "\n"]
            .into_iter()
            .find(|newline| rest.starts_with(newline));
        at + newline.map_or(0, str::len)
    }

    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
