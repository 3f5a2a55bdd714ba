//! How addresses and prefixes turn by a change: which peers they gain and lose. Ever so many turn alike, so that each way is kept once.

use std::collections::BTreeMap;

use super::PeerIx;

/// A way to turn; good for an index, and for one change only.
pub(super) type TurnIx = u32;

/// It neither gains nor loses anything.
pub(super) const NOT: TurnIx = 0;
/// It is to be looked at anew.
pub(super) const ANEW: TurnIx = 1;

/// Peers that match now and did not, and the other way round; each sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    pub(super) gained: Vec<PeerIx>,
    pub(super) lost: Vec<PeerIx>,
}

/// A step on a way: from where, by which peer, and whether it is gained.
type Step = (TurnIx, PeerIx, bool);

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// But for the two that are no such ways.
    ways: Vec<Turn>,
    steps: BTreeMap<Step, TurnIx>,
    /// Mostly the same step is taken again and again.
    last: Option<(Step, TurnIx)>,
}

impl Turns {
    /// What becomes of a turn if a peer is gained, or lost.
    pub(super) fn step(&mut self, from: TurnIx, peer: PeerIx, gained: bool) -> TurnIx {
        let step = (from, peer, gained);
        match self.last {
            Some((last, to)) if last == step => return to,
            _ if from == ANEW => return ANEW,
            _ => {}
        }
        let to = match self.steps.get(&step) {
            Some(to) => *to,
            None => self.go(step),
        };
        self.steps.insert(step, to);
        self.last = Some((step, to));
        to
    }

    fn go(&mut self, (from, peer, gained): Step) -> TurnIx {
        let mut way = self.get(from).cloned().unwrap_or_default();
        let list = if gained { &mut way.gained } else { &mut way.lost };
        match list.binary_search(&peer) {
            Ok(_) => return from,
            Err(place) => list.insert(place, peer),
        }
        self.ways.push(way);
        self.ways.len() as TurnIx + ANEW
    }

    /// Nothing for what gains and loses nothing, or is to be looked at anew.
    pub(super) fn get(&self, turn: TurnIx) -> Option<&Turn> {
        self.ways.get((turn.checked_sub(ANEW + 1)?) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_way_is_the_same_turn() {
        let mut turns = Turns::default();
        let both = |turns: &mut Turns| {
            let one = turns.step(NOT, 7, true);
            turns.step(one, 5, false)
        };
        let (a, b) = (both(&mut turns), both(&mut turns));
        assert_eq!(a, b);
        assert_eq!(turns.step(a, 5, false), a, "it is lost already");
        let turn = turns.get(a).unwrap();
        assert_eq!((&turn.gained[..], &turn.lost[..]), (&[7][..], &[5][..]));
        assert_eq!(turns.step(ANEW, 7, true), ANEW);
        assert!(turns.get(NOT).is_none() && turns.get(ANEW).is_none());
    }
}
