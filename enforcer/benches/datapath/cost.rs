//! What a packet costs, by `test_run`, beyond an empty program.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::{ObjectBuilder, libbpf_sys};
use ringfence_bench::{Figure, Report};
use serde_json::json;

use crate::harness::{Kernel, PINS, key, rules, test_runs};
use crate::packets::{ACK, Ip, SYN};
use crate::packets6::Ip6;
use crate::peers::{By, POD, PORT, each_lets_one_in, peer};
use crate::pin_to;

/// The loopback interface stands for the veth: `test_run` knows no other here.
const VETH: u32 = 1;
const UPLINK: u32 = 7;
const FIN: u8 = 0x01;
const TIMES: u32 = 20_000;
const ROUNDS: usize = 5;
/// Different packets a run, so that not one cache line holds all that is looked up.
const FLOWS: usize = 64;

/// Nanoseconds for each of some packets, one after the other.
#[derive(Clone, Copy)]
struct Cost {
    best: f64,
    median: f64,
}

pub fn measure(report: &mut Report) {
    pin_to(1);
    report.title(format_args!(
        "A packet in the kernel: test_run, {TIMES} times each of {FLOWS} flows, {ROUNDS} rounds between rounds of an empty program"
    ));
    let empty = empty();
    let mut new = Vec::new();
    for (policies, by, what) in [
        (10, By::Label, "10 policies"),
        (10_000, By::Label, "10,000 policies"),
        (10_000, By::Block, "10,000 policies, each with a CIDR"),
    ] {
        let mut kernel = Kernel::load();
        kernel.seat(VETH, POD);
        kernel.enforce(&each_lets_one_in(policies, by), &[(VETH, &key("pod"))]);
        kernel.maps.flows.set_share(0, 0);
        let [_, to_pod] = kernel.hooks.programs();
        let forgetful = Forgetful::load();
        let peers: Vec<usize> = (0..FLOWS).map(|flow| flow * 7919 % policies).collect();
        let packets = |flags| -> Vec<Vec<u8>> {
            let packet = |(flow, peer_number): (usize, &usize)| {
                Ip::new(peer(*peer_number), POD).tcp(20_000 + flow as u16, PORT, flags)
            };
            peers.iter().enumerate().map(packet).collect()
        };
        let (first, later) = (packets(SYN), packets(ACK));
        let before = kernel.count("new");
        let opening = against(empty.as_fd(), forgetful.to_pod(), &first);
        assert!(
            kernel.count("new") - before >= u64::from(TIMES),
            "each run must meet a new flow"
        );
        for (flow, packet) in first.iter().enumerate() {
            assert!(kernel.passes_in(VETH, packet, UPLINK));
            let answer = Ip::new(POD, peer(peers[flow])).tcp(PORT, 20_000 + flow as u16, SYN | ACK);
            assert!(kernel.passes_out(VETH, &answer));
        }
        let established = against(empty.as_fd(), to_pod, &later);
        say(
            report,
            format!("established TCP, {what}"),
            established,
            Some(60.0),
        );
        // The last segment is never one of those that need no look-up.
        say(
            report,
            format!("established TCP, looked up among all flows, {what}"),
            against(empty.as_fd(), to_pod, &packets(FIN | ACK)),
            None,
        );
        say(
            report,
            format!("new TCP flow before the insert, {what}"),
            opening,
            Some(150.0),
        );
        new.push(opening.1.best - opening.0.best);
        let strangers: Vec<Vec<u8>> = (0..FLOWS)
            .map(|flow| Ip::new(peer(60_000 + flow), POD).tcp(1000, PORT, SYN))
            .collect();
        say(
            report,
            format!("denied TCP, with its row in the ledger, {what}"),
            against(empty.as_fd(), to_pod, &strangers),
            None,
        );
        if policies == 10_000 && matches!(by, By::Label) {
            for (map, bytes) in kernel.maps.memory().unwrap() {
                let mib = bytes as f64 / f64::from(1 << 20);
                report
                    .say(Figure::new(format!("kernel memory of {map}, {what}"), mib, "MiB"))
                    .unwrap();
            }
        }
        drop(kernel);
        std::fs::remove_dir_all(PINS).unwrap();
    }
    others(report, empty.as_fd());
    let (least, most) = new.iter().fold((f64::MAX, 0_f64), |(least, most), net| {
        (least.min(*net), most.max(*net))
    });
    let spread = (most / least - 1.0) * 100.0;
    report
        .say(
            Figure::new(
                "new flow: the dearest of the three beyond the cheapest",
                spread,
                "%",
            )
            .at_most(15.0),
        )
        .unwrap();
}

/// What is no bound's: IPv6, and pods that nothing isolates.
fn others(report: &mut Report, empty: BorrowedFd<'_>) {
    let six = |flow: usize, flags| {
        let [from, to] = [2, 1].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
        Ip6::new(from, to).tcp(20_000 + flow as u16, PORT, flags)
    };
    let four = |flow: usize| Ip::new(peer(flow), POD);
    let mut kernel = Kernel::load();
    kernel.seat_both(
        VETH,
        &[POD.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()],
        VETH,
    );
    let anybody = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]});
    let pods = [("pod", json!({"app": "pod"}), "10.0.0.1 fd00::1")];
    let [_, to_pod] = kernel.hooks.programs();
    let to_pod = to_pod.try_clone_to_owned().unwrap();
    let mut cost = |kernel: &Kernel, what: &str, opening: Vec<Vec<u8>>, packets: Vec<Vec<u8>>| {
        for packet in opening {
            assert!(kernel.passes_in(VETH, &packet, UPLINK), "{what}");
        }
        say(
            report,
            what.to_owned(),
            against(empty, to_pod.as_fd(), &packets),
            None,
        );
    };
    let flows = |packet: &dyn Fn(usize) -> Vec<u8>| (0..FLOWS).map(packet).collect::<Vec<_>>();
    kernel.enforce(&rules(&pods, &[anybody], &[]), &[(VETH, &key("pod"))]);
    let over_six = "established TCP over IPv6";
    cost(
        &kernel,
        over_six,
        flows(&|flow| six(flow, SYN)),
        flows(&|flow| six(flow, ACK)),
    );
    kernel.enforce(&rules(&pods, &[], &[]), &[(VETH, &key("pod"))]);
    let open = "a pod that nothing isolates: ";
    let middle = flows(&|flow| four(flow).tcp(1000, PORT, ACK));
    cost(&kernel, &format!("{open}TCP in mid-connection"), vec![], middle);
    let datagrams = flows(&|flow| four(flow).udp(1000, 53));
    cost(&kernel, &format!("{open}known UDP"), datagrams.clone(), datagrams);
}

fn say(report: &mut Report, what: String, (empty, with): (Cost, Cost), bound: Option<f64>) {
    let net = with.best - empty.best;
    let figure = Figure::new(what, net, "ns")
        .beside("empty program", empty.best)
        .beside("with it, best", with.best)
        .beside("net, median", with.median - empty.median);
    report.say(figure.at_most(bound)).unwrap();
}

/// The empty program and another one in turns.
fn against(empty: BorrowedFd<'_>, program: BorrowedFd<'_>, packets: &[Vec<u8>]) -> (Cost, Cost) {
    let round = |program: BorrowedFd<'_>| {
        let times = packets
            .iter()
            .map(|packet| test_runs(program, packet, VETH, UPLINK, TIMES).1);
        times.map(f64::from).sum::<f64>() / packets.len() as f64
    };
    let (mut without, mut with) = (vec![round(empty)], Vec::new());
    for _ in 0..ROUNDS {
        with.push(round(program));
        without.push(round(empty));
    }
    let cost = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        Cost {
            best: times[0],
            median: times[times.len() / 2],
        }
    };
    (cost(without), cost(with))
}

/// A program that does nothing but pass: `r0 = TC_ACT_UNSPEC; exit`.
fn empty() -> OwnedFd {
    let instructions = [
        libbpf_sys::bpf_insn {
            code: 0xb7,
            imm: -1,
            ..Default::default()
        },
        libbpf_sys::bpf_insn {
            code: 0x95,
            ..Default::default()
        },
    ];
    // SAFETY: the instructions and the strings live until the call returns; no options are given.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"rf_empty".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as u64,
            std::ptr::null_mut(),
        )
    };
    assert!(
        fd >= 0,
        "an empty program is not loaded: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the kernel just gave it to this process, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The programs that remember no flow, over the maps of those that do.
struct Forgetful(libbpf_rs::Object);

impl Forgetful {
    fn load() -> Self {
        let object = std::env::temp_dir().join(format!("ringfence-forgetful-{}.o", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/datapath/forgetful.bpf.c");
        let built = SkeletonBuilder::new()
            .source(source)
            .obj(&object)
            .clang(std::env::var_os("CLANG").map_or_else(|| PathBuf::from("clang"), PathBuf::from))
            .clang_args(["-mcpu=v3", "-Wall", "-Wno-unused"])
            .build();
        built.unwrap();
        let mut builder = ObjectBuilder::default();
        builder.pin_root_path(pins()).unwrap();
        let loaded = builder.open_file(&object).unwrap().load().unwrap();
        std::fs::remove_file(&object).unwrap();
        Self(loaded)
    }

    fn to_pod(&self) -> BorrowedFd<'_> {
        let program = self
            .0
            .progs()
            .find(|program| program.name() == "rf_to_pod")
            .unwrap();
        // SAFETY: it is open as long as the object, which this borrows.
        unsafe { BorrowedFd::borrow_raw(program.as_fd().as_raw_fd()) }
    }
}

/// Where the product pinned its maps.
fn pins() -> PathBuf {
    let layouts = std::fs::read_dir(PINS).unwrap();
    layouts
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("ep").exists())
        .unwrap()
}
