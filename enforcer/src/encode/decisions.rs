//! The rows of the table of decisions: half a million of them on a large node, so they are kept tightly.

use std::collections::BTreeMap;

/// A ruleset and a class.
pub type Pair = (u32, u32);

/// The class of a row, and the port set that it opens.
pub type Row = (u32, u32);

/// From so many changes of one ruleset on, its rows are gone through once instead of being shifted for each.
const MANY: usize = 8;

/// Which port set a ruleset opens to a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// By ruleset, sorted by class; none is empty.
    rows: BTreeMap<u32, Vec<Row>>,
    len: usize,
}

impl Decisions {
    pub fn get(&self, (ruleset, class): &Pair) -> Option<&u32> {
        let rows = self.rows.get(ruleset)?;
        let at = find(rows, *class).ok()?;
        rows.get(at).map(|(_, set)| set)
    }

    /// The rows of a ruleset, sorted by class.
    pub fn of(&self, ruleset: u32) -> &[Row] {
        self.rows.get(&ruleset).map_or(&[], Vec::as_slice)
    }

    /// The rulesets that have rows, with these.
    pub fn rulesets(&self) -> impl Iterator<Item = (u32, &[Row])> {
        self.rows
            .iter()
            .map(|(ruleset, rows)| (*ruleset, rows.as_slice()))
    }

    pub fn contains_key(&self, pair: &Pair) -> bool {
        self.get(pair).is_some()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (Pair, &u32)> {
        let all = self.rows.iter();
        all.flat_map(|(ruleset, rows)| rows.iter().map(|(class, set)| ((*ruleset, *class), set)))
    }

    pub fn keys(&self) -> impl Iterator<Item = Pair> + '_ {
        self.iter().map(|(pair, _)| pair)
    }

    pub fn values(&self) -> impl Iterator<Item = &u32> {
        self.iter().map(|(_, set)| set)
    }

    /// Adds or replaces a row; what was there.
    pub fn insert(&mut self, (ruleset, class): Pair, set: u32) -> Option<u32> {
        let rows = self.rows.entry(ruleset).or_default();
        match find(rows, class) {
            Ok(at) => rows.get_mut(at).map(|(_, there)| std::mem::replace(there, set)),
            Err(at) => {
                make_room(rows, 1);
                rows.insert(at, (class, set));
                self.len += 1;
                None
            }
        }
    }

    /// Removes a row; what was there.
    pub fn remove(&mut self, (ruleset, class): &Pair) -> Option<u32> {
        let rows = self.rows.get_mut(ruleset)?;
        let at = find(rows, *class).ok()?;
        let (_, set) = rows.remove(at);
        self.len -= 1;
        if rows.is_empty() {
            self.rows.remove(ruleset);
        }
        Some(set)
    }

    /// Adds or replaces rows of a ruleset, which are sorted by class.
    pub fn insert_all(&mut self, ruleset: u32, sorted: Vec<Row>) {
        let Some((first, _)) = sorted.first() else {
            return;
        };
        let Some(rows) = self.rows.get_mut(&ruleset) else {
            self.len += sorted.len();
            self.rows.insert(ruleset, sorted);
            return;
        };
        let appends = rows.last().is_none_or(|(last, _)| last < first);
        if !appends && sorted.len() < MANY {
            for (class, set) in sorted {
                self.insert((ruleset, class), set);
            }
            return;
        }
        let before = rows.len();
        make_room(rows, sorted.len());
        rows.extend(sorted);
        if !appends {
            // Two sorted runs; of two rows of a class the later one is the newer one.
            rows.sort_by_key(|(class, _)| *class);
            rows.dedup_by(|newer, older| {
                let same = newer.0 == older.0;
                if same {
                    older.1 = newer.1;
                }
                same
            });
        }
        self.len += rows.len() - before;
    }

    /// Removes the rows of a ruleset with these classes, which are sorted.
    pub fn remove_all(&mut self, ruleset: u32, sorted: &[u32]) {
        if sorted.len() < MANY {
            for class in sorted {
                self.remove(&(ruleset, *class));
            }
            return;
        }
        let Some(rows) = self.rows.get_mut(&ruleset) else {
            return;
        };
        let before = rows.len();
        let mut gone = sorted.iter().copied().peekable();
        rows.retain(|(class, _)| {
            while gone.next_if(|gone| gone < class).is_some() {}
            gone.peek() != Some(class)
        });
        self.len -= before - rows.len();
        if rows.is_empty() {
            self.rows.remove(&ruleset);
        }
    }
}

impl FromIterator<(Pair, u32)> for Decisions {
    fn from_iter<I: IntoIterator<Item = (Pair, u32)>>(rows: I) -> Self {
        let mut decisions = Self::default();
        for ((ruleset, class), set) in rows {
            decisions.rows.entry(ruleset).or_default().push((class, set));
        }
        for rows in decisions.rows.values_mut() {
            rows.sort_by_key(|(class, _)| *class);
            rows.dedup_by_key(|(class, _)| *class);
            rows.shrink_to_fit();
            decisions.len += rows.len();
        }
        decisions
    }
}

/// A list that doubles when it is full takes up twice as much as there is, and each of these is as long as the others.
fn make_room(rows: &mut Vec<Row>, more: usize) {
    if rows.capacity() - rows.len() < more {
        rows.reserve_exact(more + rows.len() / 16);
    }
}

fn find(rows: &[Row], class: u32) -> Result<usize, usize> {
    rows.binary_search_by_key(&class, |(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = BTreeMap<Pair, u32>> {
        prop::collection::btree_map((0..3_u32, 0..40_u32), any::<u32>(), 0..60)
    }

    proptest! {
        #[test]
        fn they_are_a_map_whether_rows_come_one_by_one_or_many_at_once(
            before in rows(), more in rows(), less in rows(),
        ) {
            let mut expected = before.clone();
            let mut at_once: Decisions = before.clone().into_iter().collect();
            let mut singly = at_once.clone();
            expected.extend(more.clone());
            for (ruleset, rows) in more.clone().into_iter().collect::<Decisions>().rulesets() {
                at_once.insert_all(ruleset, rows.to_vec());
            }
            for (pair, set) in &more {
                prop_assert_eq!(singly.insert(*pair, *set), before.get(pair).copied());
            }
            prop_assert_eq!(&at_once, &singly);
            for (ruleset, rows) in less.clone().into_iter().collect::<Decisions>().rulesets() {
                at_once.remove_all(ruleset, &rows.iter().map(|(class, _)| *class).collect::<Vec<_>>());
            }
            for pair in less.keys() {
                prop_assert_eq!(singly.remove(pair), expected.remove(pair));
            }
            prop_assert_eq!(&at_once, &singly);
            prop_assert_eq!(at_once.len(), expected.len());
            prop_assert_eq!(at_once.iter().map(|(pair, set)| (pair, *set)).collect::<Vec<_>>(), expected.clone().into_iter().collect::<Vec<_>>());
            prop_assert!(expected.iter().all(|(pair, set)| at_once.get(pair) == Some(set)));
        }
    }
}
