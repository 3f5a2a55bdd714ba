//! One line for many: where all workloads of a namespace, or of the cluster, may open the same, they are drawn as one.
//!
//! An open cluster has a line for every pair. Bundled nothing is lost: a line from or to all of them stands for one from or to each
//! (but to itself, which nobody needs a line for).

use std::collections::{BTreeMap, BTreeSet};

use ringfence_netpol::port::PortSet;

use super::picture::{Lines, Spot};

/// Fewer are drawn one by one.
const FEW: usize = 3;

/// The lines with sources that say the same bundled, and then the targets.
pub fn bundle(lines: Lines, members: &BTreeMap<String, BTreeSet<Spot>>) -> Lines {
    let by_source = bundled(lines, members);
    let turned = bundled(turned(by_source), members);
    self::turned(turned)
}

fn turned(lines: Lines) -> Lines {
    lines
        .into_iter()
        .map(|((from, to), ports)| ((to, from), ports))
        .collect()
}

/// The lines with what begins them bundled.
fn bundled(lines: Lines, members: &BTreeMap<String, BTreeSet<Spot>>) -> Lines {
    let mut alike: BTreeMap<(Spot, PortSet), BTreeSet<Spot>> = BTreeMap::new();
    for ((from, to), ports) in lines {
        alike.entry((to, ports)).or_default().insert(from);
    }
    let mut fewer = Lines::new();
    for ((to, ports), mut from) in alike {
        let mut hubs = Vec::new();
        // What all of them do leaves out the one that it is done to.
        let is_whole = |wanted: &BTreeSet<Spot>, from: &BTreeSet<Spot>| {
            wanted.iter().all(|member| *member == to || from.contains(member))
        };
        let others = |wanted: &BTreeSet<Spot>| wanted.len() - usize::from(wanted.contains(&to));
        let everyone: BTreeSet<Spot> = members.values().flatten().cloned().collect();
        if members.len() > 1 && others(&everyone) >= FEW && is_whole(&everyone, &from) {
            hubs.push(Spot::Everyone);
            from.retain(|spot| !everyone.contains(spot));
        }
        for (namespace, of_namespace) in members {
            if others(of_namespace) >= FEW && is_whole(of_namespace, &from) {
                let of_namespaces = matches!(of_namespace.first(), Some(Spot::Namespace(_)));
                hubs.push(if of_namespaces {
                    Spot::EveryNamespace
                } else {
                    Spot::All(namespace.clone())
                });
                from.retain(|spot| !of_namespace.contains(spot));
            }
        }
        for spot in from.into_iter().chain(hubs) {
            fewer.insert((spot, to.clone()), ports.clone());
        }
    }
    fewer
}
