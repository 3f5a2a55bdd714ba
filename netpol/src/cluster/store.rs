//! A store of one kind of object.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::journal::{Changes, Journal};
use crate::key::Key;

/// The objects of one kind, in the order of their keys. Objects are shared: who keeps one keeps it as it was.
#[derive(Debug, Clone)]
pub struct Store<T> {
    objects: BTreeMap<Key, Arc<T>>,
    journal: Journal,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            journal: Journal::default(),
        }
    }
}

/// Equal objects; it does not matter how they came to be there.
impl<T: PartialEq> PartialEq for Store<T> {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects
    }
}

impl<T: PartialEq> Store<T> {
    /// Adds or replaces an object; whether that changed anything.
    pub fn apply(&mut self, key: Key, object: T) -> bool {
        if self.get(&key) == Some(&object) {
            return false;
        }
        self.journal.note(key.clone());
        self.objects.insert(key, Arc::new(object));
        true
    }

    /// Removes an object; whether it was there.
    pub fn delete(&mut self, key: &Key) -> bool {
        let found = self.objects.remove_entry(key);
        found.map(|(key, _)| self.journal.note(key)).is_some()
    }

    /// Replaces everything by the result of a new list; whether that changed anything.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = (Key, T)>) -> bool {
        self.reset_within(objects, |_| true)
    }

    /// The same for a part of the store: what is not `own` stays.
    pub fn reset_within(
        &mut self,
        objects: impl IntoIterator<Item = (Key, T)>,
        own: impl Fn(&Key) -> bool,
    ) -> bool {
        let fresh: BTreeMap<Key, T> = objects.into_iter().collect();
        let mut changed: Vec<Key> = Vec::new();
        self.objects.retain(|key, _| {
            let stays = fresh.contains_key(key) || !own(key);
            if !stays {
                changed.push(key.clone());
            }
            stays
        });
        for (key, object) in fresh {
            if self.get(&key) != Some(&object) {
                changed.push(key.clone());
                self.objects.insert(key, Arc::new(object));
            }
        }
        let any = !changed.is_empty();
        self.journal.note_all(changed);
        any
    }
}

impl<T> Store<T> {
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.objects.get(key).map(Arc::as_ref)
    }

    /// The object itself, for who keeps it beyond the next change.
    pub fn shared(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.journal.revision()
    }

    /// What changed since that revision of this store.
    pub fn changes(&self, since: u64) -> Changes<'_> {
        self.journal.since(since)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.objects.iter().map(|(key, object)| (key, object.as_ref()))
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values().map(Arc::as_ref)
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a T)> + use<'a, T> {
        self.shared_in_namespace(namespace)
            .map(|(key, object)| (key, object.as_ref()))
    }

    /// The same, for who keeps them beyond the next change.
    pub fn shared_in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<T>)> + use<'a, T> {
        let first = Key::new(namespace, "");
        let namespace = namespace.to_owned();
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.namespace == namespace)
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_object_again_is_no_change() {
        let mut store = Store::default();
        assert!(store.apply(Key::new("a", "x"), 1));
        assert!(!store.apply(Key::new("a", "x"), 1));
        assert!(store.apply(Key::new("a", "x"), 2));
        assert!(store.delete(&Key::new("a", "x")));
        assert!(!store.delete(&Key::new("a", "x")));
    }

    #[test]
    fn a_reset_forgets_what_the_new_list_lacks() {
        let mut store = Store::default();
        store.apply(Key::new("a", "gone"), 1);
        assert!(store.reset([(Key::new("a", "kept"), 2)]));
        assert!(!store.reset([(Key::new("a", "kept"), 2)]));
        assert_eq!(store.iter().collect::<Vec<_>>(), [(&Key::new("a", "kept"), &2)]);
    }

    #[test]
    fn a_reset_within_a_part_leaves_the_rest() {
        let mut store = Store::default();
        store.apply(Key::new("a", "x[One]"), 1);
        store.apply(Key::new("a", "x[Two]"), 2);
        assert!(store.reset_within([], |key| key.name.ends_with("[One]")));
        assert_eq!(store.keys().collect::<Vec<_>>(), [&Key::new("a", "x[Two]")]);
    }

    #[test]
    fn a_namespace_does_not_leak_into_one_whose_name_it_starts() {
        let mut store = Store::default();
        for (namespace, name) in [("a", "1"), ("a", "2"), ("a-b", "3"), ("aa", "4")] {
            store.apply(Key::new(namespace, name), ());
        }
        let names: Vec<_> = store
            .in_namespace("a")
            .map(|(key, ())| key.name.as_str())
            .collect();
        assert_eq!(names, ["1", "2"]);
    }

    #[test]
    fn who_follows_hears_of_what_changed_and_of_nothing_else() {
        let mut store = Store::default();
        for (name, object) in [("gone", 1), ("kept", 2), ("other", 3)] {
            store.apply(Key::new("a", name), object);
        }
        let kept = Arc::clone(store.shared(&Key::new("a", "kept")).unwrap());
        let before = store.revision();
        store.apply(Key::new("a", "other"), 3);
        store.reset([(Key::new("a", "kept"), 2), (Key::new("a", "other"), 4)]);
        let (gone, other) = (Key::new("a", "gone"), Key::new("a", "other"));
        assert_eq!(store.changes(before), Changes::Keys(vec![&other, &gone]));
        assert!(Arc::ptr_eq(store.shared(&Key::new("a", "kept")).unwrap(), &kept));
    }
}
