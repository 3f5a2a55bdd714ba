//! Peers that match nothing in the live cluster, and why.

use std::collections::BTreeSet;

use super::near::{Near, near_miss};
use super::peers::PeerAt;
use crate::cluster::Cluster;
use crate::selector::{Labels, Selector};

/// A peer that matches nothing in the live cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeadPeer {
    pub peer: PeerAt,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cause {
    /// No namespace is selected.
    NoNamespace { selector: Selector, near: Option<Near> },
    /// Namespaces are selected, but none of their pods.
    NoPod {
        selector: Selector,
        near: Option<Near>,
        /// Where pods with these labels are instead.
        elsewhere: BTreeSet<String>,
        /// Pods with these labels are there, but on their nodes' network, where no selector finds them.
        on_host: bool,
    },
    /// The policy's own namespace has no such pod, others have.
    OnlyElsewhere {
        selector: Selector,
        namespaces: BTreeSet<String>,
    },
}

/// `None`: the peer matches something, or is one that can never be said to match nothing. A near miss is looked
/// for only if `guess` says so.
pub(super) fn examine(peer: &PeerAt, own: &str, cluster: &Cluster, guess: bool) -> Option<DeadPeer> {
    let cause = match &peer.namespaces {
        Some(namespaces) if !namespaces.is_everything() && selected(namespaces, cluster).next().is_none() => {
            let live: Vec<&Labels> = cluster
                .namespaces
                .values()
                .map(|namespace| &namespace.labels)
                .collect();
            Some(Cause::NoNamespace {
                selector: namespaces.clone(),
                near: if guess { near_miss(namespaces, &live) } else { None },
            })
        }
        Some(namespaces) => {
            let within = || selected(namespaces, cluster);
            no_pod(peer.pods.as_ref()?, within, cluster, false, guess)
        }
        None => no_pod(peer.pods.as_ref()?, || std::iter::once(own), cluster, true, guess),
    };
    cause.map(|cause| DeadPeer {
        peer: peer.clone(),
        cause,
    })
}

/// The names of the namespaces that a selector selects.
fn selected<'a>(selector: &'a Selector, cluster: &'a Cluster) -> impl Iterator<Item = &'a str> {
    cluster
        .namespaces
        .iter()
        .filter(|(_, namespace)| selector.matches(&namespace.labels))
        .map(|(key, _)| key.name.as_str())
}

fn no_pod<'a, I: Iterator<Item = &'a str>>(
    selector: &Selector,
    within: impl Fn() -> I,
    cluster: &Cluster,
    own: bool,
    guess: bool,
) -> Option<Cause> {
    if selector.is_everything() {
        return None;
    }
    // First where it looks, which is mostly enough, and mostly soon: finished pods count, since what ran once (a Job) will run again.
    let mut on_host = false;
    for name in within() {
        for (_, pod) in cluster.pods.in_namespace(name) {
            if selector.matches(&pod.labels) {
                if !pod.host_network {
                    return None;
                }
                on_host = true;
            }
        }
    }
    let within: BTreeSet<&str> = within().collect();
    let anywhere = cluster.pods.iter().filter(|(key, pod)| {
        !pod.host_network && !within.contains(key.namespace.as_str()) && selector.matches(&pod.labels)
    });
    let elsewhere: BTreeSet<String> = anywhere.map(|(key, _)| key.namespace.clone()).collect();
    if own && !elsewhere.is_empty() && !on_host {
        return Some(Cause::OnlyElsewhere {
            selector: selector.clone(),
            namespaces: elsewhere,
        });
    }
    let near = if on_host || !elsewhere.is_empty() || !guess {
        None // the labels are right; what is wrong is where they are looked for
    } else {
        let live: Vec<&Labels> = cluster
            .pods
            .iter()
            .filter(|(key, pod)| within.contains(key.namespace.as_str()) && !pod.host_network)
            .map(|(_, pod)| pod.labels.as_ref())
            .collect();
        near_miss(selector, &live)
    };
    Some(Cause::NoPod {
        selector: selector.clone(),
        near,
        elsewhere,
        on_host,
    })
}
