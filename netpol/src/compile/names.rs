//! The names of ports that classes have, numbered: many classes have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slab::Slab;

use crate::port::Protocol;

/// Where a port name is found on a pod.
pub(super) type NamedPort = (Protocol, String, u16);
/// Stands for named ports as long as some class has them, and is then given to others at once: it is good for an index.
pub(super) type NamesId = u32;

/// That of no named ports at all.
pub(super) const NONE: NamesId = 0;

#[derive(Debug, Default)]
pub(super) struct Names {
    ids: BTreeMap<Arc<[NamedPort]>, NamesId>,
    /// At one below the identifier, with how many hold it.
    kept: Slab<(Arc<[NamedPort]>, usize)>,
    idle: BTreeSet<NamesId>,
}

impl Names {
    /// The identifier of named ports. Nobody holds it by that.
    pub(super) fn intern(&mut self, named: &[NamedPort]) -> NamesId {
        if named.is_empty() {
            return NONE;
        }
        if let Some(id) = self.ids.get(named) {
            return *id;
        }
        let content: Arc<[NamedPort]> = named.into();
        let id = 1 + self.kept.insert((Arc::clone(&content), 0)) as NamesId;
        self.ids.insert(content, id);
        self.idle.insert(id);
        id
    }

    /// Somebody more holds it.
    pub(super) fn hold(&mut self, id: NamesId) {
        if id != NONE
            && let Some((_, holders)) = self.kept.get_mut(place(id))
        {
            *holders += 1;
            self.idle.remove(&id);
        }
    }

    /// Somebody less does. It stays until the next [`Self::settle`].
    pub(super) fn release(&mut self, id: NamesId) {
        if id != NONE
            && let Some((_, holders)) = self.kept.get_mut(place(id))
        {
            *holders -= 1;
            if *holders == 0 {
                self.idle.insert(id);
            }
        }
    }

    /// Forgets what nobody holds.
    pub(super) fn settle(&mut self) {
        for id in std::mem::take(&mut self.idle) {
            if let Some((content, _)) = self.kept.try_remove(place(id)) {
                self.ids.remove(&content);
            }
        }
    }

    pub(super) fn get(&self, id: NamesId) -> &[NamedPort] {
        let kept = (id != NONE).then(|| self.kept.get(place(id))).flatten();
        kept.map_or(&[], |(content, _)| content)
    }
}

fn place(id: NamesId) -> usize {
    id as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_ports_have_one_identifier_as_long_as_somebody_holds_them() {
        let port = |number| vec![(Protocol::Tcp, "http".to_owned(), number)];
        let mut names = Names::default();
        let hold = |names: &mut Names, named: &[NamedPort]| {
            let id = names.intern(named);
            names.hold(id);
            id
        };
        let (a, b) = (hold(&mut names, &port(1)), hold(&mut names, &port(2)));
        assert!(a != b && a != NONE && b != NONE);
        assert_eq!(hold(&mut names, &port(1)), a);
        names.release(a);
        names.settle();
        assert_eq!(names.get(a), &port(1)[..]);
        names.release(a);
        assert_eq!(names.get(a), &port(1)[..], "it stays until all is settled");
        names.settle();
        assert_eq!((names.get(a), names.get(b)), (&[][..], &port(2)[..]));
        assert_eq!((hold(&mut names, &port(3)), names.get(b)), (a, &port(2)[..]));
        assert_eq!((hold(&mut names, &[]), names.get(NONE)), (NONE, &[][..]));
    }
}
