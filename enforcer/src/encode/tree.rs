//! IPv4 prefixes as the programs look them up (tree.h): from an address in a few steps to the longest prefix that holds it, however many
//! there are.
//!
//! The first 16 bits of an address choose a *word*. A word names the longest prefix there; or a *line* of up to seven longer ones, or one of
//! 16 words for the next four bits. It names a prefix by its *place*, where the prefix's class is, so that a class changes by one store.
//! What hangs from one of the first words depends on the prefixes only. If one comes or goes, it is made anew where nothing else is, and
//! then put into force by the store of that word; what was there before is used again once no packet can be under way in it.
//!
//! The kernel's own table of prefixes (`cidr4`) is what counts: if there is no line left, a word says to ask that one.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::state::Sides;

/// How much there is of each.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Of 16 words; the first ones are those of the first words.
    pub lines: usize,
    /// Twice as many as prefixes, so that those that were left can wait.
    pub places: usize,
}

/// As declared in maps.h.
pub const SIZE: Size = Size {
    lines: 65_536,
    places: 131_072,
};
/// A line in words of 8 bytes.
pub const LINE_WORDS: usize = 8;
/// How many prefixes a line has room for.
pub const FEW: usize = 7;

const ROOTS: usize = 1 << 16;
const ROOT_BITS: u32 = 16;
const ROOT_LINES: usize = ROOTS / 16;
const STEP: u32 = 4;
/// Of a prefix in a line of them: how far an address is to be shifted to be compared, behind the place.
const SHIFT_BITS: u32 = 8;

/// What a word names; as `rf_tree_kind`.
pub mod kind {
    pub const ONE: u32 = 0;
    pub const FEW: u32 = 1;
    pub const MANY: u32 = 2;
    pub const ASK: u32 = 3;
    pub const BITS: u32 = 6;
}

/// An array of words that are stored at once.
pub trait Memory {
    fn load(&self, at: usize) -> u64;
    fn store(&self, at: usize, value: u64);
}

/// Where the tree is, and the classes of the prefixes.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub lines: &'a dyn Memory,
    pub places: &'a dyn Memory,
}

/// The network and the length.
pub type Prefix = (u32, u8);

/// The place of what no prefix holds.
const NOBODY: u32 = 0;
/// The place of a prefix for which there was none.
const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Leaf {
    place: u32,
    sides: Sides,
}

/// What the tree shall say, and what of its memory is free.
#[derive(Debug)]
pub struct Tree {
    /// Those of up to 16 bits, and the others.
    short: BTreeMap<Prefix, Leaf>,
    long: BTreeMap<Prefix, Leaf>,
    lines: Free,
    places: Free,
    /// Places of prefixes that are gone, but still named.
    leaving: Vec<u32>,
    /// Which of the first words are to be made anew.
    stale: Box<[bool]>,
    /// How many prefixes have no place.
    homeless: usize,
    /// How many of the first words say to ask the kernel's table.
    asking: usize,
}

impl Tree {
    /// Takes over from whoever wrote the memory before, of which all is made anew.
    pub fn resume(
        size: Size,
        prefixes: impl IntoIterator<Item = (Prefix, Sides)>,
        at: At<'_>,
        now: impl Fn() -> Instant,
    ) -> Self {
        let mut used = Used {
            lines: vec![false; size.lines],
            places: vec![false; size.places],
        };
        for root in 0..ROOTS {
            used.mark(at.lines, load(at.lines, root), ROOT_BITS);
        }
        // Of what is used, a line is left when its word is made anew, and places when all are.
        let (lines, _) = Free::but(ROOT_LINES, &used.lines);
        let (places, before) = Free::but(1, &used.places);
        let mut tree = Self {
            short: BTreeMap::new(),
            long: BTreeMap::new(),
            lines,
            places,
            leaving: Vec::new(),
            stale: vec![true; ROOTS].into_boxed_slice(),
            homeless: 0,
            asking: 0,
        };
        let begun = now();
        for (prefix, sides) in prefixes {
            tree.put(prefix, sides, at, begun);
        }
        tree.settle(at, &now);
        tree.places.give(before, now());
        tree
    }

    /// Takes note of a prefix, or of its class. One that is new is in force from [`Self::settle`] on.
    pub fn put(&mut self, prefix: Prefix, sides: Sides, at: At<'_>, now: Instant) {
        let there = self.of(prefix).get(&prefix).map(|leaf| leaf.place);
        let place = there.unwrap_or_else(|| {
            self.spoil(prefix);
            let place = self.places.take(now).unwrap_or(NOWHERE);
            self.homeless += usize::from(place == NOWHERE);
            place
        });
        if place != NOWHERE {
            at.places.store(place as usize, pack(sides));
        }
        self.of(prefix).insert(prefix, Leaf { place, sides });
    }

    /// Takes note that there is no such prefix any more.
    pub fn remove(&mut self, prefix: Prefix) {
        if let Some(leaf) = self.of(prefix).remove(&prefix) {
            self.spoil(prefix);
            match leaf.place {
                NOWHERE => self.homeless -= 1,
                place => self.leaving.push(place),
            }
        }
    }

    /// Brings what was taken note of into force.
    pub fn settle(&mut self, at: At<'_>, now: impl Fn() -> Instant) {
        if !self.stale.contains(&true) {
            return;
        }
        let begun = now();
        self.house(at, begun);
        self.asking = 0;
        let mut left = Vec::new();
        for (root, other) in self.others().into_iter().enumerate() {
            if !self.stale.get_mut(root).is_some_and(std::mem::take) {
                continue;
            }
            let word = self.root(root, other, at.lines, begun).unwrap_or_else(|| {
                if let Some(stale) = self.stale.get_mut(root) {
                    *stale = true;
                }
                self.asking += 1;
                kind::ASK
            });
            let before = load(at.lines, root);
            if before != word {
                lines_of(at.lines, before, ROOT_BITS, &mut left);
                store(at.lines, root, word);
            }
        }
        let now = now();
        self.lines.give(left, now);
        self.places.give(std::mem::take(&mut self.leaving), now);
    }

    /// How many of the first words say to ask the kernel's table, until there is room when [`Self::settle`] is called again.
    pub fn asking(&self) -> usize {
        self.asking
    }

    fn of(&mut self, (_, length): Prefix) -> &mut BTreeMap<Prefix, Leaf> {
        if u32::from(length) > ROOT_BITS {
            &mut self.long
        } else {
            &mut self.short
        }
    }

    /// The first words that a prefix concerns are to be made anew.
    fn spoil(&mut self, prefix: Prefix) {
        if let Some(stale) = self.stale.get_mut(roots(prefix)) {
            stale.fill(true);
        }
    }

    /// Gives places to those that have none.
    fn house(&mut self, at: At<'_>, now: Instant) {
        if self.homeless == 0 {
            return;
        }
        let leaves = self.short.values_mut().chain(self.long.values_mut());
        for leaf in leaves.filter(|leaf| leaf.place == NOWHERE) {
            let Some(place) = self.places.take(now) else {
                return;
            };
            at.places.store(place as usize, pack(leaf.sides));
            leaf.place = place;
            self.homeless -= 1;
        }
    }

    /// For each of the first words the place of the longest prefix that holds all of it.
    fn others(&self) -> Vec<u32> {
        let mut others = vec![NOBODY; ROOTS];
        // A shorter one comes before those within it.
        for (prefix, leaf) in &self.short {
            if let Some(others) = others.get_mut(roots(*prefix)) {
                others.fill(leaf.place);
            }
        }
        others
    }

    /// Makes what one of the first words names; nothing if there is no room.
    fn root(&mut self, root: usize, other: u32, lines: &dyn Memory, now: Instant) -> Option<u32> {
        let base = (root as u32) << (32 - ROOT_BITS);
        let inside = self.long.range((base, 0)..=(base | 0xffff, 32));
        let inside: Vec<Named> = inside.map(|(prefix, leaf)| (*prefix, leaf.place)).collect();
        if other == NOWHERE || inside.iter().any(|(_, place)| *place == NOWHERE) {
            return None;
        }
        let mut making = Making {
            free: &mut self.lines,
            made: Vec::new(),
            lines,
            now,
        };
        let word = making.word(&inside, (base, ROOT_BITS), other);
        if word.is_none() {
            let unseen = making.made;
            self.lines.free.extend(unseen);
        }
        word
    }
}

/// A prefix and its place.
type Named = (Prefix, u32);

/// What hangs from one of the first words, in the making.
struct Making<'a> {
    free: &'a mut Free,
    made: Vec<u32>,
    lines: &'a dyn Memory,
    now: Instant,
}

impl Making<'_> {
    /// Makes what a word of so many bits names: the prefixes inside, which are longer, and what counts where none of them is.
    fn word(&mut self, inside: &[Named], (base, bits): (u32, u32), other: u32) -> Option<u32> {
        if inside.is_empty() {
            return Some(name(kind::ONE, other));
        }
        let line = self.free.take(self.now)?;
        self.made.push(line);
        if inside.len() <= FEW {
            put_line(self.lines, line, few(inside, other));
            return Some(name(kind::FEW, line));
        }
        let (mut words, mut others) = ([0; 16], [other; 16]);
        let bits = bits + STEP;
        let mut rest = inside;
        for index in 0..16 {
            let base = base | (index as u32) << (32 - bits);
            let last = base | u32::MAX.checked_shr(bits).unwrap_or_default();
            let (mut here, after) = rest.split_at(rest.partition_point(|((network, _), _)| *network <= last));
            rest = after;
            // Those that hold all of this word come first, the shorter ones before the longer ones; they may hold later words too.
            while let Some((((_, length), place), longer)) = here.split_first()
                && u32::from(*length) <= bits
            {
                let count = 1 << (bits - u32::from(*length));
                others
                    .iter_mut()
                    .skip(index)
                    .take(count)
                    .for_each(|other| *other = *place);
                here = longer;
            }
            words[index] = self.word(here, (base, bits), others[index])?;
        }
        put_line(self.lines, line, words);
        Some(name(kind::MANY, line))
    }
}

/// The first words that a prefix concerns.
fn roots((network, length): Prefix) -> Range<usize> {
    let first = (network >> (32 - ROOT_BITS)) as usize;
    first..first + (1 << ROOT_BITS.saturating_sub(u32::from(length)))
}

/// Up to [`FEW`] prefixes in a line, the longest first; and what counts if it is none of them.
fn few(inside: &[(Prefix, u32)], other: u32) -> [u32; 16] {
    let mut sorted = inside.to_vec();
    sorted.sort_by_key(|((_, length), _)| std::cmp::Reverse(*length));
    let mut words = [0; 16];
    let (head, entries) = words.split_at_mut(2);
    head[0] = other;
    for (entry, ((network, length), place)) in entries.chunks_exact_mut(2).zip(sorted) {
        entry.copy_from_slice(&[network, place << SHIFT_BITS | (32 - u32::from(length))]);
    }
    words
}

fn name(kind: u32, index: u32) -> u32 {
    index << kind::BITS | kind
}

fn unname(word: u32) -> (u32, usize) {
    (word & ((1 << kind::BITS) - 1), (word >> kind::BITS) as usize)
}

/// Both sides in one word, as `struct rf_class`.
fn pack([first, second]: Sides) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// A word of 4 bytes: every store is of 8, half of which stays as it is, and nobody else stores.
fn load(lines: &dyn Memory, at: usize) -> u32 {
    (lines.load(at / 2) >> (at % 2 * 32)) as u32
}

fn store(lines: &dyn Memory, at: usize, value: u32) {
    let shift = at % 2 * 32;
    let rest = lines.load(at / 2) & !(u64::from(u32::MAX) << shift);
    lines.store(at / 2, rest | u64::from(value) << shift);
}

fn put_line(lines: &dyn Memory, line: u32, words: [u32; 16]) {
    for (pair, at) in words.chunks_exact(2).zip(line as usize * LINE_WORDS..) {
        if let [first, second] = pair {
            lines.store(at, u64::from(*first) | u64::from(*second) << 32);
        }
    }
}

/// The lines that hang from a word of so many bits.
fn lines_of(lines: &dyn Memory, word: u32, bits: u32, found: &mut Vec<u32>) {
    let (kind, line) = unname(word);
    if kind == kind::FEW || kind == kind::MANY {
        found.push(line as u32);
    }
    if kind == kind::MANY && bits < 32 {
        (0..16).for_each(|index| lines_of(lines, load(lines, line * 16 + index), bits + STEP, found));
    }
}

/// What of the memory programs may look at.
struct Used {
    lines: Vec<bool>,
    places: Vec<bool>,
}

impl Used {
    /// Takes note of what a word of so many bits names.
    fn mark(&mut self, lines: &dyn Memory, word: u32, bits: u32) {
        let (kind, index) = unname(word);
        let words = (0..16).map(|at| load(lines, index * 16 + at));
        match kind {
            kind::ONE => note(&mut self.places, index),
            kind::FEW => {
                note(&mut self.lines, index);
                let words: Vec<u32> = words.collect();
                let entries = words.chunks_exact(2).skip(1);
                let places = entries.map(|entry| entry.iter().skip(1).map(|place| place >> SHIFT_BITS).sum());
                for place in words.iter().take(1).copied().chain(places) {
                    note(&mut self.places, place as usize);
                }
            }
            kind::MANY if bits < 32 => {
                note(&mut self.lines, index);
                words.for_each(|word| self.mark(lines, word, bits + STEP));
            }
            _ => {}
        }
    }
}

fn note(used: &mut [bool], index: usize) {
    if let Some(used) = used.get_mut(index) {
        *used = true;
    }
}

/// What is free of one kind, and what will be.
#[derive(Debug)]
struct Free {
    free: Vec<u32>,
    /// These were never used.
    fresh: Range<u32>,
    left: VecDeque<(Instant, u32)>,
}

/// How long a packet may be under way in what was left; with a wide margin.
pub const UNDER_WAY: Duration = Duration::from_millis(50);

impl Free {
    /// All but the first so many and those that are used, which are returned.
    fn but(first: usize, used: &[bool]) -> (Self, Vec<u32>) {
        let last = used.iter().rposition(|used| *used);
        let fresh = last.map_or(first, |last| first.max(last + 1));
        let begun = first as u32..fresh as u32;
        let (used_ones, free) = begun.partition(|index| used.get(*index as usize) == Some(&true));
        let all = Self {
            free,
            fresh: fresh as u32..used.len() as u32,
            left: VecDeque::new(),
        };
        (all, used_ones)
    }

    fn take(&mut self, now: Instant) -> Option<u32> {
        while let Some((since, index)) = self.left.front()
            && *since + UNDER_WAY <= now
        {
            self.free.push(*index);
            self.left.pop_front();
        }
        self.free.pop().or_else(|| self.fresh.next())
    }

    fn give(&mut self, indices: impl IntoIterator<Item = u32>, now: Instant) {
        self.left.extend(indices.into_iter().map(|index| (now, index)));
    }
}

#[cfg(test)]
mod tests;
