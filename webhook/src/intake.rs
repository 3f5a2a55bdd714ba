//! How much memory requests may hold while they come in and wait for their turn. Each address may hold as much as is left free: one that
//! sends slowly, or a lot, has at most half of all, two have a third each, and for others there is always room.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a request counts for beside its body.
const REQUEST: usize = 16 << 10;

/// The memory for all requests.
#[derive(Debug)]
pub struct Intake {
    limit: usize,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// What one request holds, until it is dropped.
#[derive(Debug)]
pub struct Room {
    address: IpAddr,
    bytes: usize,
    intake: Arc<Intake>,
}

impl Intake {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Room for a request without its body; `None` if its address has its share.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Room> {
        self.take(address, REQUEST).then(|| Room {
            address,
            bytes: REQUEST,
            intake: Arc::clone(self),
        })
    }

    fn take(&self, address: IpAddr, bytes: usize) -> bool {
        let mut held = self.held.lock();
        let own = held.by_address.get(&address).copied().unwrap_or_default();
        let own = own.saturating_add(bytes);
        let all = held.all.saturating_add(bytes);
        if own > self.limit.saturating_sub(all) {
            return false;
        }
        held.all = all;
        held.by_address.insert(address, own);
        true
    }

    fn give_back(&self, address: IpAddr, bytes: usize) {
        let mut held = self.held.lock();
        held.all = held.all.saturating_sub(bytes);
        if let Some(own) = held.by_address.get_mut(&address) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                held.by_address.remove(&address);
            }
        }
        drop(held);
        self.freed.notify_waiters();
    }
}

impl Room {
    /// Waits until there is room for so much more. All of a body is taken at once: bodies that each have the half of what they need would
    /// wait for each other.
    pub async fn grow(&mut self, bytes: usize) {
        loop {
            let freed = self.intake.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // What is given back from here on is not missed.
            freed.as_mut().enable();
            if self.intake.take(self.address, bytes) {
                self.bytes += bytes;
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.intake.give_back(self.address, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test]
    async fn an_address_holds_as_much_as_is_left_free_and_waits_for_more() {
        let intake = Intake::new(100 * REQUEST);
        let mut greedy: Vec<Room> = std::iter::from_fn(|| intake.enter(address(1))).collect();
        assert_eq!(greedy.len(), 50, "half of all");
        let mut other = intake.enter(address(2)).unwrap();
        other
            .grow(20 * REQUEST)
            .now_or_never()
            .expect("there is room for another");
        let mut last = greedy.pop().unwrap();
        assert!(last.grow(20 * REQUEST).now_or_never().is_none());
        greedy.truncate(10);
        last.grow(20 * REQUEST).now_or_never().expect("it came free");
        drop((greedy, other, last));
        let held = intake.held.lock();
        assert_eq!((held.all, held.by_address.len()), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_is_given_back() {
        let intake = Intake::new(10 * REQUEST);
        let mut first = intake.enter(address(1)).unwrap();
        first.grow(4 * REQUEST).await;
        let mut second = intake.enter(address(2)).unwrap();
        let waiting = tokio::spawn(async move {
            second.grow(3 * REQUEST).await;
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
    }
}
