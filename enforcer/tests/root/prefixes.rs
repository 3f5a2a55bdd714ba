//! Prefixes, many and within each other.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringfence_netpol::compile::NodeRules;
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

use super::harness::{Kernel, alone, key, rules};
use super::packets::{Ip, SYN};
use super::programs::{POD, UPLINK, VETH, from_friend};

const RULES: u32 = 7;
/// Before this nothing is under way any more.
const SWEEP: Duration = Duration::from_millis(60);

/// Prefixes that look random, and are the same each time: most of them near others, within others, or one beside the other.
struct Prefixes(u64);

impl Prefixes {
    fn number(&mut self, below: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % below
    }

    fn prefix(&mut self) -> (u32, u32) {
        let length = [8 + self.number(9), 17 + self.number(11), 28 + self.number(5)][self.number(3) as usize];
        let near = 0x1400_0000 + self.number(2) * 0x0001_0000;
        let address = match self.number(4) {
            0 => 0x1400_0000 + self.number(0x0100_0000),
            1 => near + self.number(0x0001_0000),
            _ => near + 0x4200 + self.number(0x400),
        };
        (address & (u32::MAX << (32 - length)), length)
    }
}

fn let_in(prefixes: &[(u32, u32)]) -> NodeRules {
    let of_rule = |rule: u32| -> Value {
        let blocks = prefixes
            .iter()
            .filter(|(address, length)| (address / 16 + length) % RULES == rule);
        let blocks: Vec<Value> = blocks
            .map(|(address, length)| {
                let address = Ipv4Addr::from(*address);
                json!({"ipBlock": {"cidr": format!("{address}/{length}")}})
            })
            .collect();
        json!({"from": blocks, "ports": [{"port": 1000 + rule}]})
    };
    let ingress = (0..RULES).map(of_rule).filter(|rule| rule["from"] != json!([]));
    let policy =
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress.collect::<Vec<_>>()});
    rules(&[("pod", json!({}), "10.0.0.1")], &[policy], &[])
}

/// Both ends of each prefix and what is beside them, each as a flow of its own.
fn check(kernel: &Kernel, rules: &NodeRules, prefixes: &[(u32, u32)], flow: &mut u16) {
    let ingress = rules.endpoints[&key("pod")].ingress;
    for (network, length) in prefixes {
        let last = network | !(u32::MAX << (32 - length));
        for address in [network.wrapping_sub(1), *network, last, last.wrapping_add(1)] {
            let peer = Ipv4Addr::from(address);
            let class = rules.class_of(IpAddr::V4(peer));
            for port in [1000, 1003, 1000 + (length % RULES) as u16] {
                *flow = flow.wrapping_add(1).max(1);
                assert_eq!(
                    kernel.passes_in(VETH, &Ip::new(peer, POD).tcp(*flow, port, SYN), UPLINK),
                    rules.opens(ingress, class, Transport::Port(Protocol::Tcp, port)),
                    "{peer}, beside or in {}/{length}, to port {port}",
                    Ipv4Addr::from(*network)
                );
            }
        }
    }
}

#[test]
fn an_address_is_of_the_longest_prefix_around_it_however_they_come_and_go() {
    alone(|| {
        let mut kernel = Kernel::load();
        kernel.seat(VETH, POD);
        let mut random = Prefixes(1);
        let mut prefixes: Vec<(u32, u32)> = Vec::new();
        let mut ever = prefixes.clone();
        let mut flow = 0;
        for (come, go) in [(300, 0), (1, 0), (200, 250), (0, 1), (100, 40), (0, 300)] {
            prefixes.drain(..go.min(prefixes.len()));
            let fresh: Vec<(u32, u32)> = (0..come).map(|_| random.prefix()).collect();
            prefixes.extend(&fresh);
            ever.extend(fresh);
            let rules = let_in(&prefixes);
            kernel.enforce(&rules, &[(VETH, &key("pod"))]);
            check(&kernel, &rules, &ever, &mut flow);
            std::thread::sleep(SWEEP);
            kernel.sync.sweep().unwrap();
            check(&kernel, &rules, &ever, &mut flow);
            if come == 200 {
                // Another agent, which has to find out what there is.
                kernel = Kernel::load();
                check(&kernel, &rules, &ever, &mut flow);
            }
        }
    });
}

#[test]
fn a_pod_is_known_also_where_there_was_none_before() {
    alone(|| {
        let mut kernel = Kernel::load();
        kernel.seat(VETH, POD);
        let far = Ipv4Addr::new(172, 20, 3, 4);
        let pods = [
            ("pod", json!({"app": "pod"}), "10.0.0.1"),
            ("far", json!({"app": "friend"}), "172.20.3.4"),
        ];
        let mut flow = 0;
        let mut passes = |kernel: &Kernel| {
            flow += 1;
            kernel.passes_in(VETH, &Ip::new(far, POD).tcp(flow, 80, SYN), UPLINK)
        };
        for there in [1, 2, 1, 2] {
            let rules = rules(&pods[..there], &[from_friend()], &[]);
            kernel.enforce(&rules, &[(VETH, &key("pod"))]);
            assert_eq!(passes(&kernel), there == 2);
            std::thread::sleep(SWEEP);
            kernel.sync.sweep().unwrap();
            assert_eq!(passes(&kernel), there == 2);
            kernel = Kernel::load();
            assert_eq!(passes(&kernel), there == 2);
        }
    });
}
