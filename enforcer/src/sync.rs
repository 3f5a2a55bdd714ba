//! Brings the maps to what the rules ask for, and keeps them there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringfence_netpol::compile::Delta;

use crate::encode::Overflow;
use crate::encode::ids::Epoch;
use crate::encode::plan::{Endpoints, Room, is_turned, next_generation, plan, sweep};
use crate::encode::state::{State, Write};
use crate::encode::tables::Encoder;

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
    /// Whether the encoder has to be told everything anew.
    behind: bool,
    generation: u32,
    /// Unknown at first and after a failure; it is then read anew.
    state: Option<State>,
    /// What was brought to the maps and is still to be swept, and since when no packet begins under what was before.
    flipped: VecDeque<(Epoch, Instant)>,
}

impl<S: Store> Sync<S> {
    pub fn new(store: S, room: Room) -> Self {
        Self {
            store,
            room,
            encoder: Encoder::default(),
            behind: true,
            generation: 1,
            state: None,
            flipped: VecDeque::new(),
        }
    }

    /// What is judged from now on bears a later generation than this one.
    pub fn begin_after(&mut self, generation: u32) {
        self.generation = self.generation.max(next_generation(generation, false));
    }

    /// What the maps hold, if it is known.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Takes note that an endpoint is no more, and its word with it.
    pub fn forget(&mut self, ifindex: u32) {
        if let Some(state) = &mut self.state {
            state.words.remove(&ifindex);
        }
    }

    /// Takes note of what changed of the rules. Nothing is in force before [`Self::apply`].
    pub fn take(&mut self, delta: &Delta) {
        // What cannot be numbered is said when it is to be applied.
        self.behind = self.behind || self.encoder.take(delta).is_err();
    }

    /// Brings the rules into force for the endpoints that `endpoints` names; `everything` says all of them, and is asked only if it is
    /// needed. If it fails, the rules that were in force before still are, and the next call starts from what the maps then hold.
    pub fn apply(
        &mut self,
        everything: impl FnOnce() -> Delta,
        endpoints: impl FnOnce(&Encoder) -> Endpoints,
    ) -> Result<Done, Error<S::Error>> {
        if self.sweep_due().is_some_and(|due| due <= Instant::now()) {
            self.sweep()?;
        }
        let state = self.take_state()?;
        let state = self.state.insert(state);
        if self.behind {
            self.encoder.replace(&everything(), state)?;
            self.behind = false;
        }
        let endpoints = endpoints(&self.encoder);
        let wanted = (&self.encoder.tables, &self.encoder.pending);
        let plan = plan(state, wanted, &endpoints, self.generation, &self.room)?;
        let done = Done {
            writes: plan.make.iter().map(Write::len).sum(),
            flips: plan.flip.len(),
        };
        let is_empty = plan.is_empty();
        for writes in [plan.make, plan.flip] {
            if let Err(error) = self.store.write(&writes) {
                self.state = None;
                return Err(Error::Store(error));
            }
            writes.into_iter().for_each(|write| state.take(write));
        }
        self.generation = plan.generation;
        if !is_empty || self.encoder.is_news() {
            self.flipped.push_back((self.encoder.turn(), Instant::now()));
        }
        Ok(done)
    }

    /// When a sweep is due.
    pub fn sweep_due(&self) -> Option<Instant> {
        self.flipped.front().map(|(_, at)| *at + UNDER_WAY)
    }

    /// Removes what nothing refers to any more, nor any packet that is under way.
    pub fn sweep(&mut self) -> Result<(), Error<S::Error>> {
        let now = Instant::now();
        let over = self.flipped.iter().take_while(|(_, at)| *at + UNDER_WAY <= now);
        let Some((epoch, _)) = over.last().copied() else {
            return Ok(());
        };
        self.sweep_to(epoch)
    }

    fn sweep_to(&mut self, epoch: Epoch) -> Result<(), Error<S::Error>> {
        let state = self.take_state()?;
        let state = self.state.insert(state);
        let wanted = (&self.encoder.tables, &self.encoder.pending);
        let writes = sweep(state, wanted, self.generation, epoch);
        if let Err(error) = self.store.write(&writes) {
            self.state = None;
            return Err(Error::Store(error));
        }
        writes.into_iter().for_each(|write| state.take(write));
        self.encoder
            .swept(epoch, is_turned(state, self.generation), state);
        self.flipped.retain(|(flipped, _)| *flipped > epoch);
        Ok(())
    }

    fn take_state(&mut self) -> Result<State, Error<S::Error>> {
        if let Some(state) = self.state.take() {
            return Ok(state);
        }
        let state = self.store.dump().map_err(Error::Store)?;
        self.encoder.reserve(&state);
        self.behind = true;
        self.generation = state
            .words
            .values()
            .map(|word| word.generation)
            .max()
            .unwrap_or(self.generation);
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_netpol::cluster::Key;
    use ringfence_netpol::compile::Endpoint;
    use ringfence_netpol::port::Protocol;
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
                self.state.borrow_mut().take(write.clone());
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

    const SERVICE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));
    const RULESET: u32 = 5;

    /// A pod that is isolated, and so many Services.
    fn rules(services: u16) -> Delta {
        let endpoint = Endpoint {
            uid: String::new(),
            addresses: Vec::new(),
            ingress: Some(RULESET),
            egress: None,
        };
        Delta {
            endpoints: [(Key::new("x", "pod"), Some(endpoint))].into(),
            services: (0..services)
                .map(|port| ((SERVICE, Protocol::Tcp, port), true))
                .collect(),
            ..Delta::default()
        }
    }

    fn more(services: std::ops::Range<u16>, there: bool) -> Delta {
        Delta {
            services: services
                .map(|port| ((SERVICE, Protocol::Tcp, port), there))
                .collect(),
            ..Delta::default()
        }
    }

    fn seat(encoder: &Encoder) -> Endpoints {
        let ruleset = encoder.ruleset(Some(RULESET)).unwrap();
        Endpoints::from([(7, (ruleset, encoder.ruleset(None).unwrap()))])
    }

    #[test]
    fn after_a_failure_the_next_call_finishes_the_work() {
        let maps = Fickle::default();
        let mut sync = Sync::new(&maps, ROOM);
        for left in 0..2 {
            maps.left.set(left);
            assert!(matches!(
                sync.apply(|| rules(2), seat),
                Err(Error::Store(Refused))
            ));
            assert!(
                maps.state.borrow().words.is_empty(),
                "nothing is in force before all of it is there"
            );
        }
        maps.left.set(10);
        sync.apply(|| rules(2), seat).unwrap();
        assert_eq!(
            (
                maps.state.borrow().words.len(),
                maps.state.borrow().services.len()
            ),
            (1, 2)
        );
        assert_eq!(
            sync.apply(|| panic!("it knows all"), seat).unwrap(),
            Done::default(),
            "then there is nothing to do"
        );
    }

    #[test]
    fn what_does_not_fit_changes_nothing_until_it_fits() {
        let maps = Fickle::default();
        maps.left.set(10);
        let mut sync = Sync::new(&maps, ROOM);
        sync.apply(|| rules(1), seat).unwrap();
        let before = maps.state.borrow().clone();
        sync.take(&more(1..3, true));
        for _ in 0..2 {
            assert!(matches!(sync.apply(|| rules(3), seat), Err(Error::Overflow(_))));
            assert_eq!(*maps.state.borrow(), before);
        }
        sync.take(&more(2..3, false));
        sync.apply(|| rules(2), seat).unwrap();
        assert_eq!(maps.state.borrow().services.len(), 2);
    }

    #[test]
    fn a_change_that_is_taken_before_the_maps_are_known_is_not_lost() {
        let maps = Fickle::default();
        maps.left.set(10);
        let mut sync = Sync::new(&maps, ROOM);
        sync.take(&rules(1));
        sync.take(&more(1..2, true));
        sync.apply(|| rules(2), seat).unwrap();
        assert_eq!(maps.state.borrow().services.len(), 2);
    }

    #[test]
    fn what_is_gone_is_swept_when_no_packet_is_under_way_and_not_before() {
        let maps = Fickle::default();
        maps.left.set(100);
        let mut sync = Sync::new(&maps, ROOM);
        sync.apply(|| rules(2), seat).unwrap();
        sync.take(&more(0..1, false));
        sync.apply(|| rules(1), seat).unwrap();
        sync.sweep().unwrap();
        assert_eq!(maps.state.borrow().services.len(), 2, "it is too early");
        // The first change is long past, the second is not.
        sync.flipped[0].1 -= UNDER_WAY;
        sync.sweep().unwrap();
        assert_eq!(maps.state.borrow().services.len(), 2);
        assert_eq!(sync.flipped.len(), 1);
        sync.flipped[0].1 -= UNDER_WAY;
        sync.sweep().unwrap();
        assert_eq!(maps.state.borrow().services.len(), 1);
        assert_eq!(sync.sweep_due(), None);
    }
}
