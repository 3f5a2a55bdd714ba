//! Contents with identifiers that stand for them, as long as somebody holds them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;

use super::spread::IdMap;

/// Numbers contents. An identifier keeps its content until nobody holds it any more, and is then the last to be given out
/// again: after four milliards of others.
#[derive(Debug)]
pub(super) struct Contents<T> {
    /// By their contents.
    ids: HashTable<u32>,
    kept: IdMap<Kept<T>>,
    first: u32,
    next: u32,
    born: BTreeSet<u32>,
    idle: BTreeSet<u32>,
}

#[derive(Debug)]
struct Kept<T> {
    content: Arc<T>,
    holders: usize,
}

/// What came to be and ceased to be since the last [`Contents::settle`].
#[derive(Debug)]
pub(super) struct Settled<T> {
    pub(super) born: Vec<(u32, Arc<T>)>,
    pub(super) gone: Vec<(u32, Arc<T>)>,
}

impl<T: Hash + Eq + Clone> Contents<T> {
    /// Gives out `first` and what comes after it.
    pub(super) fn new(first: u32) -> Self {
        Self {
            ids: HashTable::new(),
            kept: IdMap::default(),
            first,
            next: first,
            born: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }

    /// The identifier of a content. Nobody holds it by that.
    pub(super) fn intern(&mut self, content: &T) -> u32 {
        if let Some(id) = self.id(content) {
            return id;
        }
        while self.kept.contains_key(&self.next) {
            self.advance();
        }
        let id = self.next;
        self.advance();
        let content = Arc::new(content.clone());
        self.kept.insert(id, Kept { content, holders: 0 });
        self.enter(id);
        self.born.insert(id);
        self.idle.insert(id);
        id
    }

    /// The identifier of a content that is there.
    pub(super) fn id(&self, content: &T) -> Option<u32> {
        let same = |id: &u32| self.get(*id).is_some_and(|other| **other == *content);
        self.ids.find(hash(content), same).copied()
    }

    pub(super) fn hold(&mut self, id: u32) {
        self.hold_by(id, 1);
    }

    /// Has so many more hold it.
    pub(super) fn hold_by(&mut self, id: u32, more: usize) {
        if let Some(kept) = self.kept.get_mut(&id).filter(|_| more > 0) {
            if kept.holders == 0 {
                self.idle.remove(&id);
            }
            kept.holders += more;
        }
    }

    /// It stays until the next [`Self::settle`].
    pub(super) fn release(&mut self, id: u32) {
        self.release_by(id, 1);
    }

    /// Has so many less hold it.
    pub(super) fn release_by(&mut self, id: u32, less: usize) {
        if let Some(kept) = self.kept.get_mut(&id) {
            kept.holders = kept.holders.saturating_sub(less);
            if kept.holders == 0 {
                self.idle.insert(id);
            }
        }
    }

    /// How many hold it.
    pub(super) fn holders(&self, id: u32) -> usize {
        self.kept.get(&id).map_or(0, |kept| kept.holders)
    }

    /// Has an identifier stand for another content; whether that could be, since no other stands for it.
    pub(super) fn amend(&mut self, id: u32, content: T) -> bool {
        if self.id(&content).is_some() || !self.kept.contains_key(&id) {
            return false;
        }
        self.leave(id);
        if let Some(kept) = self.kept.get_mut(&id) {
            match Arc::get_mut(&mut kept.content) {
                Some(there) => *there = content,
                None => kept.content = Arc::new(content),
            }
        }
        self.enter(id);
        true
    }

    pub(super) fn get(&self, id: u32) -> Option<&Arc<T>> {
        self.kept.get(&id).map(|kept| &kept.content)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// All of them, by their identifiers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.kept.iter();
        let mut all: Vec<(u32, &T)> = all.map(|(id, kept)| (*id, kept.content.as_ref())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter()
    }

    /// Forgets what nobody holds. What came and went in between is in neither list; both are sorted.
    pub(super) fn settle(&mut self) -> Settled<T> {
        let born = std::mem::take(&mut self.born);
        let mut gone = Vec::new();
        for id in std::mem::take(&mut self.idle) {
            self.leave(id);
            if let Some(kept) = self.kept.remove(&id)
                && !born.contains(&id)
            {
                gone.push((id, kept.content));
            }
        }
        let born = born
            .into_iter()
            .filter_map(|id| Some((id, Arc::clone(self.get(id)?))));
        Settled {
            born: born.collect(),
            gone,
        }
    }

    /// Has it found by its content, which no other has.
    fn enter(&mut self, id: u32) {
        let kept = &self.kept;
        let hash_of = |id: &u32| kept.get(id).map_or(0, |kept| hash(&kept.content));
        self.ids.insert_unique(hash_of(&id), id, hash_of);
    }

    fn leave(&mut self, id: u32) {
        if let Some(kept) = self.kept.get(&id)
            && let Ok(found) = self.ids.find_entry(hash(&kept.content), |other| *other == id)
        {
            found.remove();
        }
    }

    fn advance(&mut self) {
        self.next = self.next.checked_add(1).unwrap_or(self.first);
    }
}

fn hash(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<T>(list: &[(u32, Arc<T>)]) -> Vec<u32> {
        list.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn a_content_keeps_its_identifier_while_somebody_holds_it() {
        let mut contents = Contents::new(1);
        let a = contents.intern(&"a");
        contents.hold(a);
        contents.hold(a);
        assert_eq!(ids(&contents.settle().born), [a]);
        contents.release(a);
        assert!(contents.settle().gone.is_empty());
        assert_eq!(contents.intern(&"a"), a);
        contents.release(a);
        assert_eq!(ids(&contents.settle().gone), [a]);
        assert_ne!(contents.intern(&"b"), a);
    }

    #[test]
    fn what_is_let_go_and_taken_again_in_between_never_went() {
        let mut contents = Contents::new(1);
        let a = contents.intern(&"a");
        contents.hold(a);
        contents.settle();
        contents.release(a);
        contents.hold(a);
        contents.intern(&"fleeting");
        let settled = contents.settle();
        assert!(settled.born.is_empty() && settled.gone.is_empty());
    }

    #[test]
    fn an_identifier_may_come_to_stand_for_a_content_that_no_other_stands_for() {
        let mut contents = Contents::new(1);
        let (a, b) = (contents.intern(&"a"), contents.intern(&"b"));
        contents.hold(a);
        contents.hold(b);
        assert!(contents.amend(a, "c") && !contents.amend(b, "c"));
        assert_eq!((contents.intern(&"c"), contents.intern(&"b")), (a, b));
        assert_ne!(contents.intern(&"a"), a);
    }

    #[test]
    fn after_the_last_number_those_that_are_held_are_passed_over() {
        let mut contents = Contents::new(1);
        let a = contents.intern(&"a");
        contents.hold(a);
        contents.next = u32::MAX;
        assert_eq!((contents.intern(&"b"), contents.intern(&"c")), (u32::MAX, 2));
    }
}
