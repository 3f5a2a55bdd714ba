//! What is drawn: spots and the lines between them, never more than fit.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_netpol::connections::{Connection, End, Range, Workload};
use ringfence_netpol::port::PortSet;

use super::bundle::bundle;

/// How much a picture may hold and still be read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub spots: usize,
    pub lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spots: 60,
            lines: 120,
        }
    }
}

/// Something that lines begin and end at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// Addresses outside of the cluster.
    Outside(Vec<Range>),
    IngressController,
    /// Every workload of the cluster.
    Everyone,
    /// Every namespace that is drawn.
    EveryNamespace,
    /// All workloads of a namespace, one by one.
    All(String),
    Workload(Workload),
    /// A namespace as a whole, where workloads would be too many.
    Namespace(String),
}

/// What may be opened, from one spot to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub from: Spot,
    pub to: Spot,
    pub ports: PortSet,
    /// The same the other way round.
    pub both: bool,
}

#[derive(Debug, Default)]
pub struct Picture {
    pub spots: BTreeSet<Spot>,
    pub lines: Vec<Line>,
    /// How many workloads there are, by namespace.
    pub workloads: BTreeMap<String, usize>,
    /// How many connections were listed.
    pub connections: usize,
    /// What is not drawn, or not as one might think.
    pub remarks: Vec<String>,
}

/// Lines in the making.
pub type Lines = BTreeMap<(Spot, Spot), PortSet>;

/// Takes rows one after the other; a list of them all may be too long.
pub struct Collector {
    limits: Limits,
    members: BTreeMap<String, BTreeSet<Spot>>,
    connections: usize,
    /// Between workloads and with the outside; `None` once they are too many.
    fine: Option<Fine>,
    /// Between namespaces, and how many pairs of workloads that is.
    coarse: BTreeMap<(Spot, Spot), (PortSet, usize)>,
    /// Namespaces and the outside: whether there is some.
    coarse_outside: BTreeMap<(Spot, bool), BTreeMap<Range, PortSet>>,
}

#[derive(Default)]
struct Fine {
    lines: Lines,
    /// What a workload has to do with the outside, by direction and ports.
    outside: BTreeMap<(Spot, bool, PortSet), Vec<Range>>,
}

impl Collector {
    pub fn new<'a>(limits: Limits, workloads: impl Iterator<Item = &'a Workload>) -> Self {
        let mut members: BTreeMap<String, BTreeSet<Spot>> = BTreeMap::new();
        for workload in workloads {
            let of_namespace = members.entry(workload.namespace.clone()).or_default();
            of_namespace.insert(Spot::Workload(workload.clone()));
        }
        Self {
            limits,
            members,
            connections: 0,
            fine: Some(Fine::default()),
            coarse: BTreeMap::new(),
            coarse_outside: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, row: &Connection<'_>) {
        self.connections += 1;
        match (row.from, row.to) {
            (End::Outside(range), to) => self.outside(to, false, range, &row.ports),
            (from, End::Outside(range)) => self.outside(from, true, range, &row.ports),
            (from, to) => self.inside(from, to, &row.ports),
        }
        // As many as all pairs of what may be drawn: bundled they may still be few.
        let most = self.limits.spots * self.limits.spots;
        if self
            .fine
            .as_ref()
            .is_some_and(|fine| fine.lines.len() + fine.outside.len() > most)
        {
            self.fine = None;
        }
    }

    fn inside(&mut self, from: End<'_>, to: End<'_>, ports: &PortSet) {
        if let Some(fine) = &mut self.fine {
            fine.lines.insert((spot(from), spot(to)), ports.clone());
        }
        let ends = (coarse(from), coarse(to));
        if ends.0 == ends.1 {
            return;
        }
        let known = self.coarse.entry(ends).or_insert_with(|| (PortSet::empty(), 0));
        *known = (known.0.union(ports), known.1 + 1);
    }

    fn outside(&mut self, inner: End<'_>, leaves: bool, range: Range, ports: &PortSet) {
        if let Some(fine) = &mut self.fine {
            let key = (spot(inner), leaves, ports.clone());
            fine.outside.entry(key).or_default().push(range);
        }
        let ranges = self.coarse_outside.entry((coarse(inner), leaves)).or_default();
        let known = ranges.entry(range).or_insert_with(PortSet::empty);
        *known = known.union(ports);
    }

    pub fn finish(mut self) -> Picture {
        let limits = self.limits;
        if let Some(fine) = self.fine.take() {
            let picture = self.fine_picture(fine);
            if picture.spots.len() <= limits.spots && picture.lines.len() <= limits.lines {
                return picture;
            }
        }
        self.coarse_picture()
    }

    fn fine_picture(&self, fine: Fine) -> Picture {
        let mut lines = bundle(fine.lines, &self.members);
        for ((inner, leaves, ports), ranges) in fine.outside {
            let outside = Spot::Outside(joined(ranges));
            let ends = if leaves {
                (inner, outside)
            } else {
                (outside, inner)
            };
            lines.insert(ends, ports);
        }
        let lines = bundle(lines, &self.members);
        let mut picture = self.picture(lines);
        picture.spots.extend(self.members.values().flatten().cloned());
        picture
    }

    fn coarse_picture(&self) -> Picture {
        let all: usize = self.members.values().map(BTreeSet::len).sum();
        let mut remarks = vec![format!(
            "{all} workloads are too many to be drawn one by one: a line between namespaces means that some workload of the one may open \
             what it says towards some workload of the other. --focus draws the surroundings of one workload."
        )];
        let mut weights: BTreeMap<&Spot, usize> = BTreeMap::new();
        for ((from, to), (_, pairs)) in &self.coarse {
            for end in [from, to] {
                *weights.entry(end).or_default() += pairs;
            }
        }
        let mut namespaces: Vec<Spot> = self.members.keys().cloned().map(Spot::Namespace).collect();
        namespaces.sort_by_key(|spot| std::cmp::Reverse(weights.get(spot).copied().unwrap_or_default()));
        let most = self.limits.spots.saturating_sub(8); // the outside needs room too
        if namespaces.len() > most {
            remarks.push(format!(
                "{} namespaces with fewer connections are left out.",
                namespaces.len() - most
            ));
            namespaces.truncate(most);
        }
        let shown: BTreeSet<Spot> = namespaces.into_iter().collect();
        let is_shown = |spot: &Spot| !matches!(spot, Spot::Namespace(_)) || shown.contains(spot);
        let mut lines = Lines::new();
        for ((from, to), (ports, _)) in &self.coarse {
            if is_shown(from) && is_shown(to) {
                lines.insert((from.clone(), to.clone()), ports.clone());
            }
        }
        for ((inner, leaves), ranges) in &self.coarse_outside {
            if !is_shown(inner) {
                continue;
            }
            let ports = ranges
                .values()
                .fold(PortSet::empty(), |all, ports| all.union(ports));
            let outside = Spot::Outside(joined(ranges.keys().copied().collect()));
            let ends = if *leaves {
                (inner.clone(), outside)
            } else {
                (outside, inner.clone())
            };
            lines.insert(ends, ports);
        }
        let members = BTreeMap::from([(String::new(), shown.clone())]);
        let mut picture = self.picture(bundle(lines, &members));
        picture.spots.extend(shown);
        if picture.lines.len() > self.limits.lines {
            let left_out = picture.lines.len() - self.limits.lines;
            let weight = |line: &Line| {
                let ends = (line.from.clone(), line.to.clone());
                let pairs = self.coarse.get(&ends).map_or(usize::MAX, |(_, pairs)| *pairs);
                std::cmp::Reverse(pairs)
            };
            picture.lines.sort_by_key(weight);
            picture.lines.truncate(self.limits.lines);
            picture.lines.sort();
            remarks.push(format!(
                "{left_out} lines that stand for fewer connections are left out."
            ));
        }
        picture.remarks = remarks;
        picture
    }

    fn picture(&self, lines: Lines) -> Picture {
        let mut picture = Picture {
            workloads: self
                .members
                .iter()
                .map(|(namespace, members)| (namespace.clone(), members.len()))
                .collect(),
            connections: self.connections,
            ..Picture::default()
        };
        for ((from, to), ports) in &lines {
            picture.spots.extend([from.clone(), to.clone()]);
            let back = lines.get(&(to.clone(), from.clone())) == Some(ports);
            if back && to < from {
                continue; // drawn with the other one
            }
            picture.lines.push(Line {
                from: from.clone(),
                to: to.clone(),
                ports: ports.clone(),
                both: back && from != to,
            });
        }
        picture
    }
}

fn spot(end: End<'_>) -> Spot {
    match end {
        End::Outside(range) => Spot::Outside(vec![range]),
        End::IngressController => Spot::IngressController,
        End::Workload(workload) => Spot::Workload(workload.clone()),
    }
}

fn coarse(end: End<'_>) -> Spot {
    match end {
        End::Workload(workload) => Spot::Namespace(workload.namespace.clone()),
        other => spot(other),
    }
}

/// Ranges that touch as one.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if touches(last, &range) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

fn touches(before: &Range, after: &Range) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (before.last, after.first) {
        (V4(last), V4(first)) => first.to_bits() <= last.to_bits().saturating_add(1),
        (V6(last), V6(first)) => first.to_bits() <= last.to_bits().saturating_add(1),
        _ => false,
    }
}
