//! What a packet costs: `cargo test --release -p ringfence-enforcer --test root -- --nocapture cost`; no time is asserted.

use super::harness::{alone, test_runs};
use super::packets::{ACK, SYN};
use super::packets6::Ip6;
use super::programs::{FRIEND, STRANGER, UPLINK, VETH, from_friend, in_from, kernel, out_to};

const TIMES: u32 = 100_000;

#[test]
fn what_a_packet_costs() {
    alone(|| {
        let isolated = kernel(&[from_friend()]);
        let [from_pod, to_pod] = isolated.hooks.programs();
        assert!(isolated.passes_in(VETH, &in_from(FRIEND).tcp(1000, 80, SYN), UPLINK));
        let say = |what: &str, program, packet: &[u8]| {
            let mut times: Vec<u32> = (0..5)
                .map(|_| test_runs(program, packet, VETH, UPLINK, TIMES).1)
                .collect();
            times.sort_unstable();
            println!("{what}: {} ns at best, {} in the median", times[0], times[2]);
        };
        say(
            "isolated, established TCP, in",
            to_pod,
            &in_from(FRIEND).tcp(1000, 80, ACK),
        );
        say(
            "isolated, established TCP, out",
            from_pod,
            &out_to(FRIEND).tcp(80, 1000, ACK),
        );
        say(
            "isolated, denied TCP, in",
            to_pod,
            &in_from(STRANGER).tcp(1000, 80, SYN),
        );
        let six = |flags| {
            let [from, to] = [2, 1].map(|host| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
            Ip6::new(from, to).tcp(1000, 80, flags)
        };
        assert!(isolated.passes_in(VETH, &six(SYN), UPLINK));
        say("isolated, established TCP over IPv6, in", to_pod, &six(ACK));
        isolated.maps.evict(VETH).unwrap();
        say(
            "no endpoint (the floor)",
            to_pod,
            &in_from(FRIEND).tcp(1000, 80, ACK),
        );
        for (map, bytes) in isolated.maps.memory().unwrap() {
            println!("{map}: {:.2} MiB", bytes as f64 / f64::from(1 << 20));
        }
        let open = kernel(&[]);
        say(
            "not isolated, TCP in mid-connection",
            open.hooks.programs()[1],
            &in_from(FRIEND).tcp(1000, 80, ACK),
        );
        say(
            "not isolated, known UDP",
            open.hooks.programs()[1],
            &in_from(FRIEND).udp(1000, 53),
        );
    });
}
