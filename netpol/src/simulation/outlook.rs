//! What a change means for the pods that one set of policies selects: worked out once for all of them.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::around::Around;
use super::dns::{self, Endpoint};
use super::effort::Effort;
use super::side::{Local, Side};
use super::world;
use crate::cluster::Pod;
use crate::policy::{Direction, Policy, Rule};

/// The side of such pods in one direction, before and after.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    before: Side<'a>,
    after: Side<'a>,
    size: usize,
    /// Whether it says something else after than before.
    pub changes: bool,
    /// The pods become open to addresses at large.
    pub opens: bool,
    /// They could resolve names, and cannot any more.
    pub cuts_dns: bool,
    /// What the changing policy alone says, before and after.
    own: [Side<'a>; 2],
    places: RefCell<Places<'a>>,
}

/// The namespaces for whose pods something changes, as far as they were looked for.
#[derive(Debug, Default)]
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

/// A namespace for whose pods the side says something else after than before.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub namespace: &'a str,
    pub near: [Local<'a>; 2],
    pub size: usize,
}

/// Which policies select a pod: the indices of the others, and whether the changing one does before, and after.
type Selecting = (Vec<usize>, bool, bool);

/// The outlooks that are known.
pub(super) struct Outlooks<'a, 'b> {
    around: &'b Around<'a>,
    dns: OnceCell<Vec<Endpoint<'a>>>,
    /// What it takes to compare a pod with all policies.
    weight: usize,
    known: BTreeMap<(Direction, Selecting), Rc<Outlook<'a>>>,
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
            dns: OnceCell::new(),
            weight: policies
                .map(|policy| 1 + policy.pods.requirements().count())
                .sum(),
            known: BTreeMap::new(),
        }
    }

    /// That of a pod; `None` if it would take too long to know.
    pub fn of(&mut self, pod: &Pod, direction: Direction, effort: &mut Effort) -> Option<Rc<Outlook<'a>>> {
        if !effort.work(self.weight) {
            return None;
        }
        let key = (direction, self.selecting(pod));
        if let Some(known) = self.known.get(&key) {
            return Some(Rc::clone(known));
        }
        let [before, after] = self.sides(&key.1, direction);
        if !effort.work(self.cost(&before, &after, direction)) {
            return None;
        }
        Some(self.learn(key, before, after))
    }

    /// The same, however long it takes.
    pub fn surely(&mut self, pod: &Pod, direction: Direction, effort: &mut Effort) -> Rc<Outlook<'a>> {
        let key = (direction, self.selecting(pod));
        let [before, after] = self.sides(&key.1, direction);
        effort.surely(self.weight + self.cost(&before, &after, direction));
        self.learn(key, before, after)
    }

    fn dns(&self) -> &[Endpoint<'a>] {
        self.dns.get_or_init(|| dns::endpoints(self.around.cluster))
    }

    fn selecting(&self, pod: &Pod) -> Selecting {
        let selects = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        let others = self.around.others.iter().enumerate();
        let others = others.filter(|(_, policy)| selects(Some(policy)));
        let change = &self.around.change;
        (
            others.map(|(index, _)| index).collect(),
            selects(change.before),
            selects(change.after),
        )
    }

    fn sides(&self, (others, before, after): &Selecting, direction: Direction) -> [Side<'a>; 2] {
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
            Direction::Egress => self.dns().len(),
        };
        (before.size() + after.size()) * (1 + asked)
    }

    fn learn(
        &mut self,
        (direction, selecting): (Direction, Selecting),
        before: Side<'a>,
        after: Side<'a>,
    ) -> Rc<Outlook<'a>> {
        let (_, selects_before, selects_after) = &selecting;
        let change = &self.around.change;
        let rules = |policy: Option<&'a Policy>, selects: bool| -> &'a [Rule] {
            let policy = policy.filter(|_| selects);
            policy
                .and_then(|policy| policy.rules(direction))
                .unwrap_or_default()
        };
        // What the others say is the same on both sides.
        let changes = before.isolated != after.isolated
            || rules(change.before, *selects_before) != rules(change.after, *selects_after);
        let reached = |side: &Side<'_>| dns::reached(self.around.cluster, self.dns(), side);
        let outlook = Rc::new(Outlook {
            changes,
            opens: changes && world::opens(&before, &after),
            cuts_dns: changes && direction == Direction::Egress && reached(&before) && !reached(&after),
            size: before.size() + after.size(),
            before,
            after,
            own: [(change.before, selects_before), (change.after, selects_after)]
                .map(|(policy, selects)| Side::of(policy.filter(|_| *selects).into_iter(), direction)),
            places: RefCell::default(),
        });
        self.known.insert((direction, selecting), Rc::clone(&outlook));
        outlook
    }
}

impl<'a> Outlook<'a> {
    /// One after the other, the namespaces for whose pods it says something else after than before. They are looked for as they are
    /// asked for.
    pub fn place(&self, number: usize, around: &Around<'a>, effort: &mut Effort) -> Next<'a> {
        let mut places = self.places.borrow_mut();
        while places.found.len() <= number {
            let Some(namespace) = around.namespaces.get(places.looked_at).copied() else {
                return Next::End;
            };
            if !effort.place(self.size) {
                return Next::TooMany;
            }
            places.looked_at += 1;
            places.found.extend(self.look_at(namespace, around).map(Rc::new));
        }
        match places.found.get(number) {
            Some(place) => Next::Place(Rc::clone(place)),
            None => Next::End,
        }
    }

    fn look_at(&self, namespace: &'a str, around: &Around<'a>) -> Option<Place<'a>> {
        let labels = around.cluster.namespace_labels(namespace);
        let [before, after] = [&self.own[0], &self.own[1]].map(|side| side.towards(namespace, labels));
        if self.before.isolated == self.after.isolated && before.opens_as(&after) {
            return None; // what the others say is the same before and after
        }
        let near = [&self.before, &self.after].map(|side| side.towards(namespace, labels));
        let size = near[0].size() + near[1].size();
        (near[0] != near[1]).then_some(Place {
            namespace,
            near,
            size,
        })
    }
}
