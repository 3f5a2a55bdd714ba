//! What many objects have alike, kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::selector::Labels;

/// The labels that objects have. No part of what is known of the cluster: any two are equal.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    labels: BTreeSet<Arc<Labels>>,
    /// At how many it is looked which of them nobody has any more.
    full: usize,
}

impl PartialEq for Shared {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Shared {
    /// Labels equal to these, that others may have too.
    pub fn labels(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(same) = self.labels.get(&labels) {
            return Arc::clone(same);
        }
        if self.labels.len() >= self.full {
            self.labels.retain(|labels| Arc::strong_count(labels) > 1);
            // So that this costs nothing to speak of for each that comes.
            self.full = 2 * self.labels.len() + 64;
        }
        self.labels.insert(Arc::clone(&labels));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: usize) -> Arc<Labels> {
        Arc::new([("app".to_owned(), app.to_string())].into())
    }

    #[test]
    fn equal_labels_are_kept_once() {
        let mut shared = Shared::default();
        let (one, other) = (shared.labels(labels(1)), shared.labels(labels(1)));
        assert!(Arc::ptr_eq(&one, &other));
        assert_ne!(one, shared.labels(labels(2)));
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten_in_time() {
        let mut shared = Shared::default();
        let kept: Vec<_> = (0..50).map(|app| shared.labels(labels(app))).collect();
        (0..100_000).for_each(|app| drop(shared.labels(labels(app))));
        assert!(shared.labels.len() < 300, "{}", shared.labels.len());
        assert!(kept.iter().all(|labels| shared.labels.contains(labels)));
    }
}
