//! Changes of a text at the places of an object's fields: as little of it as can be, so that comments, order and
//! indentation stay.
//!
//! [`place`] finds fields, [`text`] says what to write where, [`value`] how. Whether the text then says what it should is not believed
//! but read: [`apply`] reads it again and compares.

mod place;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::ops::Range;

use ringfence_netpol::finding::Fix;
use serde_json::Value as Json;

use crate::read::{self, Node};

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{0} is not there")]
    Absent(String),
    #[error("{0} is there already")]
    Present(String),
    #[error("{0} is no {1}")]
    Kind(String, &'static str),
    #[error("a comment stands where it would be changed")]
    Comment,
    #[error("the text is no YAML that can be read: {0}")]
    Unreadable(String),
    #[error("the text would then mean something else (it may come from an anchor)")]
    Otherwise,
}

/// A piece of a text, and what is to stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    at: Range<usize>,
    with: String,
}

/// What is to be changed in one object of a text.
#[derive(Debug, Clone)]
pub struct Change {
    /// The byte at which the object begins.
    pub start: usize,
    /// One after the other.
    pub fixes: Vec<Fix>,
}

/// The text with the changes made, each of another object, and which of them could not be.
///
/// # Errors
/// If the text cannot be read.
pub fn apply(text: &str, changes: &[Change]) -> Result<(String, Vec<(usize, Unfit)>), Unfit> {
    // All at once first: to read a large text for every change would take its time.
    if let Some(changed) = together(text, changes)? {
        return Ok((changed, Vec::new()));
    }
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(changes[*index].start));
    let (mut changed, mut unfit) = (text.to_owned(), Vec::new());
    // From the last object to the first, so that the places of those before stay.
    for index in order {
        match one(&changed, &changes[index]) {
            Ok(text) => changed = text,
            Err(reason) => unfit.push((index, reason)),
        }
    }
    unfit.sort_by_key(|(index, _)| *index);
    Ok((changed, unfit))
}

/// All changes, if each is a single one and all are fit.
fn together(text: &str, changes: &[Change]) -> Result<Option<String>, Unfit> {
    let nodes = objects(text)?;
    let mut wanted: Vec<Json> = nodes.iter().cloned().map(Node::into_json).collect();
    let mut edits = Vec::new();
    for change in changes {
        let index = nodes.iter().position(|node| node.place.start == change.start);
        let (Some(index), [fix]) = (index, change.fixes.as_slice()) else {
            return Ok(None);
        };
        let (Ok(edit), Ok(())) = (
            text::edit(text, &nodes[index], fix),
            place::change(&mut wanted[index], fix),
        ) else {
            return Ok(None);
        };
        edits.push(edit);
    }
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.at.start));
    let mut changed = text.to_owned();
    for edit in edits {
        changed.replace_range(edit.at, &edit.with);
    }
    Ok((says(&changed).as_ref() == Ok(&wanted)).then_some(changed))
}

/// One change.
fn one(text: &str, change: &Change) -> Result<String, Unfit> {
    let mut changed = text.to_owned();
    let mut nodes = objects(text)?;
    let index = nodes
        .iter()
        .position(|node| node.place.start == change.start)
        .ok_or_else(|| Unfit::Absent(format!("the object at byte {}", change.start)))?;
    for fix in &change.fixes {
        let mut wanted: Vec<Json> = nodes.iter().cloned().map(Node::into_json).collect();
        place::change(&mut wanted[index], fix)?;
        let edit = text::edit(&changed, &nodes[index], fix)?;
        changed.replace_range(edit.at, &edit.with);
        nodes = objects(&changed).map_err(|_| Unfit::Otherwise)?;
        let says: Vec<Json> = nodes.iter().cloned().map(Node::into_json).collect();
        if says != wanted {
            return Err(Unfit::Otherwise);
        }
    }
    Ok(changed)
}

/// Every object of a text, those in lists before their lists.
fn objects(text: &str) -> Result<Vec<Node>, Unfit> {
    read::objects(text).map_err(|(line, reason)| Unfit::Unreadable(format!("line {line}: {reason}")))
}

fn says(text: &str) -> Result<Vec<Json>, Unfit> {
    Ok(objects(text)?.into_iter().map(Node::into_json).collect())
}
