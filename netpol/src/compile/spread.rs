//! Tables by identifiers.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// By identifiers, which are counted up and nobody's to choose.
pub type IdMap<V> = HashMap<u32, V, BuildHasherDefault<Spread>>;
pub type IdSet = HashSet<u32, BuildHasherDefault<Spread>>;

/// Spreads identifiers over a table, by no more than a multiplication each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The high bits depend on all of the identifier, and a table looks at the low ones.
        self.0.rotate_left(26)
    }
}
