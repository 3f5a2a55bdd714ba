//! IPv6 packets through the programs: everything that IPv4 has, and the ways around that only IPv6 has.

use std::net::{IpAddr, Ipv6Addr};

use ringfence_netpol::compile::NodeRules;
use serde_json::{Value, json};

use super::harness::{Kernel, alone, key, rules};
use super::packets::{ACK, Ip, SYN};
use super::packets6::{
    DESTINATION, HOP_BY_HOP, Ip6, ROUTING, alert, authentication, fragment, jumbo, padding, routing,
};
use super::programs::{POD as POD4, STRANGER as STRANGER4, UPLINK, VETH};

const POD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const FRIEND: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn with(policies: &[Value]) -> NodeRules {
    let pods = [
        ("pod", json!({"app": "pod"}), "10.0.0.1 fd00::1"),
        ("friend", json!({"app": "friend"}), "10.0.0.2 fd00::2"),
        ("stranger", json!({"app": "stranger"}), "10.0.0.3 fd00::3"),
    ];
    let services =
        [json!({"clusterIP": "fd00:96::1", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]})];
    rules(&pods, policies, &services)
}

/// The pod, with addresses of both families, under policies.
fn kernel(policies: &[Value]) -> Kernel {
    let mut kernel = Kernel::load();
    kernel.seat_both(VETH, &[IpAddr::V4(POD4), IpAddr::V6(POD)], VETH);
    enforce(&mut kernel, policies);
    kernel
}

fn enforce(kernel: &mut Kernel, policies: &[Value]) {
    kernel.enforce(&with(policies), &[(VETH, &key("pod"))]);
}

/// Friends may come in to TCP 80 and UDP 53, and the pod may open whatever to friends.
fn friends() -> Value {
    let friend = json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]);
    json!({
        "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": friend, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}],
        "egress": [{"to": friend}],
    })
}

fn blocks() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]}],
    })
}

fn in_from(peer: Ipv6Addr) -> Ip6 {
    Ip6::new(peer, POD)
}

fn out_to(peer: Ipv6Addr) -> Ip6 {
    Ip6::new(POD, peer)
}

#[test]
fn both_families_of_a_pod_come_under_its_rules_at_once() {
    alone(|| {
        let mut kernel = kernel(&[]);
        assert!(kernel.passes_in(VETH, &in_from(STRANGER).tcp(1, 80, SYN), UPLINK));
        assert!(kernel.passes_in(VETH, &Ip::new(STRANGER4, POD4).tcp(1, 80, SYN), UPLINK));
        enforce(&mut kernel, &[friends()]);
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).tcp(2, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(2, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(FRIEND).tcp(2, 81, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &Ip::new(STRANGER4, POD4).tcp(2, 80, SYN), UPLINK));
        assert!(
            !kernel.passes_in(VETH, &in_from(STRANGER).tcp(1, 80, ACK), UPLINK),
            "what was open before is cut, in both families"
        );
        assert!(!kernel.passes_in(VETH, &Ip::new(STRANGER4, POD4).tcp(1, 80, ACK), UPLINK));
    });
}

#[test]
fn flows_are_answered_and_blocks_and_their_exceptions_hold() {
    alone(|| {
        let mut kernel = kernel(&[friends()]);
        let friend = in_from(FRIEND);
        assert!(kernel.passes_in(VETH, &friend.udp(999, 53), UPLINK));
        assert!(kernel.passes_out(VETH, &friend.answer().udp(53, 999)));
        let asked = out_to(STRANGER);
        assert!(!kernel.passes_out(VETH, &asked.udp(1, 53)));
        assert!(!kernel.passes_in(VETH, &asked.answer().udp(53, 1), UPLINK));
        assert!(!kernel.passes_in(VETH, &friend.sctp(999, 80), UPLINK));
        enforce(&mut kernel, &[blocks()]);
        let outside: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let excepted: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
        let beyond: Ipv6Addr = "2001:db9::7".parse().unwrap();
        assert!(kernel.passes_in(VETH, &in_from(outside).tcp(1, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(excepted).tcp(1, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(beyond).tcp(1, 80, SYN), UPLINK));
        assert!(
            kernel.passes_in(VETH, &in_from(beyond).tcp(1, 80, SYN), 0),
            "the node's own"
        );
    });
}

#[test]
fn echo_follows_policy_and_errors_follow_their_flow() {
    alone(|| {
        let kernel = kernel(&[friends()]);
        let (friend, router) = (out_to(FRIEND), in_from("2001:db8::9".parse().unwrap()));
        assert!(kernel.passes_out(VETH, &friend.icmp(128, 5)));
        assert!(kernel.passes_in(VETH, &friend.answer().icmp(129, 5), UPLINK));
        assert!(!kernel.passes_in(VETH, &friend.answer().icmp(129, 6), UPLINK));
        assert!(
            !kernel.passes_in(VETH, &friend.answer().icmp(128, 5), UPLINK),
            "ports only"
        );
        assert!(!kernel.passes_out(VETH, &out_to(STRANGER).icmp(128, 5)));
        assert!(kernel.passes_out(VETH, &friend.tcp(1000, 443, SYN)));
        let sent = friend.packet(6, &super::packets::tcp(1000, 443, ACK));
        let too_big = router.error(2, &sent);
        assert!(
            kernel.passes_in(VETH, &too_big, UPLINK),
            "or large packets vanish for ever"
        );
        let extended = friend
            .extended([padding(DESTINATION, 1)])
            .packet(6, &super::packets::tcp(1000, 443, ACK));
        assert!(kernel.passes_in(VETH, &router.error(1, &extended), UPLINK));
        let other = friend.packet(6, &super::packets::tcp(1001, 443, ACK));
        assert!(
            !kernel.passes_in(VETH, &router.error(2, &other), UPLINK),
            "about nothing"
        );
        let forged = Ip6::new(STRANGER, FRIEND).error(
            1,
            &friend.answer().packet(6, &super::packets::tcp(443, 1000, ACK)),
        );
        assert!(!kernel.passes_out(VETH, &forged), "an error has a sender too");
        assert!(kernel.count("related") >= 2);
    });
}

#[test]
fn neighbour_discovery_is_never_closed_and_never_a_way_in() {
    alone(|| {
        let kernel = kernel(&[json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})]);
        let link = Ip6::new(LINK_LOCAL, ALL_NODES).hops(255);
        let confirming = Ip6::new(Ipv6Addr::UNSPECIFIED, "ff02::1:ff00:1".parse().unwrap()).hops(255);
        for packet in [
            link.icmp(133, 0),
            link.icmp(135, 0),
            link.advertise(POD),
            link.advertise(LINK_LOCAL),
            confirming.icmp(135, 0),
        ] {
            assert!(kernel.passes_out(VETH, &packet) && kernel.passes_in(VETH, &packet, UPLINK));
        }
        let lie = link.advertise(FRIEND);
        assert!(
            kernel.passes_in(VETH, &lie, UPLINK),
            "it is for its receiver to know"
        );
        assert!(
            !kernel.passes_out(VETH, &lie),
            "a pod does not say that it has another's address"
        );
        assert!(!kernel.passes_out(VETH, &link.icmp(136, 0)), "nor half of one");
        assert_eq!(kernel.count("spoofed"), 2);
        let report = Ip6::new(Ipv6Addr::UNSPECIFIED, "ff02::16".parse().unwrap())
            .hops(1)
            .extended([alert()]);
        assert!(kernel.passes_out(VETH, &report.icmp(143, 0)));
        assert!(
            kernel.passes_in(VETH, &link.icmp(134, 0), UPLINK),
            "routers advertise"
        );
        assert!(!kernel.passes_out(VETH, &link.icmp(134, 0)), "pods do not");
        assert!(!kernel.passes_out(VETH, &link.icmp(137, 0)));
        assert_eq!(kernel.count("router"), 2);

        let far = in_from(STRANGER);
        for packet in [
            far.hops(254).icmp(135, 0),
            far.hops(255).extended([padding(DESTINATION, 1)]).icmp(136, 0),
            far.hops(255).extended([fragment(1, 0, false)]).icmp(136, 0),
            far.hops(255).extended([alert()]).icmp(136, 0),
            far.hops(2).extended([alert()]).icmp(143, 0),
            far.hops(255).raw(17, &[136, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert!(!kernel.passes_in(VETH, &packet, UPLINK));
        }
    });
}

#[test]
fn a_pod_sends_from_its_own_addresses_of_each_family_only() {
    alone(|| {
        for policies in [vec![], vec![friends()]] {
            let kernel = kernel(&policies);
            assert!(kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
            assert!(!kernel.passes_out(VETH, &Ip6::new(STRANGER, FRIEND).udp(1, 2)));
            assert!(!kernel.passes_out(VETH, &Ip6::new(Ipv6Addr::UNSPECIFIED, FRIEND).udp(1, 2)));
            assert!(!kernel.passes_out(VETH, &Ip::new(STRANGER4, POD4).udp(1, 2)));
            let group = Ip6::new(LINK_LOCAL, "ff02::1:2".parse().unwrap());
            assert!(kernel.passes_out(VETH, &group.udp(546, 547)), "DHCP");
        }
        let kernel = kernel(&[friends()]);
        assert!(
            !kernel.passes_out(VETH, &Ip6::new(LINK_LOCAL, "fe80::2".parse().unwrap()).udp(1, 2)),
            "from its link-local address it is judged as from any of its own"
        );
    });
}

#[test]
fn a_pod_without_a_known_address_of_a_family_is_closed_in_it_once_isolated() {
    alone(|| {
        let mut kernel = Kernel::load();
        kernel.seat(VETH, POD4);
        enforce(&mut kernel, &[]);
        assert!(kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
        enforce(&mut kernel, &[friends()]);
        assert!(!kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).udp(1, 53), UPLINK));
    });
}

#[test]
fn ports_are_found_behind_extension_headers() {
    alone(|| {
        let kernel = kernel(&[friends()]);
        let chains = [
            vec![padding(HOP_BY_HOP, 1)],
            vec![padding(DESTINATION, 3)],
            vec![padding(ROUTING, 1)],
            vec![routing(0)],
            vec![authentication()],
            vec![fragment(9, 0, false)],
            vec![jumbo(70_000)],
            vec![
                padding(HOP_BY_HOP, 2),
                padding(DESTINATION, 1),
                routing(0),
                fragment(7, 0, false),
                authentication(),
                padding(DESTINATION, 2),
            ],
        ];
        for (chain, port) in chains.into_iter().zip(1000..) {
            let (friend, stranger) = (
                in_from(FRIEND).extended(chain.clone()),
                in_from(STRANGER).extended(chain),
            );
            assert!(kernel.passes_in(VETH, &friend.tcp(port, 80, SYN), UPLINK));
            assert!(!kernel.passes_in(VETH, &friend.tcp(port, 81, SYN), UPLINK));
            assert!(!kernel.passes_in(VETH, &stranger.tcp(port, 80, SYN), UPLINK));
        }
    });
}

#[test]
fn extension_headers_are_no_way_around() {
    alone(|| {
        let kernel = kernel(&[friends()]);
        let friend = in_from(FRIEND);
        let too_many = friend.extended(vec![padding(DESTINATION, 1); 7]);
        assert!(!kernel.passes_in(VETH, &too_many.tcp(1, 80, SYN), UPLINK));
        let going_on = friend.extended([routing(1)]);
        assert!(!kernel.passes_in(VETH, &going_on.tcp(1, 80, SYN), UPLINK));
        assert_eq!(kernel.count("extension_headers"), 2);
        let late = friend.extended([padding(DESTINATION, 1), padding(HOP_BY_HOP, 1)]);
        let twice = friend.extended([fragment(1, 0, true), fragment(2, 0, false)]);
        for packet in [late.tcp(1, 80, SYN), twice.tcp(1, 80, SYN)] {
            assert!(!kernel.passes_in(VETH, &packet, UPLINK));
        }
        // An option whose bytes look like the ports that are allowed, and a length that leads beyond the packet.
        let mut disguised = padding(DESTINATION, 1);
        disguised.1[2..8].copy_from_slice(&[1, 4, 3, 231, 0, 80]);
        assert!(!kernel.passes_in(VETH, &friend.extended([disguised]).tcp(1, 81, SYN), UPLINK));
        let mut beyond = padding(DESTINATION, 1);
        beyond.1[1] = 200;
        assert!(!kernel.passes_in(VETH, &friend.extended([beyond]).tcp(1, 80, SYN), UPLINK));
        assert!(kernel.count("malformed") >= 3);
        // Protocols without ports, behind which nobody looks: mobility, no next header, ESP, IPv4 and IPv6 in IPv6.
        for protocol in [135, 59, 50, 4, 41, 139, 140, 253] {
            let inner = super::packets::tcp(1, 80, SYN);
            assert!(
                !kernel.passes_in(VETH, &friend.raw(protocol, &inner), UPLINK),
                "{protocol}"
            );
            assert!(
                kernel.passes_out(VETH, &out_to(FRIEND).raw(protocol, &inner)),
                "{protocol}"
            );
        }
        assert!(!kernel.passes_in(VETH, &friend.raw(1, &[8, 0, 0, 0, 0, 1, 0, 1]), UPLINK));
    });
}

#[test]
fn fragments_follow_their_first_and_overlapping_or_tiny_ones_fall() {
    alone(|| {
        let kernel = kernel(&[friends()]);
        let friend = in_from(FRIEND);
        let later = |id| friend.extended([fragment(id, 100, false)]).raw(17, &[0; 64]);
        assert!(
            !kernel.passes_in(VETH, &later(7), UPLINK),
            "its first has not come"
        );
        let first = friend.extended([fragment(7, 0, true)]);
        assert!(kernel.passes_in(VETH, &first.udp(998, 53), UPLINK));
        assert!(kernel.passes_in(VETH, &later(7), UPLINK));
        assert!(!kernel.passes_in(VETH, &later(8), UPLINK));
        assert!(
            !kernel.passes_in(
                VETH,
                &in_from(STRANGER)
                    .extended([fragment(7, 100, false)])
                    .raw(17, &[0; 64]),
                UPLINK
            ),
            "of another sender"
        );
        let denied = friend.extended([fragment(9, 0, true)]);
        assert!(!kernel.passes_in(VETH, &denied.udp(998, 54), UPLINK));
        assert!(!kernel.passes_in(VETH, &later(9), UPLINK));
        assert_eq!(kernel.count("fragment"), 4);
        // What its first fragment says is behind options, its later ones say is options.
        let optioned = friend.extended([fragment(10, 0, true), padding(DESTINATION, 1)]);
        assert!(kernel.passes_in(VETH, &optioned.udp(998, 53), UPLINK));
        assert!(
            kernel.passes_in(
                VETH,
                &friend
                    .extended([fragment(10, 4, false)])
                    .raw(DESTINATION, &[0; 8]),
                UPLINK
            )
        );
        let tiny = friend.extended([fragment(11, 0, true)]);
        assert!(!kernel.passes_in(VETH, &tiny.raw(6, &super::packets::tcp(1, 80, SYN)[..8]), UPLINK));
        assert!(!kernel.passes_in(VETH, &tiny.raw(17, &[0, 1]), UPLINK));
        let whole = friend.extended([fragment(12, 0, true)]);
        assert!(kernel.passes_in(VETH, &whole.tcp(1, 80, SYN), UPLINK));
        let overwriting = friend.extended([fragment(12, 1, false)]);
        assert!(!kernel.passes_in(VETH, &overwriting.raw(6, &[0; 64]), UPLINK));
        let empty = friend.extended([fragment(13, 0, true), padding(DESTINATION, 1)]);
        assert!(
            !kernel.passes_in(VETH, &empty.raw(6, &[]), UPLINK),
            "no header in it at all"
        );
    });
}

#[test]
fn a_service_over_ipv6_is_let_out_and_answers_only_after_it_was_judged() {
    alone(|| {
        let kernel = kernel(&[friends()]);
        let service = out_to(SERVICE);
        assert!(kernel.passes_out(VETH, &service.tcp(1000, 80, SYN)));
        assert!(!kernel.passes_in(VETH, &service.answer().tcp(80, 1000, SYN | ACK), UPLINK));
        assert!(!kernel.passes_out(VETH, &service.tcp(1000, 81, SYN)));
    });
}

#[test]
fn a_pod_that_is_not_known_yet_confirms_its_address_and_no_more() {
    alone(|| {
        let kernel = Kernel::load();
        kernel.maps.admit(VETH).unwrap();
        let link = Ip6::new(LINK_LOCAL, ALL_NODES).hops(255);
        assert!(
            kernel.passes_out(VETH, &link.icmp(135, 0)) && kernel.passes_in(VETH, &link.icmp(134, 0), UPLINK)
        );
        assert!(!kernel.passes_out(VETH, &link.icmp(134, 0)));
        assert!(!kernel.passes_out(VETH, &out_to(FRIEND).udp(1, 2)));
        assert!(!kernel.passes_in(VETH, &in_from(FRIEND).udp(1, 2), 0));
    });
}
