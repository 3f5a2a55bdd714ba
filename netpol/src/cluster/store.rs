//! A store of one kind of object.

use std::collections::BTreeMap;

use crate::key::Key;

/// The objects of one kind, in the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Store<T> {
    objects: BTreeMap<Key, T>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
        }
    }
}

impl<T: PartialEq> Store<T> {
    /// Adds or replaces an object; whether that changed anything.
    pub fn apply(&mut self, key: Key, object: T) -> bool {
        if self.objects.get(&key) == Some(&object) {
            return false;
        }
        self.objects.insert(key, object);
        true
    }

    /// Removes an object; whether it was there.
    pub fn delete(&mut self, key: &Key) -> bool {
        self.objects.remove(key).is_some()
    }

    /// Replaces everything by the result of a new list; whether that changed anything.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = (Key, T)>) -> bool {
        let fresh: BTreeMap<Key, T> = objects.into_iter().collect();
        let changed = self.objects != fresh;
        self.objects = fresh;
        changed
    }
}

impl<T> Store<T> {
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.objects.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.objects.iter()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a T)> + use<'a, T> {
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
}
