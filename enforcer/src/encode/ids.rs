//! Identifiers that stand for contents.

use std::collections::{BTreeMap, BTreeSet};

use super::Overflow;

/// Numbers contents. An identifier keeps its content until [`Ids::retain`] says that no map refers to it any more; then it is
/// given out again, but as late as possible, since a packet under way may still hold it.
#[derive(Debug, Clone)]
pub struct Ids<T> {
    table: &'static str,
    first: u32,
    end: u32,
    next: u32,
    numbered: BTreeMap<T, u32>,
    taken: BTreeSet<u32>,
}

impl<T: Ord + Clone> Ids<T> {
    /// Gives out `first` and up to, but without, `end`.
    pub fn new(table: &'static str, first: u32, end: u32) -> Self {
        Self {
            table,
            first,
            end,
            next: first,
            numbered: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    /// The identifier of a content.
    pub fn intern(&mut self, content: &T) -> Result<u32, Overflow> {
        if let Some(id) = self.numbered.get(content) {
            return Ok(*id);
        }
        let room = (self.end - self.first) as usize;
        Overflow::check(self.table, room, self.taken.len() + 1)?;
        while self.taken.contains(&self.next) {
            self.advance();
        }
        let id = self.next;
        self.advance();
        self.taken.insert(id);
        self.numbered.insert(content.clone(), id);
        Ok(id)
    }

    /// Identifiers that maps refer to, and whose content need not be known: they were written by an agent before this one.
    pub fn reserve(&mut self, ids: impl IntoIterator<Item = u32>) {
        let range = self.first..self.end;
        self.taken.extend(ids.into_iter().filter(|id| range.contains(id)));
    }

    /// Frees all others.
    pub fn retain(&mut self, live: &BTreeSet<u32>) {
        self.numbered.retain(|_, id| live.contains(id));
        self.taken.retain(|id| live.contains(id));
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.end {
            self.next = self.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_stays_with_its_content_and_is_given_again_only_when_freed() {
        let mut ids = Ids::new("test", 1, 4);
        let (a, b) = (ids.intern(&"a").unwrap(), ids.intern(&"b").unwrap());
        assert_ne!(a, b);
        assert_eq!(ids.intern(&"a"), Ok(a));
        ids.retain(&BTreeSet::from([b]));
        let c = ids.intern(&"c").unwrap();
        assert!(
            c != a && c != b,
            "an identifier just freed is the last to be given out"
        );
        assert_eq!(ids.intern(&"d"), Ok(a));
        assert_eq!(
            ids.intern(&"e"),
            Err(Overflow {
                table: "test",
                room: 3,
                needed: 4
            })
        );
        assert_eq!(ids.intern(&"b"), Ok(b));
    }

    #[test]
    fn reserved_identifiers_are_not_given_out() {
        let mut ids = Ids::new("test", 1, 4);
        ids.reserve([1, 2, 77]);
        assert_eq!(ids.intern(&"a"), Ok(3));
    }
}
