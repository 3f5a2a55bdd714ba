//! What a change means for the pods that one set of policies selects: worked out once for all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::around::{Around, Neighbour};
use super::delta::{Delta, Here};
use super::dns;
use super::effort::Effort;
use super::far::{Far, Gate};
use super::group::same;
use super::outline::PortNames;
use super::side::{Local, Side};
use super::world;
use crate::cluster::Pod;
use crate::policy::{Direction, Policy, Port, Rule};

/// The side of such pods in one direction, before and after.
pub(super) struct Outlook<'a> {
    direction: Direction,
    before: Side<'a>,
    after: Side<'a>,
    delta: Delta<'a>,
    /// The pods become open to addresses at large.
    pub opens: bool,
    /// They could resolve names, and cannot any more.
    pub cuts_dns: bool,
    places: RefCell<Places<'a>>,
}

/// The namespaces for whose pods something changes, as far as they were looked for.
#[derive(Default)]
struct Places<'a> {
    found: Vec<Rc<Place<'a>>>,
    /// How many namespaces were looked at.
    looked_at: usize,
}

/// A place, if there is one more.
pub(super) enum Next<'a> {
    Place(Rc<Place<'a>>),
    End,
    /// There may be more than may be looked for.
    TooMany,
}

/// A namespace with pods to which something else gets through after than before.
pub(super) struct Place<'a> {
    pub near: [Local<'a>; 2],
    pub fars: Vec<Far<'a>>,
    /// Whether it is the policy's own.
    pub own: bool,
    pub size: usize,
}

/// Which policies select a pod: the indices of the others, and whether the changing one does before, and after.
pub(super) type Selecting = Rc<(Vec<usize>, bool, bool)>;

/// The outlooks that are known.
pub(super) struct Outlooks<'a, 'b> {
    around: &'b Around<'a>,
    /// What it takes to compare a pod with all policies.
    weight: usize,
    /// By the directions, and the policies that select their pods.
    known: [BTreeMap<Selecting, Rc<Outlook<'a>>>; 2],
}

impl<'a, 'b> Outlooks<'a, 'b> {
    pub fn new(around: &'b Around<'a>) -> Self {
        let changing = [around.change.before, around.change.after];
        let policies = around
            .others
            .iter()
            .copied()
            .chain(changing.into_iter().flatten());
        Self {
            around,
            weight: policies
                .map(|policy| 1 + policy.pods.requirements().count())
                .sum(),
            known: <[BTreeMap<_, _>; 2]>::default(),
        }
    }

    /// Which policies select a pod; `None` if it would take too long to know.
    pub fn selecting(&self, pod: &Pod, effort: &mut Effort) -> Option<Selecting> {
        effort.work(self.weight).then(|| self.policies_of(pod))
    }

    /// What it means for pods that these policies select; `None` if it would take too long to know.
    pub fn of(
        &mut self,
        selecting: &Selecting,
        direction: Direction,
        effort: &mut Effort,
    ) -> Option<Rc<Outlook<'a>>> {
        if let Some(known) = self.known[direction as usize].get(selecting) {
            return Some(Rc::clone(known));
        }
        let [before, after] = self.sides(selecting, direction);
        if !effort.work(self.cost(&before, &after, direction)) {
            return None;
        }
        Some(self.learn(Rc::clone(selecting), direction, before, after))
    }

    /// The same for a pod, however long it takes.
    pub fn surely(&mut self, pod: &Pod, direction: Direction, effort: &mut Effort) -> Rc<Outlook<'a>> {
        let selecting = self.policies_of(pod);
        let [before, after] = self.sides(&selecting, direction);
        effort.surely(self.weight + self.cost(&before, &after, direction));
        self.learn(selecting, direction, before, after)
    }

    fn policies_of(&self, pod: &Pod) -> Selecting {
        let selects = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        let others = self.around.others.iter().enumerate();
        let others = others.filter(|(_, policy)| selects(Some(policy)));
        let change = &self.around.change;
        Rc::new((
            others.map(|(index, _)| index).collect(),
            selects(change.before),
            selects(change.after),
        ))
    }

    fn sides(&self, selecting: &Selecting, direction: Direction) -> [Side<'a>; 2] {
        let (others, before, after) = &**selecting;
        let change = &self.around.change;
        [(change.before, before), (change.after, after)].map(|(changing, selects)| {
            let others = others
                .iter()
                .filter_map(|index| self.around.others.get(*index).copied());
            Side::of(others.chain(changing.filter(|_| *selects)), direction)
        })
    }

    fn cost(&self, before: &Side<'_>, after: &Side<'_>, direction: Direction) -> usize {
        let asked = match direction {
            Direction::Ingress => 0,
            Direction::Egress => self.around.dns.len(),
        };
        (before.size() + after.size()) * (1 + asked)
    }

    fn learn(
        &mut self,
        selecting: Selecting,
        direction: Direction,
        before: Side<'a>,
        after: Side<'a>,
    ) -> Rc<Outlook<'a>> {
        let (others, selects_before, selects_after) = &*selecting;
        let change = &self.around.change;
        let rules = |policy: Option<&'a Policy>, selects: bool| -> &'a [Rule] {
            let policy = policy.filter(|_| selects);
            policy
                .and_then(|policy| policy.rules(direction))
                .unwrap_or_default()
        };
        let own = [
            rules(change.before, *selects_before),
            rules(change.after, *selects_after),
        ];
        // What the others say is the same on both sides.
        let changes = before.isolated != after.isolated || own[0] != own[1];
        let delta = if before.isolated != after.isolated {
            Delta::Everything
        } else {
            let others = others.iter().filter_map(|index| self.around.others.get(*index));
            let others = others.filter_map(|policy| policy.rules(direction)).flatten();
            Delta::between(own[0], own[1], &others.collect::<Vec<_>>())
        };
        let reached = |side: &Side<'_>| dns::reached(self.around.cluster, self.around.dns, side);
        let outlook = Rc::new(Outlook {
            direction,
            opens: changes && world::opens(&before, &after),
            cuts_dns: changes && direction == Direction::Egress && reached(&before) && !reached(&after),
            before,
            after,
            delta,
            places: RefCell::default(),
        });
        self.known[direction as usize].insert(selecting, Rc::clone(&outlook));
        outlook
    }
}

impl<'a> Outlook<'a> {
    /// Whether it may let other connections of pods through after than before.
    pub fn changes(&self) -> bool {
        !self.delta.is_nothing()
    }

    /// One after the other, the namespaces with pods to which something else gets through after than before. They are looked for as
    /// they are asked for.
    pub fn place(&self, number: usize, around: &Around<'a>, effort: &mut Effort) -> Next<'a> {
        let mut places = self.places.borrow_mut();
        while places.found.len() <= number {
            let Some(neighbour) = around.neighbours.get(places.looked_at) else {
                return Next::End;
            };
            if !effort.place(self.delta.size()) {
                return Next::TooMany;
            }
            let Ok(found) = self.look_at(neighbour, around, effort) else {
                return Next::TooMany;
            };
            places.looked_at += 1;
            places.found.extend(found.map(Rc::new));
        }
        match places.found.get(number) {
            Some(place) => Next::Place(Rc::clone(place)),
            None => Next::End,
        }
    }

    fn look_at(
        &self,
        neighbour: &Neighbour<'a>,
        around: &Around<'a>,
        effort: &mut Effort,
    ) -> Result<Option<Place<'a>>, TooMuch> {
        let Neighbour { name, labels, .. } = *neighbour;
        let changed: Vec<Option<&[&Port]>> = self.delta.ports_towards(name, labels).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        // A name of a port is looked up where a connection ends.
        let names = match self.direction {
            Direction::Ingress => around.names(),
            Direction::Egress => neighbour.names(),
        };
        let opposite = self.direction.opposite();
        if !effort.place(neighbour.size(opposite).saturating_mul(changed.len())) {
            return Err(TooMuch);
        }
        if around.is_shut(neighbour, opposite, &changed, names) {
            return Ok(None); // mostly it is here that a whole namespace is passed over
        }
        let here = self.delta.towards(name, labels);
        let gate = around.gate(neighbour, opposite);
        let own = name == around.change.key.namespace;
        let fars = self.fars(&gate, &here, neighbour, names, around, effort)?;
        if fars.is_empty() {
            return Ok(None);
        }
        let near = [&self.before, &self.after].map(|side| side.towards(name, labels));
        let size = near[0].size() + near[1].size();
        Ok(Some(Place {
            near,
            fars,
            own,
            size,
        }))
    }

    /// The pods there to which something that changes may get through, one for all that are alike.
    fn fars(
        &self,
        gate: &Gate<'a>,
        here: &[Here<'_, '_>],
        neighbour: &Neighbour<'a>,
        names: &PortNames,
        around: &Around<'a>,
        effort: &mut Effort,
    ) -> Result<Vec<Far<'a>>, TooMuch> {
        let size = here.iter().map(Here::size).sum::<usize>() + gate.size();
        let mut fars: Vec<Far<'a>> = Vec::new();
        let mut last: Option<&Pod> = None;
        for (key, pod) in around.cluster.pods.in_namespace(neighbour.name) {
            if !pod.is_governed() || last.is_some_and(|last| same(last, pod)) {
                continue;
            }
            last = Some(pod);
            if !effort.work(size) {
                return Err(TooMuch);
            }
            let about: Vec<&Here<'_, '_>> = here.iter().filter(|here| here.is_about(&pod.labels)).collect();
            if !about.is_empty() {
                fars.extend(gate.at(key, pod, &about, names));
            }
        }
        Ok(fars)
    }
}

/// More than may be looked through.
struct TooMuch;
