//! Whatever the rules were and become: at every single write, every verdict is that of the old rules or that of the new ones,
//! and at the end that of the new ones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseResult;
use ringfence_netpol::compile::delta::{ANYONE, PODS};
use ringfence_netpol::compile::{Class, NodeRules, OpenRule, PeerGroup, Ruleset};
use ringfence_netpol::policy::{Direction, IpBlock};
use ringfence_netpol::port::{PortRange, PortSet, Protocol, Transport};

use super::super::differences::Differences;
use super::super::state::{has_bit, port_index};
use super::super::tables::{EVERYTHING, Encoder, OPEN};
use super::*;

const ROOM: Room = Room {
    addresses: 1000,
    prefixes: 1000,
    decisions: 1000,
    services: 1000,
};
const PORTS: [u16; 5] = [0, 79, 80, 443, 65535];

/// What a packet finds: the same look-ups as in verdict.h.
fn verdict(state: &State, word: Word, ingress: bool, address: IpAddr, transport: Transport) -> bool {
    let ruleset = if ingress { word.ingress } else { word.egress };
    if ruleset == OPEN {
        return true;
    }
    let pod = state
        .addresses
        .get(&address)
        .map(|sides| sides[word.side()])
        .filter(|class| *class != NONE);
    let any = if pod.is_some() { PODS } else { ANYONE };
    let class = pod.unwrap_or_else(|| {
        let holding = state
            .prefixes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        holding
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(0, |(_, sides)| sides[word.side()])
    });
    let Some(set) = state
        .decisions
        .get(&(ruleset, class))
        .or_else(|| state.decisions.get(&(ruleset, any)))
    else {
        return false;
    };
    match transport {
        _ if *set == EVERYTHING => true,
        Transport::Portless => false,
        Transport::Port(protocol, port) => state
            .port_sets
            .get(set)
            .is_some_and(|bits| has_bit(bits, state.port_classes[port_index(protocol, port)])),
    }
}

fn probes() -> Vec<(IpAddr, Transport)> {
    let hosts = (0..6)
        .flat_map(|n| [host(n, false), host(n, true)])
        .chain(["10.0.1.9", "9.9.9.9", "fd00:1::9", "2001:db8::9"].map(|address| address.parse().unwrap()));
    let ports = Protocol::ALL
        .into_iter()
        .flat_map(|p| PORTS.map(|port| Transport::Port(p, port)));
    let transports: Vec<_> = ports.chain([Transport::Portless]).collect();
    hosts
        .flat_map(|host| transports.iter().map(move |transport| (host, *transport)))
        .collect()
}

fn host(number: u8, six: bool) -> IpAddr {
    if six {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)])
    } else {
        IpAddr::from([10, 0, 0, number])
    }
}

/// Rules as a compiler could make them, over few addresses: everything meets everything.
fn rules() -> impl Strategy<Value = NodeRules> {
    let net = select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.2/31",
        "10.0.0.4/32",
        "9.0.0.0/8",
        "::/0",
        "fd00::/64",
        "fd00::2/127",
    ]);
    let peers = prop::collection::btree_set(net, 1..4);
    let member = |n: u32| prop::collection::btree_set(0..n, 0..3);
    let range =
        (select(&Protocol::ALL[..]), select(&PORTS[..]), select(&PORTS[..])).prop_map(|(protocol, a, b)| {
            PortRange {
                protocol,
                first: a.min(b),
                last: a.max(b),
            }
        });
    let ports = prop_oneof![
        1 => Just(PortSet::All),
        4 => prop::collection::vec(range, 1..3).prop_map(|ranges| ranges.into_iter().collect()),
    ];
    let rule = (prop::option::of(member(3)), ports);
    let rulesets = prop::collection::vec((any::<bool>(), prop::collection::vec(rule, 0..3)), 0..4);
    let pods = prop::collection::vec(((0..6_u8, any::<bool>()), member(3)), 0..5);
    let blocks = prop::collection::btree_map(
        select(vec![
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/24",
            "10.0.0.2/31",
            "10.0.0.4/32",
            "::/0",
            "fd00::/16",
            "fd00::/64",
            "fd00::2/127",
        ]),
        member(3),
        0..4,
    );
    (peers, rulesets, pods, blocks)
        .prop_map(|(peers, rulesets, pods, blocks)| assemble(peers, rulesets, pods, blocks))
}

type Members = std::collections::BTreeSet<u32>;
type Rules = Vec<(Option<Members>, PortSet)>;
/// What each endpoint has, for ingress and for egress.
type Assigned = Vec<(Option<u32>, Option<u32>)>;

fn assemble(
    peers: std::collections::BTreeSet<&str>,
    rulesets: Vec<(bool, Rules)>,
    pods: Vec<((u8, bool), Members)>,
    blocks: BTreeMap<&str, Members>,
) -> NodeRules {
    let count = peers.len() as u32;
    let known = |members: &Members| {
        members
            .iter()
            .copied()
            .filter(|peer| *peer < count)
            .collect::<Vec<_>>()
    };
    let mut rules = NodeRules {
        peers: peers
            .into_iter()
            .map(|cidr| {
                PeerGroup::Blocks(vec![IpBlock {
                    cidr: cidr.parse().unwrap(),
                    except: vec![],
                }])
            })
            .collect(),
        classes: vec![Class::default()],
        ..NodeRules::default()
    };
    let class = |rules: &mut NodeRules, members: &Members| {
        let class = Class {
            peers: known(members),
            named_ports: vec![],
        };
        let found = rules.classes.iter().position(|other| *other == class);
        found.unwrap_or_else(|| {
            rules.classes.push(class);
            rules.classes.len() - 1
        }) as u32
    };
    for ((number, six), members) in pods {
        let class = class(&mut rules, &members);
        if class != 0 {
            rules.addresses.insert(host(number, six), class);
        }
    }
    for (prefix, members) in blocks {
        let class = class(&mut rules, &members);
        rules.blocks.insert(prefix.parse().unwrap(), class);
    }
    for (ingress, list) in rulesets {
        let direction = if ingress {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let list = list.into_iter().map(|(peers, ports)| OpenRule {
            peers: peers.map(|members| known(&members)),
            ports,
            named_ports: vec![],
        });
        rules.rulesets.push(Ruleset {
            direction,
            rules: list.collect(),
        });
    }
    decide(&mut rules);
    rules
}

fn decide(rules: &mut NodeRules) {
    let mut decisions = Vec::new();
    for (ruleset, index) in rules.rulesets.iter().zip(0..) {
        for (class, number) in rules.classes.iter().zip(0..) {
            let open = ruleset.rules.iter().filter(|rule| {
                rule.peers
                    .as_ref()
                    .is_none_or(|peers| peers.iter().any(|peer| class.peers.contains(peer)))
            });
            let ports = open.fold(PortSet::empty(), |ports, rule| ports.union(&rule.ports));
            if !ports.is_empty() {
                decisions.push(((index, number), ports));
            }
        }
    }
    rules.decisions = decisions.into_iter().collect();
}

/// Four endpoints with rulesets picked from those that there are.
fn endpoints(rules: &NodeRules, picks: &[(usize, usize); 4]) -> Assigned {
    let pick = |n: usize| (!rules.rulesets.is_empty() && n > 0).then(|| (n % rules.rulesets.len()) as u32);
    picks
        .iter()
        .map(|(ingress, egress)| (pick(*ingress), pick(*egress)))
        .collect()
}

fn expected(
    rules: &NodeRules,
    endpoint: (Option<u32>, Option<u32>),
    ingress: bool,
    probe: (IpAddr, Transport),
) -> bool {
    let ruleset = if ingress { endpoint.0 } else { endpoint.1 };
    rules.opens(ruleset, rules.class_of(probe.0), probe.1)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// The agent goes on.
    Swept,
    /// It goes on, but the next change comes before the sweep.
    Unswept,
    /// Only what was changed before this change is swept.
    SweptBefore,
    /// The maps are read anew.
    Doubted,
    /// It was killed, and a new one found the maps as they are.
    Killed,
}

/// What the agent knows of the maps, and the maps.
struct Agent {
    state: State,
    encoder: Encoder,
    differences: Differences,
    generation: u32,
    behind: bool,
}

impl Agent {
    fn take(&mut self, rules: &NodeRules) {
        let delta = self.differences.to(rules);
        if !self.behind {
            self.encoder.take(&delta).unwrap();
        }
    }

    /// How to bring into force what was taken.
    fn plan(&mut self, assigned: &Assigned) -> Plan {
        if std::mem::take(&mut self.behind) {
            self.encoder
                .replace(&self.differences.everything(), &self.state)
                .unwrap();
        }
        let id = |index: Option<u32>| self.encoder.ruleset(self.differences.ruleset(index)).unwrap();
        let endpoints: Endpoints = assigned
            .iter()
            .zip(1..)
            .map(|((ingress, egress), ifindex)| (ifindex, (id(*ingress), id(*egress))))
            .collect();
        let wanted = (&self.encoder.tables, &self.encoder.pending);
        plan(&self.state, wanted, &endpoints, self.generation, &ROOM).unwrap()
    }

    fn end(&mut self, ending: Ending, agrees: impl Fn(&State) -> TestCaseResult) -> TestCaseResult {
        let epoch = self.encoder.turn();
        match ending {
            Ending::Unswept => {}
            Ending::Doubted => {
                self.encoder.reserve(&self.state);
                self.behind = true;
            }
            Ending::Killed => {
                let state = &mut self.state;
                (self.encoder, self.differences, self.behind) =
                    (Encoder::default(), Differences::default(), true);
                self.encoder.reserve(state);
                state
                    .port_sets
                    .retain(|id, _| state.decisions.values().any(|set| set == id));
            }
            Ending::SweptBefore if epoch == 0 => {}
            Ending::SweptBefore | Ending::Swept => {
                let until = epoch - u64::from(ending == Ending::SweptBefore);
                let wanted = (&self.encoder.tables, &self.encoder.pending);
                for write in sweep(&self.state, wanted, self.generation, until) {
                    self.state.take(write);
                    agrees(&self.state)?;
                }
                let turned = is_turned(&self.state, self.generation);
                self.encoder.swept(until, turned, &mut self.state);
                if ending == Ending::Swept {
                    self.holds_what_it_shall()?;
                }
            }
        }
        Ok(())
    }

    fn holds_what_it_shall(&self) -> TestCaseResult {
        let Encoder { tables, pending, .. } = &self.encoder;
        prop_assert!(pending.is_empty());
        let decisions = self.differences.everything().granted.into_iter();
        let decisions = decisions.map(|(pair, set)| self.encoder.row(pair, set).unwrap());
        prop_assert_eq!(&self.state.decisions, &decisions.collect());
        prop_assert_eq!(&self.state.services, &tables.services);
        let sides = |class: &u32| [*class; 2];
        let addresses: BTreeMap<IpAddr, Sides> = tables
            .addresses
            .iter()
            .map(|(at, class)| (*at, sides(class)))
            .collect();
        prop_assert_eq!(&self.state.addresses, &addresses);
        let prefixes: BTreeMap<IpNet, Sides> = tables
            .prefixes
            .iter()
            .map(|(at, class)| (*at, sides(class)))
            .collect();
        prop_assert_eq!(&self.state.prefixes, &prefixes);
        prop_assert!(self.state.port_sets.keys().eq(tables.port_sets.keys()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_packet_meets_the_old_rules_or_the_new_ones_and_nothing_between(
        steps in prop::collection::vec(
            (
                // More than one: those before were taken, but not brought into force.
                prop::collection::vec(rules(), 1..3),
                any::<[(usize, usize); 4]>(),
                select(vec![Ending::Swept, Ending::Unswept, Ending::SweptBefore, Ending::Doubted, Ending::Killed]),
            ),
            1..6,
        ),
    ) {
        let mut agent = Agent {
            state: State::default(),
            encoder: Encoder::default(),
            differences: Differences::default(),
            generation: 1,
            behind: true,
        };
        let mut before: Option<(NodeRules, Assigned)> = None;
        for (mut taken, picks, ending) in steps {
            taken.iter().for_each(|rules| agent.take(rules));
            let rules = taken.pop().unwrap();
            let assigned = endpoints(&rules, &picks);
            let plan = agent.plan(&assigned);
            for write in plan.make.iter().chain(&plan.flip) {
                for single in singles(write) {
                    agent.state.take(single);
                    if let Some((old_rules, old_assigned)) = &before {
                        agrees(&agent.state, &[(old_rules, old_assigned), (&rules, &assigned)])?;
                    }
                }
            }
            agent.generation = plan.generation;
            agrees(&agent.state, &[(&rules, &assigned)])?;
            prop_assert_eq!(agent.state.words.len(), 4);
            let again = agent.plan(&assigned);
            prop_assert!(again.is_empty(), "what is in force needs no writes: {:?}", again);
            agent.end(ending, |state| agrees(state, &[(&rules, &assigned)]))?;
            before = Some((rules, assigned));
        }
    }
}

/// A range of ports is given its class port by port.
fn singles(write: &Write) -> Vec<Write> {
    match write {
        Write::PortClass(range, class) => {
            let cuts: Vec<usize> = PORTS
                .iter()
                .flat_map(|p| Protocol::ALL.map(|q| port_index(q, *p)))
                .collect();
            let mut starts = vec![range.start];
            starts.extend(
                cuts.into_iter()
                    .filter(|cut| range.contains(cut) && *cut > range.start),
            );
            starts.sort_unstable();
            let ends = starts
                .iter()
                .skip(1)
                .copied()
                .chain([range.end])
                .collect::<Vec<_>>();
            starts
                .into_iter()
                .zip(ends)
                .map(|(start, end)| Write::PortClass(start..end, *class))
                .collect()
        }
        other => vec![other.clone()],
    }
}

/// Each endpoint's verdicts are all those of one of these rules.
fn agrees(state: &State, candidates: &[(&NodeRules, &Assigned)]) -> Result<(), TestCaseError> {
    for (ifindex, word) in &state.words {
        let wholly = candidates.iter().any(|(rules, assigned)| {
            let endpoint = assigned[*ifindex as usize - 1];
            probes().into_iter().all(|(address, transport)| {
                [true, false].into_iter().all(|ingress| {
                    verdict(state, *word, ingress, address, transport)
                        == expected(rules, endpoint, ingress, (address, transport))
                })
            })
        });
        prop_assert!(wholly, "endpoint {} agrees with neither of the rules", ifindex);
    }
    Ok(())
}
