//! What may be spent on one change. Whoever waits for its judgement is not the only one: while it is worked out, the view stands still.

use super::Bounds;

/// How many peers, ports and policies may be looked through for each pair of pods that may be looked at.
const WORK: usize = 1024;

/// What is left.
#[derive(Debug)]
pub(super) struct Effort {
    pairs: usize,
    work: usize,
    places: usize,
}

impl Effort {
    pub fn of(bounds: Bounds) -> Self {
        let work = bounds.pairs.saturating_mul(WORK);
        Self {
            pairs: bounds.pairs,
            work,
            places: work,
        }
    }

    /// Whether so much may still be looked through.
    pub fn work(&mut self, size: usize) -> bool {
        let left = self.work.checked_sub(size);
        self.work = left.unwrap_or(self.work);
        left.is_some()
    }

    /// The same, to find out for which namespaces something changes: what is spent on that leaves as much for their pods.
    pub fn place(&mut self, size: usize) -> bool {
        let left = self.places.checked_sub(size);
        self.places = left.unwrap_or(self.places);
        left.is_some()
    }

    /// For what is looked through in any case.
    pub fn surely(&mut self, size: usize) {
        self.work = self.work.saturating_sub(size);
    }

    /// Whether one more pair may be looked at, for which so much is looked through.
    pub fn pair(&mut self, size: usize) -> bool {
        let left = self.pairs.checked_sub(1);
        self.pairs = left.unwrap_or_default();
        left.is_some() && self.work(size)
    }
}
