//! The verdict on a connection, put together from what the nodes of both ends say.

use super::NodeRules;
use crate::evaluate::{Endpoint, Verdict};
use crate::policy::Direction;
use crate::port::Transport;

/// Whether `from` may open a connection to `to` by compiled rules, which `rules` gives by the name of the node.
///
/// As in the kernel: a pod to itself never meets a filter, an end that is no pod asks no rules, and a pod that its node knows nothing
/// of is closed.
pub fn verdict<'r>(
    rules: impl Fn(&str) -> Option<&'r NodeRules>,
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    transport: Transport,
) -> Verdict {
    let opens = |direction: Direction, subject: Endpoint<'_>, peer: Endpoint<'_>| {
        let Endpoint::Pod { key, pod } = subject else {
            return Some(true);
        };
        let rules = rules(pod.node.as_deref().unwrap_or_default())?;
        let endpoint = rules.endpoints.get(key)?;
        let ruleset = match direction {
            Direction::Ingress => endpoint.ingress,
            Direction::Egress => endpoint.egress,
        };
        Some(rules.opens(ruleset, rules.class_of(peer.address()?), transport))
    };
    let side = |direction, subject, peer| from == to || opens(direction, subject, peer).unwrap_or(false);
    Verdict {
        egress: side(Direction::Egress, from, to),
        ingress: side(Direction::Ingress, to, from),
    }
}
