use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Where everything is looked at after every single store, as a program may.
struct Cells<'a> {
    words: &'a RefCell<[Vec<u64>; 2]>,
    which: usize,
    watch: &'a RefCell<Watch>,
}

/// What was stored, as it is.
struct Plain<'a>(&'a [u64]);

impl Memory for Plain<'_> {
    fn load(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn store(&self, _: usize, _: u64) {}
}

impl Memory for Cells<'_> {
    fn load(&self, at: usize) -> u64 {
        self.words.borrow()[self.which]
            .get(at)
            .copied()
            .unwrap_or_default()
    }

    fn store(&self, at: usize, value: u64) {
        self.words.borrow_mut()[self.which][at] = value;
        let [lines, places] = &*self.words.borrow();
        self.watch.borrow_mut().look(&Plain(lines), &Plain(places));
    }
}

/// As the program finds it (tree.h); nothing where the kernel's table is to be asked.
fn find(lines: &dyn Memory, places: &dyn Memory, address: u32) -> Option<Sides> {
    let mut word = load(lines, (address >> 16) as usize);
    for shift in [12, 8, 4, 0] {
        let (kind, line) = unname(word);
        if kind != kind::MANY {
            break;
        }
        word = load(lines, line * 16 + (address >> shift & 15) as usize);
    }
    let (kind, index) = unname(word);
    let place = match kind {
        kind::ONE => index,
        kind::FEW => {
            let entries = (0..FEW).map(|at| {
                let [network, entry] = [2, 3].map(|word| load(lines, index * 16 + 2 * at + word));
                (network, entry & ((1 << SHIFT_BITS) - 1), entry >> SHIFT_BITS)
            });
            let found = entries
                .take_while(|(.., place)| *place != 0)
                .find(|(network, shift, _)| (network ^ address) >> shift == 0);
            found.map_or_else(|| load(lines, index * 16), |(.., place)| place) as usize
        }
        kind::ASK => return None,
        _ => panic!("five steps are too many"),
    };
    let classes = places.load(place);
    Some([classes as u32, (classes >> 32) as u32])
}

type Classes = BTreeMap<Prefix, u32>;

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or_default()
}

/// What the longest prefix of those that hold an address says.
fn longest<T: Copy>(prefixes: &BTreeMap<Prefix, T>, address: u32, up_to: u8) -> Option<T> {
    let lengths = (0..=up_to).rev();
    lengths
        .filter_map(|length| prefixes.get(&(address & mask(length), length)))
        .copied()
        .next()
}

fn says(prefixes: &Classes, address: u32) -> u32 {
    longest(prefixes, address, 32).unwrap_or_default()
}

/// Many in few places, so that they lie within each other and lines are full.
fn prefixes(most: usize) -> impl Strategy<Value = Classes> {
    let network = prop_oneof![
        8 => (0..2_u32, 0..4_u32, any::<u8>()).prop_map(|(a, b, c)| 0x0a00_0000 | a << 16 | b << 8 | u32::from(c)),
        4 => (0..2_u32, any::<u16>()).prop_map(|(a, b)| 0x0a00_0000 | a << 16 | u32::from(b)),
        1 => any::<u32>(),
    ];
    let length = prop_oneof![1 => 11..=16_u8, 3 => 17..=27_u8, 8 => 28..=32_u8];
    let prefix = (network, length).prop_map(|(network, length)| (network & mask(length), length));
    proptest::collection::btree_map(prefix, 1..1000_u32, 0..most)
}

/// Both ends of every prefix, and what is beside it.
fn probes<'a>(sets: impl IntoIterator<Item = &'a Classes>) -> Vec<u32> {
    let ends = sets
        .into_iter()
        .flat_map(Classes::keys)
        .flat_map(|(network, length)| {
            let last = network | !mask(*length);
            [*network, last, network.wrapping_sub(1), last.wrapping_add(1)]
        });
    let ends: BTreeSet<u32> = ends.collect();
    let every = ends.len() / 200 + 1;
    ends.into_iter().step_by(every).collect()
}

struct Clock(Cell<Instant>);

impl Clock {
    fn now(&self) -> Instant {
        self.0.get()
    }
}

/// What is in force, and where to look.
#[derive(Default)]
struct Watch {
    wanted: Classes,
    side: usize,
    probes: Vec<u32>,
    asked: usize,
}

impl Watch {
    fn look(&mut self, lines: &dyn Memory, places: &dyn Memory) {
        for address in &self.probes {
            match find(lines, places, *address) {
                Some(sides) => assert_eq!(
                    sides[self.side],
                    says(&self.wanted, *address),
                    "{} in {:?}",
                    std::net::Ipv4Addr::from(*address),
                    self.wanted
                ),
                None => self.asked += 1,
            }
        }
    }
}

/// One set of prefixes after the other, as plans bring them; and every so often somebody else takes over, also in the middle.
fn follow(sets: &[Classes], size: Size) -> usize {
    let watch = RefCell::new(Watch {
        probes: probes(sets),
        ..Watch::default()
    });
    let words = RefCell::new([vec![0; size.lines * LINE_WORDS], vec![0; size.places]]);
    let cells = [0, 1].map(|which| Cells {
        words: &words,
        which,
        watch: &watch,
    });
    let [lines, places] = &cells;
    let at = At { lines, places };
    let clock = Clock(Cell::new(Instant::now()));
    let mut table = BTreeMap::new();
    let mut tree = Tree::resume(size, [], at, || clock.now());
    let mut before = Classes::new();
    for (round, after) in sets.iter().enumerate() {
        let old = round % 2;
        let now = clock.now();
        let all: BTreeSet<Prefix> = table.keys().chain(after.keys()).copied().collect();
        for (index, prefix) in all.into_iter().enumerate() {
            let class = |of: &Classes| longest(of, prefix.0, prefix.1).unwrap_or_default();
            let mut sides = [class(after); 2];
            sides[old] = class(&before);
            table.insert(prefix, sides);
            tree.put(prefix, sides, at, now);
            if round % 3 == 1 && index == 5 {
                // Killed here; what is noted in the kernel's table is what counts.
                tree = Tree::resume(size, table.clone(), at, || clock.now());
            }
        }
        tree.settle(at, || clock.now());
        {
            let mut watch = watch.borrow_mut();
            watch.look(lines, places);
            (watch.wanted, watch.side) = (after.clone(), 1 - old);
            watch.look(lines, places);
        }
        clock.0.set(clock.now() + UNDER_WAY);
        for prefix in table.keys().copied().collect::<Vec<_>>() {
            match after.get(&prefix) {
                Some(class) => {
                    table.insert(prefix, [*class; 2]);
                    tree.put(prefix, [*class; 2], at, clock.now());
                }
                None => {
                    table.remove(&prefix);
                    tree.remove(prefix);
                }
            }
        }
        tree.settle(at, || clock.now());
        clock.0.set(clock.now() + UNDER_WAY);
        before = after.clone();
    }
    watch.borrow().asked
}

fn run(cases: u32, most: usize, check: impl Fn(&[Classes])) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&proptest::collection::vec(prefixes(most), 1..5), |sets| {
        check(&sets);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn after_every_store_each_address_is_of_the_prefixes_in_force_also_when_another_takes_over() {
    run(8, 60, |sets| assert_eq!(follow(sets, SIZE), 0));
}

#[test]
fn where_there_is_no_room_the_kernels_table_is_asked_and_nothing_wrong_is_said() {
    let asked = Cell::new(0);
    for (lines, places) in [(8, 2 * 240), (4096, 20), (3, 9)] {
        let size = Size {
            lines: ROOT_LINES + lines,
            places,
        };
        run(8, 60, |sets| asked.set(asked.get() + follow(sets, size)));
    }
    assert!(asked.get() > 0);
}

#[test]
fn nothing_is_lost_as_prefixes_come_and_go() {
    let words = RefCell::new([vec![0; SIZE.lines * LINE_WORDS], vec![0; SIZE.places]]);
    let watch = RefCell::new(Watch::default());
    let cells = [0, 1].map(|which| Cells {
        words: &words,
        which,
        watch: &watch,
    });
    let at = At {
        lines: &cells[0],
        places: &cells[1],
    };
    let clock = Clock(Cell::new(Instant::now()));
    let mut tree = Tree::resume(SIZE, [], at, || clock.now());
    // Twice as many lines as there are, one after the other.
    for round in 0..200_u32 {
        let some = |round: u32| (0..1000).map(move |host| (0x0b00_0000 + (host * 331 + round) * 16, 32));
        some(round).for_each(|prefix| tree.put(prefix, [1; 2], at, clock.now()));
        if round > 0 {
            some(round - 1).for_each(|prefix| tree.remove(prefix));
        }
        tree.settle(at, || clock.now());
        clock.0.set(clock.now() + UNDER_WAY);
    }
    assert_eq!(tree.asking(), 0);
    assert_eq!(tree.long.len(), 1000);
    let used = |free: &Free, all: usize| all - free.free.len() - free.fresh.len();
    assert!(used(&tree.places, SIZE.places) <= 2 * 1000 + 1);
    assert!(used(&tree.lines, SIZE.lines - ROOT_LINES) <= 3 * 1000);
}

#[test]
fn as_many_prefixes_as_there_may_be_have_room_wherever_they_are() {
    let words = RefCell::new([vec![0; SIZE.lines * LINE_WORDS], vec![0; SIZE.places]]);
    let watch = RefCell::new(Watch::default());
    let cells = [0, 1].map(|which| Cells {
        words: &words,
        which,
        watch: &watch,
    });
    let at = At {
        lines: &cells[0],
        places: &cells[1],
    };
    let now = Cell::new(Instant::now());
    let asking = |prefixes: &dyn Fn(u32) -> u32| {
        let prefixes = (0..44_000).map(|index| ((prefixes(index), 32), [1; 2]));
        let mut tree = Tree::resume(SIZE, prefixes, at, || now.get());
        let at_first = tree.asking();
        now.set(now.get() + UNDER_WAY);
        tree.settle(at, || now.get());
        assert_eq!(tree.asking(), 0);
        at_first
    };
    assert_eq!(asking(&|index| index), 0);
    assert_eq!(asking(&|index| index * 16), 0, "one in each line");
    assert!(
        asking(&|index| index * 97_612) > 0,
        "each by itself, while all others change"
    );
    let worst = |index| (index / 8) << 16 | (index % 8) << 4;
    assert!(asking(&worst) > 0);
}
