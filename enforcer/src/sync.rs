//! Brings the maps to what the rules ask for, and keeps them there.

use std::time::{Duration, Instant};

use ringfence_netpol::compile::NodeRules;

use crate::encode::Overflow;
use crate::encode::plan::{Endpoints, Room, plan, sweep};
use crate::encode::state::{State, Write};
use crate::encode::tables::{Encoder, Tables};

/// What holds the maps: the kernel, or a test.
pub trait Store {
    type Error: std::error::Error;

    /// What the maps hold.
    fn dump(&self) -> Result<State, Self::Error>;

    /// Makes writes, in their order.
    fn write(&self, writes: &[Write]) -> Result<(), Self::Error>;
}

#[derive(Debug, thiserror::Error)]
pub enum Error<E: std::error::Error> {
    #[error(transparent)]
    Overflow(#[from] Overflow),
    #[error(transparent)]
    Store(E),
}

/// What a synchronisation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub writes: usize,
    pub flips: usize,
}

/// How long a packet may be under way between reading an endpoint's word and the last look-up; with a wide margin.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// The maps, what they hold, and what they shall.
pub struct Sync<S> {
    store: S,
    room: Room,
    encoder: Encoder,
    tables: Tables,
    generation: u32,
    /// Unknown at first and after a failure; it is then read anew.
    state: Option<State>,
    /// When there was something to sweep.
    flipped: Option<Instant>,
}

impl<S: Store> Sync<S> {
    pub fn new(store: S, room: Room) -> Self {
        Self {
            store,
            room,
            encoder: Encoder::default(),
            tables: Tables::default(),
            generation: 1,
            state: None,
            flipped: None,
        }
    }

    /// What the maps hold, if it is known.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Brings rules into force for the endpoints that `endpoints` names. If it fails, the rules that were in force before still
    /// are, and the next call starts from what the maps then hold.
    pub fn apply(
        &mut self,
        rules: &NodeRules,
        endpoints: impl FnOnce(&Tables) -> Endpoints,
    ) -> Result<Done, Error<S::Error>> {
        if self.flipped.is_some_and(|at| at.elapsed() >= UNDER_WAY) {
            self.sweep()?;
        }
        let mut state = self.take_state()?;
        let planned = self.encoder.encode(rules).and_then(|tables| {
            let endpoints = endpoints(&tables);
            plan(&state, &tables, &endpoints, self.generation, &self.room).map(|plan| (tables, plan))
        });
        let (tables, plan) = match planned {
            Ok(planned) => planned,
            Err(overflow) => {
                self.state = Some(state);
                return Err(overflow.into());
            }
        };
        for writes in [&plan.make, &plan.flip] {
            self.store.write(writes).map_err(Error::Store)?;
            writes.iter().for_each(|write| state.take(write));
        }
        if !plan.is_empty() || tables != self.tables {
            self.flipped = Some(Instant::now());
        }
        (self.generation, self.tables, self.state) = (plan.generation, tables, Some(state));
        Ok(Done {
            writes: plan.make.len(),
            flips: plan.flip.len(),
        })
    }

    /// When a sweep is due.
    pub fn sweep_due(&self) -> Option<Instant> {
        self.flipped.map(|at| at + UNDER_WAY)
    }

    /// Removes what nothing refers to any more.
    pub fn sweep(&mut self) -> Result<(), Error<S::Error>> {
        let mut state = self.take_state()?;
        let writes = sweep(&state, &self.tables, self.generation);
        self.store.write(&writes).map_err(Error::Store)?;
        writes.iter().for_each(|write| state.take(write));
        state
            .port_sets
            .retain(|id, _| self.tables.port_sets.contains_key(id));
        self.encoder.retain(&state, &self.tables);
        (self.flipped, self.state) = (None, Some(state));
        Ok(())
    }

    fn take_state(&mut self) -> Result<State, Error<S::Error>> {
        if let Some(state) = self.state.take() {
            return Ok(state);
        }
        let state = self.store.dump().map_err(Error::Store)?;
        self.encoder.reserve(&state);
        self.generation = state
            .words
            .values()
            .map(|word| word.generation)
            .max()
            .unwrap_or(self.generation);
        self.flipped = Some(Instant::now());
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_netpol::compile::Ruleset;
    use ringfence_netpol::policy::Direction;
    use std::cell::{Cell, RefCell};

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused;

    /// Maps that refuse all writes after some.
    #[derive(Default)]
    struct Fickle {
        state: RefCell<State>,
        left: Cell<usize>,
    }

    impl Store for &Fickle {
        type Error = Refused;

        fn dump(&self) -> Result<State, Refused> {
            Ok(self.state.borrow().clone())
        }

        fn write(&self, writes: &[Write]) -> Result<(), Refused> {
            for write in writes {
                self.left.set(self.left.get().checked_sub(1).ok_or(Refused)?);
                self.state.borrow_mut().take(write);
            }
            Ok(())
        }
    }

    const ROOM: Room = Room {
        addresses: 2,
        prefixes: 2,
        decisions: 2,
        services: 2,
    };

    fn services(count: u16) -> NodeRules {
        let ruleset = Ruleset {
            direction: Direction::Ingress,
            rules: Vec::new(),
        };
        NodeRules {
            rulesets: vec![ruleset],
            service_ports: (0..count)
                .map(|port| ([10, 96, 0, 1].into(), ringfence_netpol::port::Protocol::Tcp, port))
                .collect(),
            ..NodeRules::default()
        }
    }

    fn seat(tables: &Tables) -> Endpoints {
        Endpoints::from([(7, (tables.ruleset(Some(0)), tables.ruleset(None)))])
    }

    #[test]
    fn after_a_failure_the_next_call_finishes_the_work() {
        let maps = Fickle::default();
        let mut sync = Sync::new(&maps, ROOM);
        for left in 0..2 {
            maps.left.set(left);
            assert!(matches!(
                sync.apply(&services(2), seat),
                Err(Error::Store(Refused))
            ));
            assert!(
                maps.state.borrow().words.is_empty(),
                "nothing is in force before all of it is there"
            );
        }
        maps.left.set(10);
        sync.apply(&services(2), seat).unwrap();
        assert_eq!(
            (
                maps.state.borrow().words.len(),
                maps.state.borrow().services.len()
            ),
            (1, 2)
        );
        assert_eq!(
            sync.apply(&services(2), seat).unwrap(),
            Done::default(),
            "then there is nothing to do"
        );
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let maps = Fickle::default();
        maps.left.set(10);
        let mut sync = Sync::new(&maps, ROOM);
        sync.apply(&services(1), seat).unwrap();
        let before = maps.state.borrow().clone();
        assert!(matches!(sync.apply(&services(3), seat), Err(Error::Overflow(_))));
        assert_eq!(*maps.state.borrow(), before);
        sync.apply(&services(2), seat).unwrap();
    }
}
