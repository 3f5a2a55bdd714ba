//! What the agent asks for is enough.

use ringfence_enforcer::canary::prove;

use super::harness::alone;
use super::packets::SYN;
use super::programs::{FRIEND, STRANGER, UPLINK, VETH, from_friend, in_from, kernel};

const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Keeps only these capabilities, for this thread.
fn keep(capabilities: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let all = capabilities
        .iter()
        .fold(0_u64, |all, capability| all | 1 << capability);
    // Effective, permitted and inheritable, of the lower 32 and then of the others.
    let sets = [
        all as u32,
        all as u32,
        0,
        (all >> 32) as u32,
        (all >> 32) as u32,
        0,
    ];
    // SAFETY: both point to live values as the system call reads them, and it concerns this thread only.
    let result = unsafe { libc::syscall(libc::SYS_capset, &header, &sets) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn the_capabilities_that_it_asks_for_are_enough_to_enforce_and_to_prove_it() {
    alone(|| {
        keep(&[BPF, NET_ADMIN, PERFMON, SYS_ADMIN]);
        let kernel = kernel(&[from_friend()]);
        kernel.hooks.attach(VETH).unwrap();
        assert!(kernel.hooks.are_attached(VETH));
        assert!(kernel.passes_in(VETH, &in_from(FRIEND).tcp(1, 80, SYN), UPLINK));
        assert!(!kernel.passes_in(VETH, &in_from(STRANGER).tcp(1, 80, SYN), UPLINK));
        kernel.maps.flows.count().unwrap();
        prove(&kernel.maps, &kernel.hooks).unwrap();
        keep(&[BPF, NET_ADMIN, PERFMON]);
        let error = prove(&kernel.maps, &kernel.hooks).unwrap_err();
        assert!(
            !error.is_failure(),
            "what cannot be proved is not disproved: {error}"
        );
    });
}
