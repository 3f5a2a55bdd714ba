//! The names of ports that classes have, numbered: many classes have the same.

use std::collections::BTreeMap;
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
}

impl Names {
    /// The identifier of named ports, which somebody more holds now.
    pub(super) fn hold(&mut self, named: &[NamedPort]) -> NamesId {
        if named.is_empty() {
            return NONE;
        }
        if let Some(id) = self.ids.get(named) {
            if let Some((_, holders)) = self.kept.get_mut(place(*id)) {
                *holders += 1;
            }
            return *id;
        }
        let content: Arc<[NamedPort]> = named.into();
        let id = 1 + self.kept.insert((Arc::clone(&content), 1)) as NamesId;
        self.ids.insert(content, id);
        id
    }

    /// Somebody holds them no more; what their identifier was until then.
    pub(super) fn release(&mut self, named: &[NamedPort]) -> NamesId {
        let Some(id) = self.ids.get(named).copied() else {
            return NONE;
        };
        if let Some((_, holders)) = self.kept.get_mut(place(id)) {
            *holders -= 1;
            if *holders == 0 {
                self.kept.remove(place(id));
                self.ids.remove(named);
            }
        }
        id
    }

    /// The identifier of named ports that somebody holds.
    pub(super) fn id(&self, named: &[NamedPort]) -> NamesId {
        self.ids.get(named).copied().unwrap_or(NONE)
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
        let (a, b) = (names.hold(&port(1)), names.hold(&port(2)));
        assert!(a != b && a != NONE && b != NONE);
        assert_eq!(names.hold(&port(1)), a);
        assert_eq!((names.release(&port(1)), names.get(a)), (a, &port(1)[..]));
        assert_eq!((names.release(&port(1)), names.id(&port(1))), (a, NONE));
        assert_eq!((names.hold(&port(3)), names.get(b)), (a, &port(2)[..]));
        assert_eq!((names.hold(&[]), names.get(NONE)), (NONE, &[][..]));
    }
}
