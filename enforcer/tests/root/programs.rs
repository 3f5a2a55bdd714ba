//! Single packets through the programs.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use proptest::test_runner::{Config, TestRunner};
use ringfence_netpol::cluster::Key;
use ringfence_netpol::compile::{NodeRules, compile};
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

use super::arbitrary::{NODES, objects};
use super::harness::{Kernel, alone, key, rules};
use super::packets::{ACK, Ip, SYN, frame};
use super::packets6::Ip6;

/// The loopback interface stands for the veth: `test_run` knows no other here.
pub const VETH: u32 = 1;
/// Some other interface of the node.
pub const UPLINK: u32 = 7;
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const FRIEND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn some_pods() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("pod", json!({"app": "pod"}), "10.0.0.1"),
        ("friend", json!({"app": "friend"}), "10.0.0.2 fd00::2"),
        ("stranger", json!({"app": "stranger"}), "10.0.0.3"),
    ]
}

fn with(policies: &[Value]) -> NodeRules {
    let services =
        [json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]})];
    rules(&some_pods(), policies, &services)
}

/// The pod under policies, the only endpoint.
pub fn kernel(policies: &[Value]) -> Kernel {
    let mut kernel = Kernel::load();
    kernel.seat(VETH, POD);
    enforce(&mut kernel, policies);
    kernel
}

pub fn enforce(kernel: &mut Kernel, policies: &[Value]) {
    kernel.enforce(&with(policies), &[(VETH, &key("pod"))]);
}

fn echo6() -> Vec<u8> {
    let [from, to] = [1, 2].map(|host| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
    Ip6::new(from, to).icmp(128, 1)
}

pub fn closed() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress", "Egress"]})
}

pub fn from_friend() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}],
    })
}

pub fn to_friend() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress", "Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    })
}

pub fn in_from(peer: Ipv4Addr) -> Ip {
    Ip::new(peer, POD)
}

pub fn out_to(peer: Ipv4Addr) -> Ip {
    Ip::new(POD, peer)
}

#[test]
fn every_program_passes_the_verifier_and_a_second_agent_takes_over_its_maps() {
    alone(|| {
        let first = kernel(&[from_friend()]);
        let before = first.maps.endpoints().unwrap();
        let mut second = Kernel::load();
        assert_eq!(second.maps.endpoints().unwrap(), before);
        assert!(second.passes_in(VETH, &in_from(FRIEND).tcp(1000, 80, SYN), UPLINK));
        assert!(!second.passes_in(VETH, &in_from(STRANGER).tcp(1000, 80, SYN), UPLINK));
        enforce(&mut second, &[from_friend()]);
        assert!(second.passes_in(VETH, &in_from(FRIEND).tcp(1001, 80, SYN), UPLINK));
        assert!(!second.passes_in(VETH, &in_from(STRANGER).tcp(1001, 80, SYN), UPLINK));
    });
}

#[test]
fn an_interface_without_a_place_passes_nothing_and_one_whose_pod_is_not_known_nothing_but_neighbours() {
    alone(|| {
        let kernel = Kernel::load();
        assert!(!kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
        kernel.maps.admit(VETH).unwrap();
        for packet in [
            out_to(FRIEND).udp(1, 2),
            out_to(FRIEND).tcp(1, 2, ACK),
            echo6(),
            frame(0x8863, &[0; 40]),
        ] {
            assert!(!kernel.passes_out(VETH, &packet) && !kernel.passes_in(VETH, &packet, 0));
        }
        let packet = frame(0x0806, &[0; 28]);
        assert!(kernel.passes_out(VETH, &packet) && kernel.passes_in(VETH, &packet, UPLINK));
        assert_eq!(kernel.count("pending"), 9);
    });
}

#[test]
fn an_interface_counts_as_looked_at_also_beside_one_of_the_same_place() {
    alone(|| {
        let maps = Kernel::load().maps;
        maps.arm();
        let alike = [12, 12 + 65_536, 65_536];
        alike.iter().for_each(|ifindex| maps.look_at(*ifindex));
        assert!(alike.iter().all(|ifindex| maps.is_looked_at(*ifindex)));
        maps.look_away(12 + 65_536);
        assert!(maps.is_looked_at(12) && !maps.is_looked_at(12 + 65_536));
        maps.look_away(65_536);
        assert!(maps.is_armed(), "that is no interface's to take away");
    });
}

#[test]
fn a_pod_tells_its_neighbours_of_no_other_address_than_its_own() {
    // Who has 10.0.0.2? Tell, or: is at, the sender.
    let arp = |operation: u8, sender: Ipv4Addr| {
        let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 2];
        bytes.extend(sender.octets());
        bytes.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        frame(0x0806, &bytes)
    };
    alone(move || {
        for policies in [vec![], vec![closed()]] {
            let kernel = kernel(&policies);
            let before = kernel.count("spoofed");
            for operation in [1, 2] {
                assert!(kernel.passes_out(VETH, &arp(operation, POD)));
                assert!(kernel.passes_out(VETH, &arp(operation, Ipv4Addr::UNSPECIFIED)));
                assert!(!kernel.passes_out(VETH, &arp(operation, FRIEND)));
                assert!(kernel.passes_in(VETH, &arp(operation, FRIEND), UPLINK));
            }
            assert!(!kernel.passes_out(VETH, &frame(0x0806, &[0; 10])));
            assert_eq!(kernel.count("spoofed") - before, 3);
        }
    });
}

#[test]
fn a_flow_that_is_allowed_is_answered_and_one_that_is_not_is_neither() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        let friend = in_from(FRIEND);
        assert!(
            !kernel.passes_out(VETH, &friend.answer().udp(53, 999)),
            "nobody asked yet"
        );
        assert!(kernel.passes_in(VETH, &friend.udp(999, 53), UPLINK));
        assert!(kernel.passes_out(VETH, &friend.answer().udp(53, 999)));
        assert!(
            !kernel.passes_out(VETH, &friend.answer().udp(53, 998)),
            "another port is another flow"
        );
        assert!(kernel.passes_in(VETH, &friend.tcp(999, 80, SYN), UPLINK));
        assert!(kernel.passes_out(VETH, &friend.answer().tcp(80, 999, SYN | ACK)));
        assert!(!kernel.passes_in(VETH, &friend.tcp(999, 81, SYN), UPLINK));
        assert!(
            !kernel.passes_in(VETH, &friend.sctp(999, 80), UPLINK),
            "SCTP is not TCP"
        );
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).udp(999, 53), UPLINK));
    });
}

#[test]
fn an_opposite_connection_on_the_ports_of_a_known_one_is_judged_by_itself() {
    alone(|| {
        let kernel = kernel(&[to_friend()]);
        assert!(kernel.passes_out(VETH, &out_to(FRIEND).tcp(1000, 80, SYN)));
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).tcp(80, 1000, SYN | ACK), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(FRIEND).tcp(80, 1000, SYN), UPLINK));
        assert!(kernel.passes_out(VETH, &out_to(FRIEND).icmp(8, 5)));
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).icmp(0, 5), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(FRIEND).icmp(8, 5), UPLINK));
        assert!(
            !kernel.passes_in(VETH, &in_from(FRIEND).icmp(0, 6), UPLINK),
            "an answer to nothing"
        );
    });
}

#[test]
fn a_connection_that_was_forgotten_is_picked_up_if_it_could_have_been_opened() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        assert!(
            kernel.passes_out(VETH, &out_to(FRIEND).tcp(80, 1000, ACK)),
            "the friend may have opened it"
        );
        assert!(!kernel.passes_out(VETH, &out_to(FRIEND).tcp(81, 1000, ACK)));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(1000, 80, ACK), UPLINK));
        assert_eq!(kernel.count("picked_up"), 1);
    });
}

#[test]
fn a_change_of_policy_cuts_what_it_closes_and_keeps_what_it_does_not() {
    alone(|| {
        let mut kernel = kernel(&[]);
        let (opened, served) = (out_to(STRANGER), in_from(FRIEND));
        assert!(kernel.passes_out(VETH, &opened.tcp(1000, 80, SYN)));
        assert!(kernel.passes_in(VETH, &served.tcp(1000, 80, SYN), UPLINK));
        enforce(&mut kernel, &[from_friend()]);
        assert!(!kernel.passes_out(VETH, &opened.tcp(1000, 80, ACK)));
        assert!(
            !kernel.passes_in(VETH, &opened.answer().tcp(80, 1000, ACK), UPLINK),
            "nor from the other side"
        );
        assert!(
            kernel.passes_out(VETH, &served.answer().tcp(80, 1000, ACK)),
            "judged again by who opened it"
        );
        enforce(&mut kernel, &[closed()]);
        assert!(!kernel.passes_out(VETH, &served.answer().tcp(80, 1000, ACK)));
        assert_eq!((kernel.count("rejudged"), kernel.count("cut")), (1, 3));
        enforce(&mut kernel, &[]);
        assert!(kernel.passes_out(VETH, &served.answer().tcp(80, 1000, ACK)));
    });
}

#[test]
fn what_the_node_makes_reaches_the_pod_and_is_answered() {
    alone(|| {
        let mut kernel = kernel(&[closed()]);
        let node = in_from(Ipv4Addr::new(192, 0, 2, 1));
        assert!(
            !kernel.passes_in(VETH, &node.tcp(1000, 80, SYN), UPLINK),
            "forwarded with the node's address"
        );
        assert!(kernel.passes_in(VETH, &node.tcp(1000, 80, SYN), 0));
        assert!(kernel.passes_out(VETH, &node.answer().tcp(80, 1000, SYN | ACK)));
        assert!(kernel.passes_in(VETH, &node.tcp(1000, 80, ACK), 0));
        assert!(
            !kernel.passes_in(VETH, &node.tcp(1000, 80, SYN), UPLINK)
                && !kernel.passes_in(VETH, &node.tcp(1000, 80, ACK), UPLINK),
            "forwarded with the node's address, by the ports of what the node opened"
        );
        enforce(&mut kernel, &[closed(), to_friend()]);
        assert!(
            kernel.passes_out(VETH, &node.answer().tcp(80, 1000, ACK)),
            "also after a change of policy"
        );
        assert!(!kernel.passes_out(VETH, &node.answer().tcp(80, 1001, SYN)));
    });
}

#[test]
fn only_the_pods_own_address_gets_out_of_it() {
    alone(|| {
        for policies in [vec![], vec![to_friend()]] {
            let kernel = kernel(&policies);
            assert!(!kernel.passes_out(VETH, &Ip::new(STRANGER, FRIEND).udp(1, 2)));
            assert!(kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
            let discover = Ip::new(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
            assert!(kernel.passes_out(VETH, &discover.udp(68, 67)));
            assert!(!kernel.passes_out(VETH, &Ip::new(Ipv4Addr::UNSPECIFIED, FRIEND).udp(68, 67)));
        }
    });
}

#[test]
fn ports_are_found_behind_options_and_fragments_follow_their_first() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        let optioned = Ip {
            options: vec![1; 8],
            ..in_from(FRIEND)
        };
        assert!(kernel.passes_in(VETH, &optioned.udp(999, 53), UPLINK));
        // Read at the usual place, the options would be these allowed ports.
        let disguised = Ip {
            options: vec![3, 231, 0, 53, 0, 0, 0, 0],
            ..in_from(FRIEND)
        };
        assert!(!kernel.passes_in(VETH, &disguised.udp(999, 54), UPLINK));

        let first = Ip {
            more: true,
            id: 77,
            ..in_from(FRIEND)
        };
        let later = Ip {
            offset: 100,
            ..first.clone()
        };
        assert!(
            !kernel.passes_in(VETH, &later.raw(17, &[0; 64]), UPLINK),
            "its first has not come"
        );
        assert!(kernel.passes_in(VETH, &first.udp(998, 53), UPLINK));
        assert!(kernel.passes_in(VETH, &later.raw(17, &[0; 64]), UPLINK));
        assert!(
            !kernel.passes_in(
                VETH,
                &Ip {
                    id: 78,
                    ..later.clone()
                }
                .raw(17, &[0; 64]),
                UPLINK
            )
        );
        let overwriting = Ip { offset: 1, ..first };
        assert!(!kernel.passes_in(VETH, &overwriting.raw(6, &[0; 64]), UPLINK));
    });
}

#[test]
fn errors_pass_if_they_are_about_a_flow_that_is_allowed() {
    alone(|| {
        let kernel = kernel(&[to_friend()]);
        let (asked, router) = (out_to(FRIEND), in_from(Ipv4Addr::new(192, 0, 2, 9)));
        let about = asked.packet(17, &super::packets::udp(1000, 53));
        assert!(!kernel.passes_in(VETH, &router.unreachable(&about), UPLINK));
        assert!(kernel.passes_out(VETH, &asked.udp(1000, 53)));
        assert!(kernel.passes_in(VETH, &router.unreachable(&about), UPLINK));
        let other = asked.packet(17, &super::packets::udp(1001, 53));
        assert!(!kernel.passes_in(VETH, &router.unreachable(&other), UPLINK));
        let answer = asked.answer().packet(17, &super::packets::udp(53, 1000));
        assert!(kernel.passes_out(VETH, &out_to(FRIEND).unreachable(&answer)));
        assert!(
            !kernel.passes_out(VETH, &out_to(STRANGER).unreachable(&answer)),
            "to whom it is not about"
        );
    });
}

#[test]
fn a_service_is_let_out_and_answers_only_after_its_real_destination_was_judged() {
    alone(|| {
        let mut kernel = kernel(&[]);
        let service = out_to(SERVICE);
        assert!(kernel.passes_out(VETH, &service.tcp(999, 80, SYN)));
        enforce(&mut kernel, &[to_friend()]);
        assert!(kernel.passes_out(VETH, &service.udp(1000, 53)));
        assert!(!kernel.passes_in(VETH, &service.answer().udp(53, 1000), UPLINK));
        assert!(kernel.passes_out(VETH, &service.tcp(1000, 80, SYN)));
        assert!(!kernel.passes_in(VETH, &service.answer().tcp(80, 1000, SYN | ACK), UPLINK));
        assert!(
            !kernel.passes_out(VETH, &service.tcp(1000, 81, SYN)),
            "not a port of the Service"
        );
        assert!(
            !kernel.passes_out(VETH, &service.icmp(8, 1)),
            "not translated, so judged as the address that it is"
        );
        assert!(
            kernel.passes_in(VETH, &service.answer().tcp(80, 999, ACK), UPLINK),
            "a connection from before does not stall before it is judged"
        );
    });
}

#[test]
fn what_cannot_be_judged_falls_at_isolated_pods_only() {
    alone(|| {
        let mut kernel = kernel(&[]);
        let odd = [
            echo6(),
            frame(0x8863, &[0; 40]),
            Ip {
                offset: 9,
                ..out_to(FRIEND)
            }
            .raw(17, &[0; 16]),
        ];
        assert!(odd.iter().all(|packet| kernel.passes_out(VETH, packet)));
        enforce(&mut kernel, &[to_friend()]);
        assert!(odd.iter().all(|packet| !kernel.passes_out(VETH, packet)));
        assert!(kernel.passes_out(VETH, &out_to(Ipv4Addr::new(224, 0, 0, 251)).udp(5353, 5353)));
        let cut_short = &out_to(FRIEND).tcp(1, 2, SYN)[..40];
        assert!(!kernel.passes_out(VETH, cut_short));
        assert_eq!(
            (
                kernel.count("spoofed"),
                kernel.count("not_ip"),
                kernel.count("fragment")
            ),
            (1, 1, 1)
        );
    });
}

#[test]
fn blocks_that_overlap_add_up_however_they_are_written() {
    alone(|| {
        let open =
            |cidr: &str, port: u16| json!({"from": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port}]});
        let kernel = kernel(&[json!({
            "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress"],
            "ingress": [open("192.0.0.0/8", 80), open("192.0.2.77/16", 81), open("192.0.2.0/24", 82)],
        })]);
        let passes = |from: [u8; 4], port| {
            kernel.passes_in(VETH, &in_from(Ipv4Addr::from(from)).tcp(port, port, SYN), UPLINK)
        };
        let ports = |from| [80, 81, 82].map(|port| passes(from, port));
        assert_eq!(ports([192, 0, 2, 1]), [true, true, true]);
        assert_eq!(ports([192, 0, 9, 1]), [true, true, false]);
        assert_eq!(ports([192, 9, 9, 1]), [true, false, false]);
        assert_eq!(ports([193, 9, 9, 1]), [false, false, false]);
    });
}

#[test]
fn a_new_client_is_allowed_and_one_that_went_is_not_as_soon_as_the_rules_say_so() {
    alone(|| {
        let mut kernel = kernel(&[from_friend()]);
        let late = Ipv4Addr::new(10, 0, 0, 77);
        assert!(!kernel.passes_in(VETH, &in_from(late).tcp(1, 80, SYN), UPLINK));
        let mut pods = some_pods();
        pods.push(("late", json!({"app": "friend"}), "10.0.0.77"));
        kernel.enforce(&rules(&pods, &[from_friend()], &[]), &[(VETH, &key("pod"))]);
        assert!(kernel.passes_in(VETH, &in_from(late).tcp(2, 80, SYN), UPLINK));
        enforce(&mut kernel, &[from_friend()]);
        assert!(!kernel.passes_in(VETH, &in_from(late).tcp(3, 80, SYN), UPLINK));
    });
}

#[test]
fn the_kernels_verdicts_are_those_of_the_compiled_rules() {
    alone(|| {
        let kernel = RefCell::new(Kernel::load());
        let flow = RefCell::new(1);
        let cases = std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(48);
        let mut runner = TestRunner::new(Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&objects(), |objects| {
            let rules = compile(&objects.cluster(), NODES[0]);
            let mut kernel = kernel.borrow_mut();
            for (key, endpoint) in &rules.endpoints {
                let addresses = &endpoint.addresses;
                if addresses.is_empty() {
                    continue;
                }
                kernel.maps.evict(VETH).unwrap();
                kernel.seat_both(VETH, addresses, VETH);
                kernel.restart();
                kernel.enforce(&rules, &[(VETH, key)]);
                for address in addresses {
                    probe(&kernel, &rules, key, *address, &mut flow.borrow_mut());
                }
            }
            Ok(())
        });
        result.unwrap();
    });
}

/// Every kind of peer of the pod's family and transport, each as a flow of its own.
fn probe(kernel: &Kernel, rules: &NodeRules, key: &Key, pod: IpAddr, flow: &mut u16) {
    let peers = (0..8).flat_map(|n| [format!("10.0.{}.{n}", n % 2), format!("2001:db8::{n}")]);
    let outside = [
        "10.0.9.9",
        "10.1.0.1",
        "192.0.2.1",
        "1.0.0.1",
        "2001:db8::99",
        "2001:db9::1",
        "2000::1",
    ];
    let peers = peers
        .chain(outside.map(str::to_owned))
        .map(|peer| peer.parse::<IpAddr>().unwrap())
        .filter(|peer| *peer != pod && peer.is_ipv4() == pod.is_ipv4());
    let ports = [1, 53, 80, 81, 82, 8080, 65535];
    let numbered = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| ports.map(|port| Transport::Port(protocol, port)));
    let transports: Vec<Transport> = numbered.chain([Transport::Portless]).collect();
    let endpoint = &rules.endpoints[key];
    for peer in peers {
        let class = rules.class_of(peer);
        for transport in &transports {
            *flow = flow.wrapping_add(1).max(1);
            let incoming = kernel.passes_in(VETH, &opening(peer, pod, *transport, *flow), UPLINK);
            assert_eq!(
                incoming,
                rules.opens(endpoint.ingress, class, *transport),
                "{transport} from {peer} to {key}"
            );
            *flow = flow.wrapping_add(1).max(1);
            let outgoing = kernel.passes_out(VETH, &opening(pod, peer, *transport, *flow));
            assert_eq!(
                outgoing,
                rules.opens(endpoint.egress, class, *transport),
                "{transport} from {key} to {peer}"
            );
        }
    }
}

fn opening(from: IpAddr, to: IpAddr, transport: Transport, flow: u16) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = Ip::new(from, to);
            match transport {
                Transport::Port(Protocol::Tcp, port) => ip.tcp(flow, port, SYN),
                Transport::Port(Protocol::Udp, port) => ip.udp(flow, port),
                Transport::Port(Protocol::Sctp, port) => ip.sctp(flow, port),
                Transport::Portless => ip.icmp(8, flow),
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = Ip6::new(from, to);
            match transport {
                Transport::Port(Protocol::Tcp, port) => ip.tcp(flow, port, SYN),
                Transport::Port(Protocol::Udp, port) => ip.udp(flow, port),
                Transport::Port(Protocol::Sctp, port) => ip.sctp(flow, port),
                Transport::Portless => ip.icmp(128, flow),
            }
        }
        _ => unreachable!("peers are of the pod's family"),
    }
}
