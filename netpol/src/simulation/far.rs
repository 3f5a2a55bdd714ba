//! What the other end of a connection says about it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::around::Around;
use super::effort::Effort;
use super::side::{Local, Side};
use crate::cluster::Pod;
use crate::policy::{Direction, Policy};
use crate::port::PortSet;

/// What the policies of each namespace say about the changing policy's, as far as it was asked.
#[derive(Default)]
pub struct Fars<'a>(BTreeMap<(Direction, &'a str), Rc<Far<'a>>>);

impl<'a> Fars<'a> {
    /// `None` if it would take too long to know.
    pub fn of(
        &mut self,
        around: &Around<'a>,
        direction: Direction,
        namespace: &'a str,
        effort: &mut Effort,
    ) -> Option<Rc<Far<'a>>> {
        if let Some(known) = self.0.get(&(direction, namespace)) {
            return Some(Rc::clone(known));
        }
        let far = Rc::new(Far::new(around, direction, namespace, effort)?);
        self.0.insert((direction, namespace), Rc::clone(&far));
        Some(far)
    }
}

/// What the policies of one namespace say about one group elsewhere, before and after.
pub struct Far<'a> {
    /// Each policy that isolates in that direction: whom it selects, and what its rules say about the group's namespace.
    policies: [Vec<(&'a Policy, Local<'a>)>; 2],
    pub size: usize,
}

impl<'a> Far<'a> {
    fn new(around: &Around<'a>, direction: Direction, namespace: &str, effort: &mut Effort) -> Option<Self> {
        let direction = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let own = around.change.key.namespace.as_str();
        let labels = around.cluster.namespace_labels(own);
        let isolating = around.policies(namespace).map(|policies| {
            let sides = policies
                .into_iter()
                .filter(|policy| policy.rules(direction).is_some())
                .map(|policy| (policy, Side::of(std::iter::once(policy), direction)));
            sides.collect::<Vec<_>>()
        });
        let sizes = isolating.iter().flatten().map(|(_, side)| side.size());
        if !effort.work(sizes.sum()) {
            return None;
        }
        let policies = isolating.map(|sides| {
            let towards = |(policy, side): (&'a Policy, Side<'a>)| (policy, side.towards(own, labels));
            sides.into_iter().map(towards).collect::<Vec<_>>()
        });
        let size = policies.iter().flatten().map(|(_, local)| local.size()).sum();
        Some(Self { policies, size })
    }

    pub fn ports(&self, when: usize, pod: &Pod, peer: &Pod, destination: &Pod) -> PortSet {
        let mut isolated = false;
        let mut ports = PortSet::empty();
        for (policy, local) in &self.policies[when] {
            if policy.pods.matches(&pod.labels) {
                isolated = true;
                ports = ports.union(&local.ports(peer, destination));
            }
        }
        if isolated { ports } else { PortSet::All }
    }
}
