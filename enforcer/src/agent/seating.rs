//! Which veth is which pod's, brought to the kernel.

use std::collections::BTreeSet;
use std::time::Instant;

use super::pace::Look;
use super::{Agent, Error};
use crate::datapath::{self, Endpoint, detach};
use crate::encode::plan::Endpoints;
use crate::encode::tables::Encoder;
use crate::filters;
use crate::seats::{Pods, Seats};
use crate::settings::SourceCheck;

impl Agent {
    /// Whether a veth is closed for not being known, or a pod has none.
    pub(super) fn is_waiting(&self) -> bool {
        let closed = |seat: &crate::seats::Seat| seat.address.is_none() && seat.closed.is_some();
        !self.closed.is_empty() || self.seats.iter().any(closed) || self.seats.missing(self.rules.pods()) > 0
    }

    /// Finds the veths that there are and whose they are, and says so to the kernel. What fails at one interface is told in the end.
    pub(super) fn seat(&mut self, look: Look) -> Result<Result<(), Error>, Error> {
        let gone = match look {
            Look::AtAll => self.seats.survey(&self.links.veths()?),
            Look::AtUnknown | Look::No => {
                let met = self.closed.values().map(|(veth, _)| veth);
                met.filter_map(|veth| self.seats.meet(veth)).collect()
            }
        };
        self.gone.extend(gone);
        // Before another veth of the same index is given its place.
        while let Some(ifindex) = self.gone.first().copied() {
            self.maps.evict(ifindex)?;
            self.sync.forget(ifindex);
            self.gone.remove(&ifindex);
        }
        for (ifindex, (_, since)) in std::mem::take(&mut self.closed) {
            if let Some(seat) = self.seats.get_mut(ifindex).filter(|seat| seat.address.is_none()) {
                (seat.closed, seat.attached) = (Some(since), true);
            }
        }
        if self.rules.pods().is_one_unaddressed() || !self.seats.unknown().is_empty() {
            self.results.refresh();
        }
        self.rules.pods_mut().learn(self.results.claims());
        self.find_pods()?;
        let seated = self.seats.iter().filter(|seat| seat.address.is_some()).count();
        self.maps.flows.divide(seated);
        let mut failure = None;
        self.unseated.clear();
        for seat in self.seats.iter() {
            let ifindex = seat.veth.ifindex;
            let pods = self.rules.pods();
            let Some(address) = seat.address.filter(|address| pods.has(address)) else {
                continue;
            };
            let endpoint = Endpoint {
                ifindex,
                addresses: pods.addresses(&address),
                via: seat.veth.via(),
                lax: self.settings.source_check == SourceCheck::Isolated,
            };
            if let Err(error) = self.maps.admit(ifindex).and_then(|()| self.maps.bind(endpoint)) {
                self.unseated.insert(ifindex);
                failure.get_or_insert(error);
            }
        }
        Ok(failure.map_or(Ok(()), |error| Err(error.into())))
    }

    /// Puts the filters on the veths whose pod is known and that have none.
    pub(super) fn attach(&mut self) -> Result<(), Error> {
        let pods = self.rules.pods();
        let bare: Vec<u32> = self
            .seats
            .iter()
            .filter(|seat| !seat.attached && seat.address.is_some_and(|address| pods.has(&address)))
            .filter(|seat| !self.unseated.contains(&seat.veth.ifindex))
            .map(|seat| seat.veth.ifindex)
            .collect();
        let mut failure: Option<datapath::Error> = None;
        for ifindex in bare {
            if let Err(error) = filters::put(&self.hooks, &mut self.links, ifindex) {
                failure.get_or_insert(error);
            } else if let Some(seat) = self.seats.get_mut(ifindex) {
                (seat.attached, seat.closed) = (true, None);
                self.maps.look_at(ifindex);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes note of how long new pods were closed that the container runtime knew.
    pub(super) fn note_opened(&mut self) {
        for (ifindex, address) in self.seats.newly_ruled(self.rules.pods()) {
            // What was there before this agent did not wait for it.
            if let Some(written) = self.results.since(&address).filter(|_| self.tidied) {
                let waited = written.elapsed().unwrap_or_default();
                self.metrics.opening_seconds.observe(waited.as_secs_f64());
                tracing::debug!(ifindex, %address, ?waited, "a new pod is under its rules");
            }
        }
    }

    /// Looks behind the veths whose pod is not known.
    fn find_pods(&mut self) -> Result<(), Error> {
        let missed = std::mem::take(&mut self.look_for_missed);
        let awaited = self.seats.is_awaited(self.rules.pods());
        for veth in self.seats.unknown() {
            let addresses = match self.links.addresses_behind(&veth) {
                Ok(addresses) => addresses,
                Err(error) => {
                    // Its namespace may have gone between the two questions.
                    tracing::debug!(ifindex = veth.ifindex, %error, "the addresses behind a veth could not be read");
                    continue;
                }
            };
            let pods = self.rules.pods();
            let own = addresses.iter().find(|address| pods.has(address)).copied();
            // It may have become the port of a bridge since it was closed.
            let now = match own.map(|_| self.links.veth(veth.ifindex)) {
                None => veth,
                Some(Ok(Some(now))) if now.is_same(&veth) => now,
                Some(Ok(_)) => continue, // it is gone, which is told next
                Some(Err(error)) => {
                    tracing::debug!(ifindex = veth.ifindex, %error, "a veth could not be asked for");
                    continue;
                }
            };
            let Some(seat) = self.seats.get_mut(veth.ifindex) else {
                continue;
            };
            seat.veth = now;
            seat.strangers = addresses
                .iter()
                .any(|address| self.rules.pods().is_strangers(address));
            if let Some(address) = own {
                tracing::debug!(ifindex = veth.ifindex, %address, "a pod's veth was found");
                (seat.address, seat.closed) = (Some(address), None);
            } else if missed
                && (awaited || seat.strangers)
                && seat.closed.is_none()
                && self.links.is_kept_in(&veth, &self.settings.netns_path)?
            {
                self.maps.admit(veth.ifindex)?;
                filters::put(&self.hooks, &mut self.links, veth.ifindex)?;
                (seat.closed, seat.attached) = (Some(Instant::now()), true);
            }
        }
        Ok(())
    }

    /// Opens closed veths that turned out to be nobody's.
    pub(super) fn let_go(&mut self) -> Result<(), Error> {
        for ifindex in self
            .seats
            .nobodys(self.rules.pods(), self.settings.let_go_after(), Instant::now())
        {
            tracing::info!(
                ifindex,
                "a veth was closed as a new pod's, but every pod has its own: let go"
            );
            detach(ifindex)?;
            self.maps.evict(ifindex)?;
            if let Some(seat) = self.seats.get_mut(ifindex) {
                (seat.closed, seat.attached) = (None, false);
            }
        }
        Ok(())
    }
}

/// Whose rules apply where. A pod that is no more has no entry, and its veth is closed while it lasts; so is one whose rules are not
/// known.
pub(super) fn endpoints(
    seats: &Seats,
    pods: &Pods,
    encoder: &Encoder,
    unseated: &BTreeSet<u32>,
) -> Endpoints {
    let seated = seats.iter().filter(|seat| !unseated.contains(&seat.veth.ifindex));
    let known = seated.filter_map(|seat| {
        let (ingress, egress) = pods.rulesets(&seat.address?)?;
        let rulesets = (encoder.ruleset(ingress)?, encoder.ruleset(egress)?);
        Some((seat.veth.ifindex, rulesets))
    });
    known.collect()
}
