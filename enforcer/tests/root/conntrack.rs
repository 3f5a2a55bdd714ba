//! What is remembered of flows, and for whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ringfence_netpol::compile::NodeRules;
use serde_json::json;

use super::harness::{Kernel, alone, interface, key, rules, run};
use super::packets::{ACK, Ip, SYN, frame};
use super::packets6::Ip6;
use super::programs::UPLINK;

const SCANNER: u32 = 1;
const QUIET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The scanner may open anything; the quiet one nothing, and only its friend may come to it.
fn both() -> NodeRules {
    let pods = [
        ("scanner", json!({"app": "scanner"}), "10.0.0.1 fd00::1"),
        ("quiet", json!({"app": "quiet"}), "10.0.0.2"),
        ("friend", json!({"app": "friend"}), "10.0.0.3"),
    ];
    let scanner = json!({
        "podSelector": {"matchLabels": {"app": "scanner"}}, "policyTypes": ["Ingress", "Egress"], "egress": [{}],
    });
    let quiet = json!({
        "podSelector": {"matchLabels": {"app": "quiet"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    });
    rules(&pods, &[scanner, quiet], &[])
}

fn seated() -> (Kernel, u32) {
    run("ip link add quiet type bridge");
    let quiet = interface("quiet");
    let mut kernel = Kernel::load();
    let scanner = [
        IpAddr::from([10, 0, 0, 1]),
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
    ];
    kernel.seat_both(SCANNER, &scanner, SCANNER);
    kernel.seat(quiet, QUIET);
    kernel.enforce(&both(), &[(SCANNER, &key("scanner")), (quiet, &key("quiet"))]);
    kernel.maps.flows.divide(250);
    (kernel, quiet)
}

#[test]
fn a_pod_that_opens_flow_after_flow_displaces_none_of_another_pods() {
    alone(|| {
        let (kernel, quiet) = seated();
        let friend = Ip::new(Ipv4Addr::new(10, 0, 0, 3), QUIET);
        let talks: Vec<Vec<u8>> = (1..500)
            .map(|port| friend.answer().udp(53, port))
            .chain([friend.answer().tcp(80, 1, ACK), friend.answer().icmp(0, 9)])
            .collect();
        for port in 1..500 {
            assert!(kernel.passes_in(quiet, &friend.udp(port, 53), UPLINK));
        }
        assert!(kernel.passes_in(quiet, &friend.tcp(1, 80, SYN), UPLINK));
        assert!(kernel.passes_in(quiet, &friend.icmp(8, 9), UPLINK));
        // More than all tables together have room for.
        let mut packet = Ip::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1)).udp(1, 1);
        for flow in 0..330_000_u32 {
            packet[34..38].copy_from_slice(&flow.to_be_bytes());
            assert!(kernel.passes_out(SCANNER, &packet));
        }
        let established = kernel.count("established");
        assert!(talks.iter().all(|packet| kernel.passes_out(quiet, packet)));
        assert_eq!(kernel.count("established") - established, talks.len() as u64);

        let counted = kernel.maps.flows.count().unwrap();
        let [four, _, over, _] = counted.entries;
        assert_eq!(
            (four, counted.over),
            (1024 + 501, 1),
            "its share, and what the quiet one has"
        );
        assert_eq!(counted.removed, [0; 4]);
        assert!(over > 60_000, "the rest is remembered among its like: {over}");
        assert!(
            kernel.passes_in(
                SCANNER,
                &Ip::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1)).udp(
                    u16::from_be_bytes([packet[36], packet[37]]),
                    u16::from_be_bytes([packet[34], packet[35]])
                ),
                UPLINK
            ),
            "and answered"
        );
    });
}

#[test]
fn both_families_have_their_shares() {
    alone(|| {
        let (kernel, _) = seated();
        let to: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let from: Ipv6Addr = "fd00::1".parse().unwrap();
        for port in 0..700 {
            assert!(kernel.passes_out(SCANNER, &Ip6::new(from, to).udp(port, 53)));
        }
        assert_eq!(kernel.maps.flows.count().unwrap().entries, [0, 512, 0, 188]);
        assert!(kernel.passes_in(SCANNER, &Ip6::new(to, from).udp(53, 699), UPLINK));
        assert_eq!(kernel.count("established"), 1);
        kernel.maps.evict(SCANNER).unwrap();
        kernel.seat(SCANNER, Ipv4Addr::new(10, 0, 0, 1));
        assert!(
            !kernel.maps.flows.is_count_due(None),
            "another pod on that place has a count of its own"
        );
    });
}

#[test]
fn a_flow_that_was_seen_again_is_not_removed() {
    alone(|| {
        let (kernel, _) = seated();
        let flow = |port| Ip::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1)).udp(port, 53);
        let answer = |port| Ip::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1)).udp(53, port);
        assert!(kernel.passes_out(SCANNER, &flow(1)) && kernel.passes_out(SCANNER, &flow(2)));
        // That it is seen is noted to the second.
        std::thread::sleep(Duration::from_millis(1_200));
        let again = || assert!(kernel.passes_out(SCANNER, &flow(1)));
        let counted = kernel
            .maps
            .flows
            .count_ahead(Duration::from_secs(180), again)
            .unwrap();
        assert_eq!(counted.removed, [1, 0, 0, 0]);
        assert!(kernel.passes_in(SCANNER, &answer(1), UPLINK));
        assert!(!kernel.passes_in(SCANNER, &answer(2), UPLINK));
    });
}

#[test]
fn how_far_a_connection_has_come_is_followed_also_at_pods_that_nothing_isolates() {
    alone(|| {
        let mut kernel = Kernel::load();
        kernel.seat(SCANNER, QUIET);
        kernel.enforce(
            &rules(&[("quiet", json!({}), "10.0.0.2")], &[], &[]),
            &[(SCANNER, &key("quiet"))],
        );
        kernel.maps.flows.divide(1);
        let flow = Ip::new(QUIET, Ipv4Addr::new(192, 0, 2, 1));
        let (fin, push) = (0x11, 0x18);
        assert!(kernel.passes_out(SCANNER, &flow.tcp(1, 80, SYN)));
        assert!(kernel.passes_in(SCANNER, &flow.answer().tcp(80, 1, SYN | ACK), UPLINK));
        for _ in 0..3 {
            assert!(kernel.passes_out(SCANNER, &flow.tcp(1, 80, push)));
        }
        assert!(kernel.passes_out(SCANNER, &flow.tcp(1, 80, fin)));
        assert!(
            kernel.passes_in(SCANNER, &flow.answer().tcp(81, 1, SYN | ACK), UPLINK),
            "of nobody's flow"
        );
        assert_eq!(kernel.maps.flows.count().unwrap().entries, [1, 0, 0, 0]);
        assert_eq!(kernel.maps.flows.states().unwrap(), [(true, true)]);
        assert!(
            kernel.passes_out(SCANNER, &flow.tcp(1, 80, SYN)),
            "the same ports again"
        );
        assert_eq!(kernel.maps.flows.states().unwrap(), [(false, false)]);
        assert!(kernel.passes_out(SCANNER, &frame(0x88cc, &[0; 40])));
    });
}
