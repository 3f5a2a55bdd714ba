//! What changed of late, so that who follows a store pays for the changes and not for the store.

use std::collections::VecDeque;

use crate::key::Key;

/// How many changes are remembered. Who is further behind looks at everything.
const REMEMBERED: usize = 1024;

/// The keys of the latest changes of a store, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    revision: u64,
    /// The last of them made the store's current revision.
    latest: VecDeque<Key>,
}

/// What changed since some revision. A key may be there more than once, and its object as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes<'a> {
    Keys(Vec<&'a Key>),
    /// More than is remembered: anything may have.
    Everything,
}

impl Journal {
    pub(super) fn note(&mut self, key: Key) {
        self.revision += 1;
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(key);
    }

    pub(super) fn note_all(&mut self, keys: Vec<Key>) {
        if keys.len() > REMEMBERED {
            self.revision += 1;
            self.latest.clear();
        } else {
            keys.into_iter().for_each(|key| self.note(key));
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn since(&self, revision: u64) -> Changes<'_> {
        let missed = self
            .revision
            .checked_sub(revision)
            .and_then(|missed| usize::try_from(missed).ok());
        match missed {
            Some(missed) if missed <= self.latest.len() => {
                Changes::Keys(self.latest.iter().rev().take(missed).collect())
            }
            _ => Changes::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(journal: &Journal, since: u64) -> Option<Vec<&str>> {
        match journal.since(since) {
            Changes::Keys(keys) => Some(keys.into_iter().map(|key| key.name.as_str()).collect()),
            Changes::Everything => None,
        }
    }

    #[test]
    fn who_follows_hears_of_each_change_once() {
        let mut journal = Journal::default();
        assert_eq!(names(&journal, 0), Some(vec![]));
        journal.note(Key::cluster("a"));
        journal.note(Key::cluster("b"));
        assert_eq!(names(&journal, 0), Some(vec!["b", "a"]));
        assert_eq!(names(&journal, 1), Some(vec!["b"]));
        assert_eq!(names(&journal, journal.revision()), Some(vec![]));
    }

    #[test]
    fn who_is_too_far_behind_looks_at_everything() {
        let mut journal = Journal::default();
        (0..2000).for_each(|n| journal.note(Key::cluster(n.to_string())));
        assert_eq!(names(&journal, 2000 - 1024 - 1), None);
        assert_eq!(names(&journal, 2000 - 1024).map(|names| names.len()), Some(1024));
        let before = journal.revision();
        journal.note_all((0..2000).map(|n| Key::cluster(n.to_string())).collect());
        assert_eq!(names(&journal, before), None);
        assert_eq!(names(&journal, journal.revision()), Some(vec![]));
    }

    #[test]
    fn a_revision_that_is_still_to_come_is_another_stores() {
        assert_eq!(Journal::default().since(7), Changes::Everything);
    }
}
