//! Who has a connection. There are so many places, and whoever takes the most of them loses one first: a pod that opens connections and
//! says nothing must not keep API servers out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// For how long a connection must have been silent for its own address to lose it to a newer one.
const SILENT: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub struct Places {
    limit: usize,
    begun: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    places: BTreeMap<u64, (IpAddr, Arc<Activity>)>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Activity {
    /// When it was last heard of, in milliseconds since the beginning.
    last: AtomicU64,
    out: AtomicBool,
    waker: AtomicWaker,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub struct Place {
    number: u64,
    activity: Arc<Activity>,
    places: Arc<Places>,
}

impl Places {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            begun: Instant::now(),
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from an address. If all are taken, the address that has the most loses the one that was silent longest: to
    /// others at once, to itself only if that one is silent indeed. `None`: there is no place.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let now = self.now();
        let mut taken = self.taken.lock();
        if taken.places.len() >= self.limit {
            let (number, greediest, last) = taken.first_to_go()?;
            let silent = now.saturating_sub(last) >= u64::try_from(SILENT.as_millis()).unwrap_or(u64::MAX);
            if greediest == address && !silent {
                return None;
            }
            if let Some((_, activity)) = taken.places.remove(&number) {
                activity.out.store(true, Ordering::Release);
                activity.waker.wake();
            }
        }
        let activity = Arc::new(Activity::default());
        activity.last.store(now, Ordering::Relaxed);
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, (address, Arc::clone(&activity)));
        Some(Place {
            number,
            activity,
            places: Arc::clone(self),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Taken {
    /// Of the address that has the most, the one that was silent longest: which, whose, and when it was last heard of.
    fn first_to_go(&self) -> Option<(u64, IpAddr, u64)> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (address, _) in self.places.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let (greediest, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let own = self
            .places
            .iter()
            .filter(|(_, (address, _))| *address == greediest);
        own.map(|(number, (_, activity))| (*number, greediest, activity.last.load(Ordering::Relaxed)))
            .min_by_key(|(_, _, last)| *last)
    }
}

impl Place {
    /// Notes that the connection was heard of.
    pub fn touch(&self) {
        self.activity.last.store(self.places.now(), Ordering::Relaxed);
    }

    /// Whether the place was lost to another; wakes when it is.
    pub fn is_lost(&self, context: &Context<'_>) -> bool {
        self.activity.waker.register(context.waker());
        self.activity.out.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn lost(place: &Place) -> bool {
        place.is_lost(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_has_the_most_makes_room_for_others_and_not_for_itself() {
        let places = Places::new(3);
        let first = places.take(address(1)).unwrap();
        let greedy = [places.take(address(2)).unwrap(), places.take(address(2)).unwrap()];
        assert!(
            places.take(address(2)).is_none(),
            "it has two, and both were heard of just now"
        );
        let other = places.take(address(3)).unwrap();
        assert!(lost(&greedy[0]) && !lost(&greedy[1]) && !lost(&first) && !lost(&other));
        drop(first);
        assert!(places.take(address(2)).is_some(), "a place came free");
    }

    #[test]
    fn an_address_loses_to_itself_what_has_long_been_silent() {
        let places = Places::new(2);
        let taken = [places.take(address(1)).unwrap(), places.take(address(1)).unwrap()];
        std::thread::sleep(SILENT + Duration::from_millis(50));
        taken[0].touch();
        let more = places.take(address(1)).unwrap();
        assert!(!lost(&taken[0]) && lost(&taken[1]) && !lost(&more));
        // What is out already takes no place with it.
        drop(taken);
        assert_eq!(places.taken.lock().places.len(), 1);
    }
}
