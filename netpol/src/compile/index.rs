//! Indices over labels, both ways: from labels to the selectors that may match them, and from a selector to the objects that it
//! may match. Both find candidates by one requirement, and leave it to the selector to say which of them it matches.

use std::collections::BTreeMap;

use crate::selector::{Condition, Labels, Selector, Values};

/// The requirement that a selector is found by.
enum Anchor<'a> {
    Values(&'a str, &'a Values),
    Key(&'a str),
    /// It has no requirement that asks for a label to be there.
    None,
}

impl<'a> Anchor<'a> {
    fn of(selector: &'a Selector) -> Self {
        let values = selector.requirements().filter_map(|r| match &r.condition {
            Condition::In(values) => Some((r.key.as_str(), values)),
            _ => None,
        });
        if let Some((key, values)) = values.min_by_key(|(_, values)| values.len()) {
            return Self::Values(key, values);
        }
        let mut keys = selector
            .requirements()
            .filter(|r| r.condition == Condition::Exists);
        keys.next().map_or(Self::None, |r| Self::Key(&r.key))
    }
}

/// Selectors, to be asked which of them may match an object.
#[derive(Debug)]
pub(super) struct Selectors<I> {
    by_value: BTreeMap<String, BTreeMap<String, Vec<I>>>,
    by_key: BTreeMap<String, Vec<I>>,
    others: Vec<I>,
}

impl<I> Default for Selectors<I> {
    fn default() -> Self {
        Self {
            by_value: BTreeMap::new(),
            by_key: BTreeMap::new(),
            others: Vec::new(),
        }
    }
}

impl<I: Copy + Ord> Selectors<I> {
    pub(super) fn insert(&mut self, selector: &Selector, id: I) {
        match Anchor::of(selector) {
            Anchor::Values(key, values) => {
                let by_value = entry(&mut self.by_value, key);
                for value in values {
                    insert(entry(by_value, value), id);
                }
            }
            Anchor::Key(key) => insert(entry(&mut self.by_key, key), id),
            Anchor::None => insert(&mut self.others, id),
        }
    }

    pub(super) fn remove(&mut self, selector: &Selector, id: I) {
        match Anchor::of(selector) {
            Anchor::Values(key, values) => {
                if let Some(by_value) = self.by_value.get_mut(key) {
                    values.iter().for_each(|value| withdraw(by_value, value, id));
                    if by_value.is_empty() {
                        self.by_value.remove(key);
                    }
                }
            }
            Anchor::Key(key) => withdraw(&mut self.by_key, key, id),
            Anchor::None => remove(&mut self.others, id),
        }
    }

    /// Every selector that matches the labels, and others; each once.
    pub(super) fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = I> + 'a {
        let labelled = labels.iter().flat_map(|(key, value)| {
            let of_value = self.by_value.get(key).and_then(|by_value| by_value.get(value));
            of_value.into_iter().chain(self.by_key.get(key)).flatten()
        });
        labelled.chain(&self.others).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_value.is_empty() && self.by_key.is_empty() && self.others.is_empty()
    }
}

/// Objects, to be asked which of them a selector may match.
#[derive(Debug, Default)]
pub(super) struct Labelled {
    all: Vec<usize>,
    by_label: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
}

impl Labelled {
    pub(super) fn insert(&mut self, labels: &Labels, id: usize) {
        insert(&mut self.all, id);
        for (key, value) in labels {
            insert(entry(entry(&mut self.by_label, key), value), id);
        }
    }

    pub(super) fn remove(&mut self, labels: &Labels, id: usize) {
        remove(&mut self.all, id);
        for (key, value) in labels {
            if let Some(by_value) = self.by_label.get_mut(key) {
                withdraw(by_value, value, id);
                if by_value.is_empty() {
                    self.by_label.remove(key);
                }
            }
        }
    }

    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    /// Every object that the selector matches, and others; each once. Those of the requirement that leaves the fewest.
    pub(super) fn candidates(&self, selector: &Selector) -> Vec<&[usize]> {
        let lists = selector.requirements().filter_map(|requirement| {
            let by_value = self.by_label.get(&requirement.key);
            match &requirement.condition {
                Condition::In(values) => Some(
                    values
                        .iter()
                        .filter_map(|value| Some(by_value?.get(value)?.as_slice()))
                        .collect(),
                ),
                Condition::Exists => Some(
                    by_value
                        .into_iter()
                        .flatten()
                        .map(|(_, ids)| ids.as_slice())
                        .collect(),
                ),
                Condition::NotIn(_) | Condition::DoesNotExist => None,
            }
        });
        lists
            .min_by_key(|lists: &Vec<&[usize]>| lists.iter().map(|ids| ids.len()).sum::<usize>())
            .unwrap_or_else(|| vec![&self.all])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    map.entry(key.to_owned()).or_default()
}

fn insert<I: Ord>(list: &mut Vec<I>, id: I) {
    if let Err(place) = list.binary_search(&id) {
        list.insert(place, id);
    }
}

fn remove<I: Ord>(list: &mut Vec<I>, id: I) {
    if let Ok(place) = list.binary_search(&id) {
        list.remove(place);
    }
}

fn withdraw<I: Ord>(map: &mut BTreeMap<String, Vec<I>>, key: &str, id: I) {
    if let Some(list) = map.get_mut(key) {
        remove(list, id);
        if list.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
    use proptest::prelude::*;
    use serde_json::json;

    fn labels() -> impl Strategy<Value = Labels> {
        prop::collection::btree_map("[ab]", "[xyz]", 0..3).prop_map(|labels| labels.into_iter().collect())
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let values = prop::collection::btree_set("[xyz]", 1..3);
        let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
        let requirement = ("[ab]", operator, values).prop_map(|(key, operator, values)| match operator {
            "In" | "NotIn" => json!({"key": key, "operator": operator, "values": values}),
            _ => json!({"key": key, "operator": operator}),
        });
        prop::collection::vec(requirement, 0..3).prop_map(|requirements| {
            let selector = json!({"matchExpressions": requirements});
            let selector: LabelSelector = serde_json::from_value(selector).unwrap();
            Selector::parse(&selector).unwrap()
        })
    }

    proptest! {
        #[test]
        fn all_that_match_are_candidates_and_each_is_once(
            objects in prop::collection::vec(labels(), 1..6),
            selectors in prop::collection::vec(selector(), 1..6),
            removed in any::<prop::sample::Index>(),
        ) {
            let (mut by_selector, mut by_labels) = (Selectors::default(), Labelled::default());
            selectors.iter().enumerate().for_each(|(id, selector)| by_selector.insert(selector, id));
            objects.iter().enumerate().for_each(|(id, labels)| by_labels.insert(labels, id));
            let without = removed.index(selectors.len());
            by_selector.remove(&selectors[without], without);
            for (object, labels) in objects.iter().enumerate() {
                let found: Vec<usize> = by_selector.candidates(labels).collect();
                for (id, selector) in selectors.iter().enumerate() {
                    let expected = id != without && selector.matches(labels);
                    prop_assert!(found.iter().filter(|f| **f == id).count() <= 1);
                    prop_assert!(!expected || found.contains(&id));
                    let inverse: Vec<usize> = by_labels.candidates(selector).concat();
                    prop_assert!(inverse.iter().filter(|f| **f == object).count() <= 1);
                    prop_assert!(!selector.matches(labels) || inverse.contains(&object));
                }
            }
            selectors.iter().enumerate().for_each(|(id, selector)| by_selector.remove(selector, id));
            objects.iter().enumerate().for_each(|(id, labels)| by_labels.remove(labels, id));
            prop_assert!(by_selector.is_empty() && by_labels.is_empty() && by_labels.by_label.is_empty());
        }
    }
}
