//! What is denied is counted, and told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringfence_netpol::policy::Direction;

use super::harness::alone;
use super::packets::SYN;
use super::programs::{FRIEND, STRANGER, UPLINK, VETH, from_friend, in_from, kernel, out_to};

const NOW: Duration = Duration::ZERO;

#[test]
fn every_denial_is_counted_and_the_first_of_a_kind_is_told_at_once() {
    alone(|| {
        let kernel = kernel(&[from_friend()]);
        for port in 1..=3 {
            assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(port, 80, SYN), UPLINK));
        }
        assert!(!kernel.passes_out(VETH, &out_to(STRANGER).udp(1, 53)));
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).udp(1, 53), UPLINK));
        let told = kernel.denials.wait(NOW).unwrap();
        let said: Vec<_> = told
            .iter()
            .map(|denial| {
                (
                    denial.direction,
                    denial.reason,
                    denial.peer,
                    denial.protocol,
                    denial.port,
                )
            })
            .collect();
        let stranger = IpAddr::V4(STRANGER);
        assert_eq!(
            said,
            [
                (Direction::Ingress, "ingress", stranger, 6, 80),
                (Direction::Egress, "egress", stranger, 17, 53)
            ]
        );
        assert!(told.iter().all(|denial| denial.ifindex == VETH));
        let mut counted = BTreeMap::new();
        kernel
            .denials
            .each(|denial, packets| {
                counted.insert(denial.port, packets);
            })
            .unwrap();
        assert_eq!(counted, BTreeMap::from([(53, 1), (80, 3)]));
        assert_eq!(kernel.maps.recorded_drops().unwrap(), 4);
    });
}

#[test]
fn of_a_flood_all_is_counted_and_what_is_not_told_is_counted_too() {
    alone(|| {
        const FLOOD: u32 = 40_000;
        let kernel = kernel(&[from_friend()]);
        for peer in 0..FLOOD {
            let from = Ipv4Addr::from(0xc000_0000 + peer);
            assert!(!kernel.passes_in(VETH, &in_from(from).tcp(1, 80, SYN), UPLINK));
        }
        assert_eq!(kernel.count("ingress"), u64::from(FLOOD));
        let told = kernel.denials.wait(NOW).unwrap().len() as u64;
        let unsent = kernel.tally("unsent");
        assert_eq!(told + unsent, u64::from(FLOOD), "each was of a kind of its own");
        assert!(told >= 100 && unsent > u64::from(FLOOD) / 2, "{told} {unsent}");
        let (mut kinds, mut packets) = (0, 0);
        kernel
            .denials
            .each(|_, counted| {
                kinds += 1;
                packets += counted;
            })
            .unwrap();
        assert!(kinds > 8_000 && kinds <= 16_384, "{kinds}");
        assert_eq!(packets, kinds, "the rest is in the reason's counter");
    });
}
