//! Flows that a CPU saw a moment ago.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::harness::{Kernel, alone};
use super::packets::{ACK, Ip, SYN};
use super::programs::{
    FRIEND, STRANGER, UPLINK, VETH, closed, enforce, from_friend, in_from, kernel, out_to, to_friend,
};

/// So that it meets what this thread's CPU saw a moment ago.
fn stay_on_this_cpu() {
    // SAFETY: the set is plain bits, all of which are written before the kernel reads it; it concerns this thread only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap(), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[test]
fn what_a_cpu_saw_a_moment_ago_is_no_way_around() {
    alone(|| {
        stay_on_this_cpu();
        let mut kernel = kernel(&[to_friend()]);
        let there = out_to(FRIEND);
        let back = there.answer();
        let goes_on = |kernel: &Kernel| {
            let there = (0..3).all(|_| kernel.passes_out(VETH, &there.tcp(1000, 80, ACK)));
            let back = (0..3).all(|_| kernel.passes_in(VETH, &back.tcp(80, 1000, ACK), UPLINK));
            assert_eq!(there, back);
            there
        };
        let known = |kernel: &Kernel| kernel.maps.flows.states().unwrap();
        assert!(kernel.passes_out(VETH, &there.tcp(1000, 80, SYN)));
        assert!((0..3).all(|_| kernel.passes_out(VETH, &there.tcp(1000, 80, ACK))));
        assert_eq!(known(&kernel), [(false, false)]);
        assert!(goes_on(&kernel));
        assert_eq!(
            known(&kernel),
            [(true, false)],
            "that it was answered is noted first"
        );
        let spoofed = Ip {
            from: STRANGER,
            ..there.clone()
        };
        assert!(!kernel.passes_out(VETH, &spoofed.tcp(1000, 80, ACK)));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(80, 1000, ACK), UPLINK));
        assert!(!kernel.passes_in(VETH, &back.tcp(80, 1000, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &back.udp(80, 1000), UPLINK));
        let fragment = Ip {
            offset: 100,
            ..back.clone()
        };
        assert!(!kernel.passes_in(VETH, &fragment.tcp(80, 1000, ACK), UPLINK));

        enforce(&mut kernel, &[closed()]);
        assert!(!goes_on(&kernel));
        enforce(&mut kernel, &[to_friend()]);
        assert!(goes_on(&kernel));
        assert!(kernel.passes_out(VETH, &there.tcp(1000, 80, ACK | 0x01)));
        assert_eq!(known(&kernel), [(true, true)], "nor is its end overlooked");
        assert!(kernel.passes_out(VETH, &there.tcp(1000, 80, SYN)));
        assert!(goes_on(&kernel));
        let new = kernel.count("new");
        let later = Duration::from_secs(30_000);
        kernel.maps.flows.count_ahead(later, || ()).unwrap();
        std::thread::sleep(Duration::from_millis(1_100));
        assert!(goes_on(&kernel));
        assert_eq!(kernel.count("new") - new, 1, "it was good for a moment only");
    });
}

#[test]
fn datagrams_of_a_flow_that_a_cpu_saw_a_moment_ago_fall_when_it_is_cut() {
    alone(|| {
        stay_on_this_cpu();
        let mut kernel = kernel(&[from_friend()]);
        let question = in_from(FRIEND);
        let passes = |kernel: &Kernel| {
            let there = (0..3).all(|_| kernel.passes_in(VETH, &question.udp(999, 53), UPLINK));
            let back = (0..3).all(|_| kernel.passes_out(VETH, &question.answer().udp(53, 999)));
            assert_eq!(there, back);
            there
        };
        assert!(passes(&kernel));
        enforce(&mut kernel, &[closed()]);
        assert!(!passes(&kernel));
        enforce(&mut kernel, &[]);
        assert!(passes(&kernel));
        enforce(&mut kernel, &[closed()]);
        assert!(!passes(&kernel));
        let node = in_from(Ipv4Addr::new(192, 0, 2, 1)).udp(7, 8);
        assert!((0..3).all(|_| kernel.passes_in(VETH, &node, 0)));
        assert!(!kernel.passes_in(VETH, &node, UPLINK), "only the node itself may");
    });
}
