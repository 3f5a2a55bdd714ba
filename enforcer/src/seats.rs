//! Which pod sits behind which veth. Pure: what is known goes in, what is to be done comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringfence_netpol::cluster::Key;
use ringfence_netpol::compile::Endpoint;
use ringfence_netpol::compile::delta::RulesetId;

use crate::addresses::Addresses;
use crate::link::Veth;

/// The rulesets of a pod, for ingress and for egress.
pub type Rulesets = (Option<RulesetId>, Option<RulesetId>);

#[derive(Debug)]
struct Pod {
    rulesets: Rulesets,
    addresses: Addresses,
}

/// A pod's place among [`Pods`].
type PodIx = usize;

/// The pods of this node, by address.
#[derive(Debug, Default)]
pub struct Pods {
    all: Vec<Pod>,
    /// `None`: two pods claim the address and have different rules.
    by_address: BTreeMap<IpAddr, Option<PodIx>>,
    by_uid: BTreeMap<String, PodIx>,
    by_name: BTreeMap<Key, PodIx>,
    /// Whether a pod has no address yet.
    unaddressed: bool,
    /// Addresses that, as the container runtime knows, are of pods which are not known here.
    strangers: BTreeSet<IpAddr>,
}

/// That a pod has an address, as the container runtime knows it: earlier than the API, and by the pod's uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub uid: String,
    pub name: Key,
}

impl Pods {
    pub fn of<'a>(endpoints: impl Iterator<Item = (&'a Key, &'a Endpoint<RulesetId>)>) -> Self {
        let mut pods = Self::default();
        for ((name, endpoint), index) in endpoints.zip(0..) {
            pods.all.push(Pod {
                rulesets: (endpoint.ingress, endpoint.egress),
                addresses: endpoint.addresses.iter().copied().collect(),
            });
            pods.by_uid.insert(endpoint.uid.clone(), index);
            pods.by_name.insert(name.clone(), index);
            pods.unaddressed |= endpoint.addresses.is_empty();
        }
        let claims = pods.all.iter().zip(0..);
        let claims: Vec<_> = claims
            .flat_map(|(pod, index)| pod.addresses.iter().map(move |address| (address, index)))
            .collect();
        for (address, index) in claims {
            claim(&mut pods.by_address, &pods.all, address, index);
        }
        pods
    }

    /// Whether a pod has no address yet.
    pub fn is_one_unaddressed(&self) -> bool {
        self.unaddressed
    }

    /// Takes what the container runtime knows, of each address the latest last. Of an address that it knows it has the last word: the API
    /// may not have the new pod's yet, and still have a pod that is gone. A pod that is not known at all leaves its address unknown,
    /// and so closed.
    pub fn learn<'a>(&mut self, claims: impl Iterator<Item = &'a Claim>) {
        let mut learned: BTreeMap<IpAddr, Option<PodIx>> = BTreeMap::new();
        for Claim { address, uid, name } in claims {
            // A static pod has another uid in the API than on its node.
            let as_static = || self.by_address.get(address).and_then(|_| self.by_name.get(name));
            learned.insert(*address, self.by_uid.get(uid).or_else(as_static).copied());
        }
        self.strangers.clear();
        for (address, index) in learned {
            match index {
                Some(index) => {
                    self.by_address.insert(address, Some(index));
                    if let Some(pod) = self.all.get_mut(index) {
                        pod.addresses.add(address);
                    }
                }
                None => {
                    self.by_address.remove(&address);
                    self.strangers.insert(address);
                }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether it is the address of a pod that the API has not told of yet.
    pub fn is_strangers(&self, address: &IpAddr) -> bool {
        self.strangers.contains(address)
    }

    pub fn has(&self, address: &IpAddr) -> bool {
        self.by_address.contains_key(address)
    }

    /// What applies to the pod of this address; `None` if there is no such pod, or more than one.
    pub fn rulesets(&self, address: &IpAddr) -> Option<Rulesets> {
        self.pod(address).map(|pod| pod.rulesets)
    }

    /// All addresses of the pod that has this one, as long as they are its own.
    pub fn addresses(&self, address: &IpAddr) -> Addresses {
        let index = self.by_address.get(address).copied().flatten();
        let Some(pod) = index.and_then(|index| self.all.get(index)) else {
            return Addresses::from(*address);
        };
        let own = pod
            .addresses
            .iter()
            .filter(|of| of == address || self.by_address.get(of).copied().flatten() == index);
        std::iter::once(*address).chain(own).collect()
    }

    fn pod(&self, address: &IpAddr) -> Option<&Pod> {
        self.all.get(self.by_address.get(address).copied().flatten()?)
    }
}

fn claim(by_address: &mut BTreeMap<IpAddr, Option<PodIx>>, pods: &[Pod], address: IpAddr, index: PodIx) {
    let rulesets = |index: PodIx| pods.get(index).map(|pod| pod.rulesets);
    let same = |other: &mut Option<PodIx>| *other = other.filter(|other| rulesets(*other) == rulesets(index));
    by_address.entry(address).and_modify(same).or_insert(Some(index));
}

/// A veth that is or may be a pod's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub veth: Veth,
    /// Whose it is: one of the pod's addresses.
    pub address: Option<IpAddr>,
    /// Since when it is closed for not being known.
    pub closed: Option<Instant>,
    /// It is a pod's of which the API has not told yet: closed until it does, however long.
    pub strangers: bool,
    /// Whether this agent's programs stand there.
    pub attached: bool,
    /// Whether its pod was under its rules at some time.
    pub ruled: bool,
}

/// All veths of the node whose peers are in other namespaces.
#[derive(Debug, Default)]
pub struct Seats {
    all: BTreeMap<u32, Seat>,
}

impl Seats {
    pub fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.all.values()
    }

    pub fn get_mut(&mut self, ifindex: u32) -> Option<&mut Seat> {
        self.all.get_mut(&ifindex)
    }

    /// Takes a veth that the kernel side knows already.
    pub fn resume(&mut self, veth: Veth, address: Option<IpAddr>, now: Instant) {
        let closed = address.is_none().then_some(now);
        self.all.insert(
            veth.ifindex,
            Seat {
                veth,
                address,
                closed,
                strangers: false,
                attached: false,
                ruled: false,
            },
        );
    }

    /// Takes the veths that there are; those that are gone, or are others under the same index, are returned.
    pub fn survey(&mut self, veths: &[Veth]) -> Vec<u32> {
        let present: BTreeMap<u32, &Veth> = veths.iter().map(|veth| (veth.ifindex, veth)).collect();
        let mut gone = Vec::new();
        self.all.retain(|ifindex, seat| {
            let same = present.get(ifindex).is_some_and(|veth| veth.is_same(&seat.veth));
            if !same {
                gone.push(*ifindex);
            }
            same
        });
        for veth in veths {
            self.meet(veth);
        }
        gone
    }

    /// Takes a veth that is there. If there was another one under its index, that is gone, and the index is returned.
    pub fn meet(&mut self, veth: &Veth) -> Option<u32> {
        let fresh = || Seat {
            veth: *veth,
            address: None,
            closed: None,
            strangers: false,
            attached: false,
            ruled: false,
        };
        let seat = self.all.entry(veth.ifindex).or_insert_with(fresh);
        let gone = (!seat.veth.is_same(veth)).then_some(veth.ifindex);
        if gone.is_some() {
            *seat = fresh();
        }
        seat.veth = *veth;
        gone
    }

    /// The veths whose pod is not known.
    pub fn unknown(&self) -> Vec<Veth> {
        self.all
            .values()
            .filter(|seat| seat.address.is_none())
            .map(|seat| seat.veth)
            .collect()
    }

    /// The veths whose pod came under its rules since this was last asked, once those of all known pods are in force.
    pub fn newly_ruled(&mut self, pods: &Pods) -> Vec<(u32, IpAddr)> {
        let mut newly = Vec::new();
        for seat in self.all.values_mut().filter(|seat| !seat.ruled && seat.attached) {
            if let Some(address) = seat.address.filter(|address| pods.rulesets(address).is_some()) {
                seat.ruled = true;
                newly.push((seat.veth.ifindex, address));
            }
        }
        newly
    }

    /// Whether a pod of this node has no veth, or no address to find it by.
    pub fn is_awaited(&self, pods: &Pods) -> bool {
        pods.is_one_unaddressed() || self.missing(pods) > 0
    }

    /// How many pods have an address, and no veth by any.
    pub fn missing(&self, pods: &Pods) -> usize {
        let addresses = self.all.values().filter_map(|seat| seat.address);
        let seated: BTreeSet<PodIx> = addresses
            .filter_map(|address| pods.by_address.get(&address).copied().flatten())
            .collect();
        let addressed = pods
            .all
            .iter()
            .zip(0..)
            .filter(|(pod, _)| !pod.addresses.is_empty());
        addressed.filter(|(_, index)| !seated.contains(index)).count()
    }

    /// Closed veths that are nobody's: every pod has its own, and has had time to get it.
    pub fn nobodys(&self, pods: &Pods, after: Duration, now: Instant) -> Vec<u32> {
        if self.is_awaited(pods) {
            return Vec::new();
        }
        let over = |since: Instant| now.duration_since(since) >= after;
        let closed = self
            .all
            .values()
            .filter(|seat| seat.address.is_none() && !seat.strangers && seat.closed.is_some_and(over));
        closed.map(|seat| seat.veth.ifindex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(list: &[(&str, &str, Rulesets)]) -> Pods {
        let mut endpoints = BTreeMap::new();
        for (name, address, (ingress, egress)) in list {
            let endpoint = Endpoint {
                uid: (*name).to_owned(),
                addresses: address
                    .split_whitespace()
                    .map(|one| one.parse().unwrap())
                    .collect(),
                ingress: *ingress,
                egress: *egress,
            };
            endpoints.insert(Key::new("ns", *name), endpoint);
        }
        Pods::of(endpoints.iter())
    }

    fn veth(ifindex: u32, netns: i32) -> Veth {
        Veth {
            ifindex,
            peer: 2,
            netns,
            controller: None,
        }
    }

    #[test]
    fn a_veth_of_the_same_index_with_another_peer_is_another_veth() {
        let mut seats = Seats::default();
        assert!(seats.survey(&[veth(5, 1), veth(6, 2)]).is_empty());
        assert_eq!(seats.survey(&[veth(5, 3), veth(6, 2)]), [5]);
        assert_eq!(seats.meet(&veth(5, 3)), None);
        assert_eq!(seats.meet(&veth(5, 4)), Some(5));
        assert_eq!(seats.survey(&[veth(6, 2)]), [5]);
    }

    #[test]
    fn two_pods_with_one_address_are_known_only_if_they_have_the_same_rules() {
        let both = pods(&[
            ("a", "10.0.0.1", (Some(1), None)),
            ("b", "10.0.0.1", (Some(1), None)),
        ]);
        assert_eq!(both.rulesets(&"10.0.0.1".parse().unwrap()), Some((Some(1), None)));
        let both = pods(&[
            ("a", "10.0.0.1", (Some(1), None)),
            ("b", "10.0.0.1", (None, None)),
        ]);
        assert_eq!(both.rulesets(&"10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_pod_comes_under_its_rules_once_and_not_before_its_veth_has_filters() {
        let known = pods(&[("a", "10.0.0.1", (Some(1), None))]);
        let address = "10.0.0.1".parse().unwrap();
        let mut seats = Seats::default();
        seats.resume(veth(5, 1), Some(address), Instant::now());
        assert_eq!(seats.newly_ruled(&known), []);
        seats.get_mut(5).unwrap().attached = true;
        assert_eq!(seats.newly_ruled(&Pods::default()), []);
        assert_eq!(seats.newly_ruled(&known), [(5, address)]);
        assert_eq!(seats.newly_ruled(&known), []);
    }

    fn claim(address: &str, name: &str, uid: &str) -> Claim {
        Claim {
            address: address.parse().unwrap(),
            uid: uid.to_owned(),
            name: Key::new("ns", name),
        }
    }

    #[test]
    fn the_runtime_knows_of_an_address_before_the_api_does() {
        let mut pods = pods(&[("a", "10.0.0.1", (Some(1), None)), ("b", "", (Some(2), None))]);
        pods.learn([claim("10.0.0.2", "b", "b")].iter());
        assert_eq!(pods.rulesets(&"10.0.0.2".parse().unwrap()), Some((Some(2), None)));
    }

    #[test]
    fn a_pod_of_two_families_is_found_by_either_address_and_has_both() {
        let [v4, v6]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let both = Addresses::from_iter([v4, v6]);
        let known = pods(&[("a", "10.0.0.1 fd00::1", (Some(1), None))]);
        assert_eq!((known.addresses(&v4), known.addresses(&v6)), (both, both));
        let mut seats = Seats::default();
        seats.resume(veth(5, 1), Some(v6), Instant::now());
        assert_eq!(seats.missing(&known), 0);
        let mut learning = pods(&[("a", "10.0.0.1", (Some(1), None))]);
        learning.learn([claim("fd00::1", "a", "a")].iter());
        assert_eq!(
            learning.addresses(&v4),
            both,
            "the API may know the second address later"
        );
    }

    #[test]
    fn an_address_of_two_pods_with_different_rules_is_not_one_of_either() {
        let pods = pods(&[
            ("a", "10.0.0.1 fd00::1", (Some(1), None)),
            ("b", "10.0.0.2 fd00::1", (None, None)),
        ]);
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(pods.addresses(&own), Addresses::from(own));
        assert_eq!(pods.rulesets(&"fd00::1".parse().unwrap()), None);
    }

    #[test]
    fn an_address_that_was_given_to_another_pod_does_not_keep_the_old_ones_rules() {
        let given = "10.0.0.1".parse().unwrap();
        let list = [("old", "10.0.0.1", (None, None)), ("new", "", (Some(2), None))];
        let mut known = pods(&list);
        known.learn([claim("10.0.0.1", "new", "new")].iter());
        assert_eq!(known.rulesets(&given), Some((Some(2), None)));
        let mut unknown = pods(&list[..1]);
        unknown.learn([claim("10.0.0.1", "new", "new")].iter());
        assert!(!unknown.has(&given), "closed until the API tells of the new pod");
    }

    #[test]
    fn of_two_results_for_an_address_the_later_counts() {
        let mut known = pods(&[("new", "10.0.0.1", (Some(1), None))]);
        known.learn([claim("10.0.0.1", "gone", "gone"), claim("10.0.0.1", "new", "new")].iter());
        assert_eq!(
            known.rulesets(&"10.0.0.1".parse().unwrap()),
            Some((Some(1), None))
        );
        let mut left = pods(&[("new", "10.0.0.1", (Some(1), None))]);
        left.learn([claim("10.0.0.1", "gone", "gone")].iter());
        let mut seats = Seats::default();
        seats.resume(veth(5, 1), None, Instant::now());
        assert_eq!(seats.missing(&left), 1, "it is closed, and that has to be said");
    }

    #[test]
    fn a_pod_that_the_api_has_not_told_of_stays_closed_however_long() {
        let (start, after) = (Instant::now(), Duration::from_secs(10));
        let mut seats = Seats::default();
        seats.resume(veth(5, 1), Some("10.0.0.1".parse().unwrap()), start);
        seats.resume(veth(6, 2), None, start);
        let mut known = pods(&[("a", "10.0.0.1", (None, None))]);
        known.learn(
            [
                claim("10.0.0.1", "a", "a"),
                claim("10.0.0.2", "unknown", "unknown"),
            ]
            .iter(),
        );
        assert!(known.is_strangers(&"10.0.0.2".parse().unwrap()));
        if let Some(seat) = seats.get_mut(6) {
            seat.strangers = true;
        }
        assert_eq!(seats.nobodys(&known, after, start + after), [] as [u32; 0]);
    }

    #[test]
    fn a_static_pod_is_known_by_its_name_once_the_api_has_its_address() {
        let mut pods = pods(&[("static", "10.0.0.1", (Some(1), None))]);
        pods.learn([claim("10.0.0.1", "static", "a hash")].iter());
        assert_eq!(pods.rulesets(&"10.0.0.1".parse().unwrap()), Some((Some(1), None)));
    }

    #[test]
    fn a_pod_of_the_nodes_own_network_is_none_of_these() {
        let mut cluster = ringfence_netpol::cluster::Cluster::default();
        for (name, host_network) in [("own", false), ("node", true)] {
            let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name},
                "spec": {"nodeName": "one", "hostNetwork": host_network, "containers": []},
                "status": {"phase": "Running", "podIPs": [{"ip": if host_network { "192.0.2.1" } else { "10.0.0.1" }}]},
            }))
            .unwrap();
            cluster.apply(&pod);
        }
        let mut compiler = ringfence_netpol::compile::Compiler::new("one");
        compiler.update(&cluster);
        let pods = Pods::of(compiler.endpoints());
        assert!(pods.has(&"10.0.0.1".parse().unwrap()) && !pods.has(&"192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_closed_veth_is_let_go_only_when_every_pod_has_its_own_and_some_time_has_passed() {
        let (start, after) = (Instant::now(), Duration::from_secs(10));
        let later = start + after;
        let mut seats = Seats::default();
        seats.resume(veth(5, 1), Some("10.0.0.1".parse().unwrap()), start);
        seats.resume(veth(6, 2), None, start);
        let seated = pods(&[("a", "10.0.0.1", (None, None))]);
        assert_eq!(seats.nobodys(&seated, after, start), [] as [u32; 0]);
        assert_eq!(seats.nobodys(&seated, after, later), [6]);
        let awaiting = pods(&[("a", "10.0.0.1", (None, None)), ("b", "", (None, None))]);
        assert_eq!(seats.nobodys(&awaiting, after, later), [] as [u32; 0]);
        let missing = pods(&[("a", "10.0.0.1", (None, None)), ("b", "10.0.0.2", (None, None))]);
        assert_eq!(seats.nobodys(&missing, after, later), [] as [u32; 0]);
    }
}
