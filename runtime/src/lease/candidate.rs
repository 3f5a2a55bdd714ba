//! What a candidate makes of the lease that it sees. No I/O and no clock of its own.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// What to do with the lease.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// It is somebody else's.
    Wait,
    /// Store it so; if the API server does, it is won.
    Write(Box<Lease>),
}

pub(super) struct Candidate {
    name: String,
    identity: String,
    duration: Duration,
    /// As last read or written; `None` if there is none.
    stored: Option<Lease>,
    /// Since when the record has not changed, by our own clock.
    since: Option<Instant>,
    /// Until when we may act.
    until: Option<Instant>,
    /// Whether what is stored must be read before anything is written.
    unsure: bool,
}

impl Candidate {
    pub fn new(name: &str, identity: String, duration: Duration) -> Self {
        Self {
            name: name.to_owned(),
            identity,
            duration,
            stored: None,
            since: None,
            until: None,
            unsure: true,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Until when we may act, if we won at all.
    pub fn leads_until(&self) -> Option<Instant> {
        self.until
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.stored.as_ref()?.spec.as_ref()?;
        spec.holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }

    fn is_ours(&self) -> bool {
        self.holder() == Some(self.identity.as_str())
    }

    /// Whether the lease must be read before the next [`Self::step`]. A leader knows what it wrote.
    pub fn must_look(&self) -> bool {
        self.unsure || !self.is_ours()
    }

    /// What is stored may be another by now.
    pub fn unsure(&mut self) {
        self.unsure = true;
    }

    /// Takes what is stored.
    pub fn saw(&mut self, stored: Option<Lease>, now: Instant) {
        // Each write of a record gives it another version, whatever its writer's clock says.
        let version = |lease: &Option<Lease>| {
            let lease = lease.as_ref()?;
            Some((
                lease.metadata.uid.clone(),
                lease.metadata.resource_version.clone(),
            ))
        };
        if version(&stored) != version(&self.stored) || self.since.is_none() {
            self.since = Some(now);
        }
        self.stored = stored;
        self.unsure = false;
        if !self.is_ours() {
            self.until = None;
        }
    }

    /// What to do now; `time` is what people read in the record.
    pub fn step(&self, now: Instant, time: Timestamp) -> Step {
        let free = self.holder().is_none() || self.is_ours() || self.runs_out().is_some_and(|end| end <= now);
        if !free {
            return Step::Wait;
        }
        let spec = self.stored.as_ref().and_then(|lease| lease.spec.as_ref());
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        let acquired = spec.and_then(|spec| spec.acquire_time.clone());
        let seconds = i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX);
        Step::Write(Box::new(Lease {
            metadata: self.metadata(),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds.max(1)),
                renew_time: Some(MicroTime(time)),
                acquire_time: match acquired {
                    Some(acquired) if self.is_ours() => Some(acquired),
                    _ => Some(MicroTime(time)),
                },
                lease_transitions: Some(transitions.saturating_add(i32::from(!self.is_ours()))),
                ..LeaseSpec::default()
            }),
        }))
    }

    /// What we wrote is stored; `asked` is from before the request was sent.
    pub fn won(&mut self, stored: Lease, asked: Instant) {
        self.saw(Some(stored), asked);
        self.until = Some(asked + self.duration * 3 / 4);
    }

    /// The record that lets the next one begin; `None` if it is not ours to give.
    pub fn release(&mut self, time: Timestamp) -> Option<Lease> {
        self.until = None;
        if !self.is_ours() {
            return None;
        }
        let spec = self.stored.as_ref()?.spec.clone()?;
        Some(Lease {
            metadata: self.metadata(),
            spec: Some(LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                renew_time: Some(MicroTime(time)),
                ..spec
            }),
        })
    }

    /// How long to wait before the next round.
    pub fn pause(&self, now: Instant) -> Duration {
        if self.is_ours() {
            // A quarter of the duration behind the last time that a renewal was asked for, however long that took; not without rest if it failed.
            let next = self.until.map(|until| until - self.duration / 2);
            let rest = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
            return rest.max(self.duration / 16);
        }
        let end = self.runs_out().map(|end| end.saturating_duration_since(now));
        let often = self.duration / 8;
        // One that ran out and could not be taken is tried again, but not without rest.
        end.filter(|rest| !rest.is_zero())
            .map_or(often, |rest| rest.min(often))
    }

    /// When somebody else's lease runs out: by the duration that it says, and never sooner than by ours.
    fn runs_out(&self) -> Option<Instant> {
        let spec = self.stored.as_ref()?.spec.as_ref()?;
        let said = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let duration = Duration::from_secs(said.unwrap_or_default()).max(self.duration);
        Some(self.since? + duration)
    }

    fn metadata(&self) -> ObjectMeta {
        match &self.stored {
            Some(lease) => ObjectMeta {
                managed_fields: None,
                ..lease.metadata.clone()
            },
            None => ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(2);

    /// An API server with one lease, which is stored only over the version that is named.
    #[derive(Default)]
    struct Server {
        lease: Option<Lease>,
        version: u64,
    }

    impl Server {
        fn write(&mut self, mut lease: Lease) -> Option<Lease> {
            let current = self
                .lease
                .as_ref()
                .and_then(|lease| lease.metadata.resource_version.clone());
            if lease.metadata.resource_version != current {
                return None;
            }
            self.version += 1;
            lease.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(lease.clone());
            Some(lease)
        }
    }

    fn candidate(identity: &str) -> Candidate {
        Candidate::new("test", identity.to_owned(), DURATION)
    }

    /// One round as the shell makes it; whether the candidate leads behind it.
    fn round(candidate: &mut Candidate, server: &mut Server, now: Instant) -> bool {
        if candidate.must_look() {
            candidate.saw(server.lease.clone(), now);
        }
        // The machines' clocks differ by years, and it does not matter.
        let years = if candidate.identity() == "a" {
            0
        } else {
            4_000_000_000
        };
        if let Step::Write(lease) = candidate.step(now, Timestamp::from_second(years).unwrap()) {
            match server.write(*lease) {
                Some(stored) => candidate.won(stored, now),
                None => candidate.unsure(),
            }
        }
        candidate.leads_until().is_some_and(|until| until > now)
    }

    #[test]
    fn the_first_one_takes_it_and_the_second_waits_as_long_as_it_is_renewed() {
        let (mut server, mut now) = (Server::default(), Instant::now());
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        for _ in 0..100 {
            assert!(round(&mut a, &mut server, now));
            assert!(!round(&mut b, &mut server, now));
            now += DURATION / 4;
        }
        let spec = server.lease.unwrap().spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[test]
    fn a_leader_that_crashed_is_replaced_and_had_stopped_before() {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        assert!(round(&mut a, &mut server, start));
        let mut now = start + Duration::from_millis(200); // b comes later, and sees it later
        while !round(&mut b, &mut server, now) {
            let pause = b.pause(now);
            assert!(!pause.is_zero() && pause <= DURATION / 8);
            now += pause;
        }
        assert!(a.leads_until().unwrap() + DURATION / 4 <= now, "two leaders");
        assert!(now - start <= Duration::from_millis(2200), "{:?}", now - start);
        assert!(
            !round(&mut a, &mut server, now),
            "the old one comes back, renews in vain, and looks"
        );
        assert!(!round(&mut a, &mut server, now));
        assert_eq!(a.leads_until(), None);
    }

    #[test]
    fn of_two_that_take_it_at_once_one_wins() {
        let (mut server, now) = (Server::default(), Instant::now());
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        a.saw(None, now);
        b.saw(None, now);
        let leads = [round(&mut a, &mut server, now), round(&mut b, &mut server, now)];
        assert_eq!(leads, [true, false]);
    }

    #[test]
    fn one_that_is_released_is_taken_at_once() {
        let (mut server, now) = (Server::default(), Instant::now());
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        assert!(round(&mut a, &mut server, now));
        assert!(!round(&mut b, &mut server, now));
        let release = a.release(Timestamp::now()).unwrap();
        assert!(server.write(release).is_some());
        assert!(round(&mut b, &mut server, now));
        assert_eq!(
            a.release(Timestamp::now()).map(|lease| server.write(lease)),
            Some(None),
            "not twice"
        );
    }

    #[test]
    fn a_process_that_starts_again_under_its_name_goes_on_at_once() {
        let (mut server, now) = (Server::default(), Instant::now());
        assert!(round(&mut candidate("a"), &mut server, now));
        assert!(round(&mut candidate("a"), &mut server, now));
    }
}
