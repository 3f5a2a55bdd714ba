//! Identifiers that stand for contents.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_netpol::compile::delta::{IdMap, IdSet};

use super::Overflow;

/// Counts what was brought to the maps; what is of an epoch may be removed once no packet is under way that is older.
pub type Epoch = u64;

/// Numbers what the compiler tells apart. An identifier keeps its meaning until no map refers to it any more; then it is given
/// out again, but as late as possible, since a packet under way may still hold it.
#[derive(Debug, Clone)]
pub struct Ids {
    table: &'static str,
    first: u32,
    end: u32,
    next: u32,
    /// By the compiler's name of the content.
    numbers: IdMap<u32>,
    taken: BTreeSet<u32>,
    /// Those that are not wanted any more, but that maps may refer to; since when.
    retired: BTreeMap<u32, Epoch>,
}

impl Ids {
    /// Gives out `first` and up to, but without, `end`.
    pub fn new(table: &'static str, first: u32, end: u32) -> Self {
        Self {
            table,
            first,
            end,
            next: first,
            numbers: IdMap::default(),
            taken: BTreeSet::new(),
            retired: BTreeMap::new(),
        }
    }

    /// The identifier of what the compiler calls so.
    pub fn number(&mut self, name: u32) -> Result<u32, Overflow> {
        if let Some(id) = self.numbers.get(&name) {
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
        self.numbers.insert(name, id);
        Ok(id)
    }

    /// The identifier, if there is one.
    pub fn get(&self, name: u32) -> Option<u32> {
        self.numbers.get(&name).copied()
    }

    /// The compiler will not call anything so any more, or not the same.
    pub fn retire(&mut self, name: u32, epoch: Epoch) {
        if let Some(id) = self.numbers.remove(&name) {
            self.retired.insert(id, epoch);
        }
    }

    /// Retires all but these.
    pub fn retain(&mut self, names: &BTreeSet<u32>, epoch: Epoch) {
        let gone = self.numbers.keys().filter(|name| !names.contains(name));
        let gone: Vec<u32> = gone.copied().collect();
        gone.into_iter().for_each(|name| self.retire(name, epoch));
    }

    /// Identifiers that maps refer to. What those that are not known here stand for need not be known: they were written by an agent
    /// before this one.
    pub fn reserve(&mut self, ids: impl IntoIterator<Item = u32>, epoch: Epoch) {
        let known: BTreeSet<u32> = self.numbers.values().copied().collect();
        let range = self.first..self.end;
        let mut last = None;
        for id in ids {
            // Many refer to the same.
            if last.replace(id) != Some(id) && range.contains(&id) && !known.contains(&id) {
                self.taken.insert(id);
                self.retired.insert(id, epoch);
            }
        }
    }

    /// Frees what was retired up to that epoch, but for those that are held.
    pub fn free(&mut self, epoch: Epoch, held: impl Iterator<Item = u32>) {
        if self.retired.values().all(|since| *since > epoch) {
            return;
        }
        let held: IdSet = held.filter(|id| self.retired.contains_key(id)).collect();
        let taken = &mut self.taken;
        self.retired.retain(|id, since| {
            let stays = *since > epoch || held.contains(id);
            if !stays {
                taken.remove(id);
            }
            stays
        });
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

    const A: u32 = 71;
    const B: u32 = 72;
    const C: u32 = 73;
    const D: u32 = 74;

    #[test]
    fn an_identifier_stays_with_its_content_and_is_given_again_only_when_freed() {
        let nobody = std::iter::empty;
        let mut ids = Ids::new("test", 1, 4);
        let (a, b) = (ids.number(A).unwrap(), ids.number(B).unwrap());
        assert_ne!(a, b);
        assert_eq!(ids.number(A), Ok(a));
        ids.retire(A, 7);
        let c = ids.number(C).unwrap();
        assert!(c != a && c != b);
        let full = Overflow {
            table: "test",
            room: 3,
            needed: 4,
        };
        assert_eq!(ids.number(D), Err(full), "it may still be in a map");
        ids.free(6, nobody());
        ids.free(7, [a].into_iter());
        assert_eq!(ids.number(D), Err(full));
        ids.free(7, nobody());
        assert_eq!((ids.number(D), ids.number(B)), (Ok(a), Ok(b)));
    }

    #[test]
    fn an_identifier_just_freed_is_the_last_to_be_given_out() {
        let mut ids = Ids::new("test", 1, 4);
        let a = ids.number(A).unwrap();
        ids.retain(&BTreeSet::new(), 0);
        ids.free(0, std::iter::empty());
        assert_eq!(
            [ids.number(B), ids.number(C), ids.number(D)],
            [Ok(2), Ok(3), Ok(a)]
        );
    }

    #[test]
    fn reserved_identifiers_are_given_out_only_when_nothing_refers_to_them() {
        let mut ids = Ids::new("test", 1, 4);
        let a = ids.number(A).unwrap();
        ids.reserve([1, 2, 3, 77], 5);
        assert!(ids.number(B).is_err());
        ids.free(5, std::iter::empty());
        assert_eq!((ids.number(B), ids.number(A)), (Ok(2), Ok(a)));
    }
}
