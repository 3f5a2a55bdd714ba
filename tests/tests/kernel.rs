//! Cases as single packets that the programs in the kernel judge: every verdict, of both ends, also of protocols for which the machine has no
//! sockets. The same cases are judged by the evaluator and the compiled rules, and played between real pods.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

#[path = "../../enforcer/tests/root/harness.rs"]
#[allow(dead_code)] // the enforcer's own tests need more of it
mod harness;
#[path = "../../enforcer/tests/root/packets.rs"]
#[allow(dead_code)] // likewise
mod packets;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use harness::{Kernel, alone, interface, run};
use packets::Ip;
use ringfence_netpol::cluster::Key;
use ringfence_netpol::compile::compile;
use ringfence_netpol::port::{Protocol, Transport};
use ringfence_tests::case::{self, Case, NODE};

const SYN: u8 = 2;

/// This project's own cases; `RINGFENCE_FIELD_CASES` names a file of others.
#[test]
fn the_programs_say_what_the_cases_say() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/field.jsonl");
    let file = std::env::var("RINGFENCE_FIELD_CASES").unwrap_or_else(|_| own.to_owned());
    let cases = case::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    alone(move || {
        let mut kernel = Kernel::load();
        let pods = cases.iter().map(|case| case.pods.len()).max().unwrap_or_default();
        let veths: Vec<u32> = (0..pods).map(veth).collect();
        // Each verdict is on a flow of its own.
        let mut flows = (1024..=u16::MAX).cycle();
        let judged: usize = cases
            .iter()
            .map(|case| play(&mut kernel, case, &veths, &mut flows))
            .sum();
        println!("{} cases, {judged} verdicts", cases.len());
        assert!(judged > 0);
    });
}

fn veth(number: usize) -> u32 {
    run(&format!(
        "ip link add case{number} type veth peer name pod{number}"
    ));
    interface(&format!("case{number}"))
}

/// How many verdicts there were.
fn play(kernel: &mut Kernel, case: &Case, veths: &[u32], flows: &mut impl Iterator<Item = u16>) -> usize {
    let cluster = case.cluster().unwrap();
    let rules = compile(&cluster, NODE);
    let pods: BTreeMap<Key, (u32, Ipv4Addr)> = case
        .pods
        .iter()
        .zip(veths.iter().copied())
        .filter_map(|(pod, ifindex)| match pod.ip {
            IpAddr::V4(address) => Some((Key::new(&pod.ns, &pod.name), (ifindex, address))),
            IpAddr::V6(_) => None,
        })
        .collect();
    for (ifindex, address) in pods.values() {
        kernel.maps.evict(*ifindex).unwrap();
        kernel.seat(*ifindex, *address);
    }
    kernel.restart();
    let seated: Vec<(u32, &Key)> = pods.iter().map(|(key, (ifindex, _))| (*ifindex, key)).collect();
    kernel.enforce(&rules, &seated);
    let verdicts = case.verdicts().unwrap();
    for (verdict, flow) in verdicts.iter().zip(flows) {
        let ((out, source), (to, destination)) = (pods[&verdict.from], pods[&verdict.to]);
        let ip = Ip::new(source, destination);
        let packet = match verdict.transport {
            Transport::Port(Protocol::Tcp, port) => ip.tcp(flow, port, SYN),
            Transport::Port(Protocol::Udp, port) => ip.udp(flow, port),
            Transport::Port(Protocol::Sctp, port) => ip.sctp(flow, port),
            Transport::Portless => ip.raw(47, &[0; 8]),
        };
        let passes = kernel.passes_out(out, &packet) && kernel.passes_in(to, &packet, out);
        assert_eq!(
            passes, verdict.allowed,
            "{}: {} -> {} {}",
            case.name, verdict.from, verdict.to, verdict.transport
        );
    }
    verdicts.len()
}
