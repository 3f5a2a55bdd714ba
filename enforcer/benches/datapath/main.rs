//! What enforcement costs in the kernel: a packet by itself (`cost`), connections across two nodes beside other firewalls that hold the
//! same policies (`traffic`), and putting filters at pods' veths (`attach`). Needs root; everything happens in namespaces of its own.
//!
//! `cargo bench -p ringfence-enforcer --bench datapath -- traffic` runs one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // no part of the product: it may just stop

mod attach;
mod cost;
#[path = "../../tests/root/harness.rs"]
#[allow(dead_code)] // the tests need more of it
mod harness;
#[path = "../../tests/root/packets.rs"]
#[allow(dead_code)] // the tests need more of it
mod packets;
#[path = "../../tests/root/packets6.rs"]
#[allow(dead_code)] // the tests need more of it
mod packets6;
mod peers;
mod rivals;
mod traffic;

use ringfence_bench::Report;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    type Measure = fn(&mut Report);
    let parts: [(&str, Measure); 3] = [
        ("cost", cost::measure),
        ("attach", attach::measure),
        ("traffic", traffic::measure),
    ];
    for (name, measure) in parts {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            harness::alone(move || measure(&mut Report::new("enforcer").unwrap()));
        }
    }
}

/// Keeps this thread on one CPU.
fn pin_to(cpu: usize) {
    // SAFETY: the set is plain bits, all of which are written before the kernel reads it; it concerns this thread only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu % num_cpus(), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

fn num_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
