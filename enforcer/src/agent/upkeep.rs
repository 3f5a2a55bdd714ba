//! What is to be looked after besides the rules.

use super::{Agent, Error};
use crate::datapath::{Hooks, ROOM, detach};
use crate::encode::plan::Room;
use crate::encode::state::PORT_CLASSES;
use crate::filters;

impl Agent {
    /// Removes what agents before left and nothing needs any more: only now that this one's rules are in force, since until then
    /// another layout's filters may be what holds policy.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        for seat in self.seats.iter().filter(|seat| !seat.attached) {
            if Hooks::stand_at(seat.veth.ifindex) {
                tracing::info!(
                    ifindex = seat.veth.ifindex,
                    "removing the filters of an agent before from a veth that is no pod's"
                );
                detach(seat.veth.ifindex)?;
            }
        }
        Ok(self.pins.sweep()?)
    }

    /// Puts filters back that somebody else took away. The programs behind the node's translation are held by their pins, and only a new
    /// agent can put them back.
    pub(super) fn check_filters(&mut self) -> Result<(), Error> {
        let mut failure = None;
        for seat in self.seats.iter().filter(|seat| seat.attached) {
            let ifindex = seat.veth.ifindex;
            if !self.hooks.are_attached(ifindex) {
                tracing::warn!(
                    ifindex,
                    "a filter was taken away by somebody else; it is put back"
                );
                self.metrics
                    .failures
                    .with_label_values(&["filter_taken_away"])
                    .inc();
                failure = filters::put(&self.hooks, &mut self.links, ifindex)
                    .err()
                    .or(failure);
            }
        }
        let gone = self.pins.links_gone();
        if !gone.is_empty() {
            tracing::error!(
                ?gone,
                "netfilter programs were taken away by somebody else, so that Services are not judged by the pods behind them and new \
                 veths are not closed at once; end this agent, and the next one puts them back"
            );
            self.metrics
                .failures
                .with_label_values(&["netfilter_taken_away"])
                .inc();
        }
        self.ready.filters.set(gone.is_empty() && failure.is_none());
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes over what the kernel counted, and how full the tables are.
    pub(super) fn tell(&self) {
        let gauge = |vec: &prometheus::IntGaugeVec, label: &str, value: usize| {
            vec.with_label_values(&[label])
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        match self.maps.counts() {
            Ok(counts) => self.metrics.packets(&counts),
            Err(error) => tracing::debug!(%error, "the counters could not be read"),
        }
        if let Some(state) = self.sync.state() {
            let tables = [
                ("addresses", state.addresses.len(), ROOM.addresses),
                ("prefixes", state.prefixes.len(), ROOM.prefixes),
                ("decisions", state.decisions.len(), ROOM.decisions_at_once()),
                ("port_sets", state.port_sets.len(), Room::port_sets_at_once()),
                ("port_classes", state.port_classes_in_use(), PORT_CLASSES),
                ("services", state.services.len(), ROOM.services),
            ];
            for (map, entries, room) in tables {
                gauge(&self.metrics.map_entries, map, entries);
                gauge(&self.metrics.map_room, map, room);
            }
        }
        let known = self.seats.iter().filter_map(|seat| seat.address);
        let (known, ended): (Vec<_>, Vec<_>) = known.partition(|address| self.rules.pods().has(address));
        let closed = self
            .seats
            .iter()
            .filter(|seat| seat.address.is_none() && seat.closed.is_some())
            .count();
        gauge(&self.metrics.endpoints, "known", known.len());
        gauge(&self.metrics.endpoints, "ended", ended.len());
        gauge(&self.metrics.endpoints, "pending", closed);
        gauge(
            &self.metrics.endpoints,
            "missing",
            self.seats.missing(self.rules.pods()),
        );
    }
}
