//! Request and response over TCP between pods of two nodes, in one connection and with a connection each: four runs of the programs a
//! transaction. Each way to enforce is measured between two measurements without any, in turns. Client and server share one CPU: to wake
//! another one takes longer, and varies more, than all that is measured here.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ringfence_bench::{Figure, Report, percentile};
use ringfence_enforcer::datapath::{Pins, detach, remove_clsact, uninstall};
use ringfence_netpol::compile::NodeRules;
use serde_json::json;

use crate::harness::{Kernel, interface, key, rules, run, within};
use crate::{pin_to, rivals};

pub const PORT: u16 = 7;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NODES: [(&str, &str, Ipv4Addr); 2] = [("west", "client", CLIENT), ("east", "server", SERVER)];
const SIZES: [usize; 3] = [10, 1_000, 10_000];
const ROUNDS: usize = 5;
/// The CPU of client and server.
const TRAFFIC: usize = 1;
const WHILE: Duration = Duration::from_millis(700);

/// One peer a policy; the last is the one that there is.
pub struct Policies {
    /// Of the server: who may connect.
    pub from: Vec<Ipv4Addr>,
    /// Of the client: where it may connect to.
    pub to: Vec<Ipv4Addr>,
    rules: NodeRules,
}

impl Policies {
    fn new(count: usize) -> Self {
        let peers = |last: Ipv4Addr| -> Vec<Ipv4Addr> {
            (1..count)
                .map(|n| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 77, 0, 0)) + n as u32))
                .chain([last])
                .collect()
        };
        let (from, to) = (peers(CLIENT), peers(SERVER));
        let block = |peer: &Ipv4Addr| json!([{"ipBlock": {"cidr": format!("{peer}/32")}}]);
        let ports = json!([{"port": PORT}]);
        let ingress = from.iter().map(|peer| {
            json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": block(peer), "ports": ports}]})
        });
        let egress = to.iter().map(|peer| {
            json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                   "egress": [{"to": block(peer), "ports": ports}]})
        });
        let (client, server) = (CLIENT.to_string(), SERVER.to_string());
        let pods = [
            ("client", json!({"app": "client"}), client.as_str()),
            ("server", json!({"app": "server"}), server.as_str()),
        ];
        let rules = rules(&pods, &ingress.chain(egress).collect::<Vec<_>>(), &[]);
        Self { from, to, rules }
    }
}

/// A way to enforce on both nodes, and to take that away.
struct Way<'a> {
    name: String,
    begin: Box<dyn Fn() + 'a>,
    end: Box<dyn Fn() + 'a>,
    bounds: Option<(f64, f64)>,
}

/// Transactions a second.
#[derive(Clone, Copy)]
struct Rates {
    same: f64,
    fresh: f64,
}

pub fn measure(report: &mut Report) {
    build();
    let listener = within("server", || TcpListener::bind((SERVER, PORT)).unwrap())
        .join()
        .unwrap();
    std::thread::spawn(move || serve(&listener));
    let all: Vec<(usize, Policies)> = SIZES.iter().map(|size| (*size, Policies::new(*size))).collect();
    let both = |act: fn(&str)| NODES.iter().for_each(|(node, ..)| act(node));
    let mut ways = vec![Way {
        name: "connection tracking alone, as kube-proxy has it".into(),
        begin: Box::new(move || both(rivals::tracking)),
        end: Box::new(move || both(rivals::without_nftables)),
        bounds: None,
    }];
    for (size, policies) in &all {
        ways.push(Way {
            name: format!("this product, {size} policies"),
            begin: Box::new(move || NODES.iter().for_each(|node| enforce(node, &policies.rules))),
            end: Box::new(move || NODES.iter().for_each(|(node, ..)| stop(node))),
            bounds: Some((-4.0, -5.0)),
        });
        ways.push(Way {
            name: format!("nftables with sets, {size} policies"),
            begin: Box::new(move || {
                NODES
                    .iter()
                    .for_each(|(node, ..)| rivals::nftables(node, policies))
            }),
            end: Box::new(move || both(rivals::without_nftables)),
            bounds: None,
        });
        ways.push(Way {
            name: format!("iptables, {size} policies"),
            begin: Box::new(move || {
                NODES
                    .iter()
                    .for_each(|(node, ..)| rivals::iptables(node, policies))
            }),
            end: Box::new(move || both(rivals::without_iptables)),
            bounds: None,
        });
    }
    report.title(format_args!(
        "Two pods on two nodes, TCP: change against no enforcement just before and after it, {ROUNDS} rounds in turns, {WHILE:?} each"
    ));
    let mut found: Vec<Vec<(Rates, Rates)>> = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        let mut before = rates();
        for (way, found) in ways.iter().zip(&mut found) {
            (way.begin)();
            let with = rates();
            (way.end)();
            let after = rates();
            let mean = |of: fn(&Rates) -> f64| f64::midpoint(of(&before), of(&after));
            found.push((
                with,
                Rates {
                    same: mean(|rates| rates.same),
                    fresh: mean(|rates| rates.fresh),
                },
            ));
            before = after;
        }
    }
    for (way, found) in ways.iter().zip(&found) {
        for (what, of, bound) in [
            (
                "request/response",
                (|rates| rates.same) as fn(&Rates) -> f64,
                way.bounds.map(|(same, _)| same),
            ),
            (
                "connect/request/response",
                |rates| rates.fresh,
                way.bounds.map(|(_, fresh)| fresh),
            ),
        ] {
            let with: Vec<f64> = found.iter().map(|(with, _)| of(with)).collect();
            let without: Vec<f64> = found.iter().map(|(_, without)| of(without)).collect();
            let changes: Vec<f64> = found
                .iter()
                .map(|(with, without)| (of(with) / of(without) - 1.0) * 100.0)
                .collect();
            let figure = Figure::new(format!("{what}: {}", way.name), percentile(&changes, 50.0), "%")
                .beside("a second, median", percentile(&with, 50.0))
                .beside("a second, best", percentile(&with, 100.0))
                .beside("without, median", percentile(&without, 50.0))
                .beside("best round", percentile(&changes, 100.0))
                .beside("worst round", percentile(&changes, 0.0));
            report
                .say(match bound {
                    Some(bound) => figure.at_least(bound),
                    None => figure,
                })
                .unwrap();
        }
    }
}

/// Two nodes that forward, with a link between them and a pod each.
fn build() {
    run("mount -t sysfs sys /sys");
    run("mount -t bpf bpf /sys/fs/bpf");
    run("mount -t tmpfs run /run");
    for (node, pod, address) in NODES {
        run(&format!("ip netns add {node}"));
        run(&format!("ip netns add {pod}"));
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        within(node, forward).join().unwrap();
        run(&format!(
            "ip -n {node} link add pod type veth peer name eth0 netns {pod}"
        ));
        run(&format!("ip -n {node} link set pod up"));
        run(&format!("ip -n {node} address add 10.0.0.254/32 dev pod"));
        run(&format!("ip -n {node} route add {address}/32 dev pod"));
        run(&format!("ip -n {pod} link set lo up"));
        run(&format!("ip -n {pod} address add {address}/32 dev eth0"));
        run(&format!("ip -n {pod} link set eth0 up"));
        run(&format!("ip -n {pod} route add 10.0.0.254 dev eth0 scope link"));
        run(&format!("ip -n {pod} route add default via 10.0.0.254"));
    }
    run("ip -n west link add uplink type veth peer name uplink netns east");
    for (node, own, other, there) in [("west", 1, 2, SERVER), ("east", 2, 1, CLIENT)] {
        run(&format!("ip -n {node} address add 10.9.0.{own}/30 dev uplink"));
        run(&format!("ip -n {node} link set uplink up"));
        run(&format!("ip -n {node} route add {there}/32 via 10.9.0.{other}"));
    }
}

fn pins(node: &str) -> String {
    format!("/sys/fs/bpf/{node}")
}

/// As the agent of a node does it. Its programs and maps stay when it is dropped, as they do when an agent ends.
fn enforce((node, pod, address): &(&'static str, &'static str, Ipv4Addr), rules: &NodeRules) {
    let (node, pod, address, rules) = (*node, *pod, *address, rules.clone());
    let enforce = move || {
        let mut kernel = Kernel::load_at(&Pins::prepare(Path::new(&pins(node))).unwrap());
        let veth = interface("pod");
        kernel.seat(veth, address);
        kernel.enforce(&rules, &[(veth, &key(pod))]);
        kernel.hooks.attach(veth).unwrap();
    };
    within(node, enforce).join().unwrap();
}

fn stop(node: &'static str) {
    let stop = move || {
        let veth = interface("pod");
        detach(veth).unwrap();
        remove_clsact(veth).unwrap();
        uninstall(Path::new(&pins(node))).unwrap();
    };
    within(node, stop).join().unwrap();
}

fn serve(listener: &TcpListener) {
    pin_to(TRAFFIC);
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|count| count == 1) {
            if stream.write_all(&byte).is_err() {
                break;
            }
        }
    }
}

fn rates() -> Rates {
    let client = || {
        pin_to(TRAFFIC);
        let mut stream = connect();
        let same = a_second(|| transact(&mut stream));
        drop(stream);
        let fresh = a_second(|| transact(&mut connect()));
        Rates { same, fresh }
    };
    within("client", client).join().unwrap()
}

fn a_second(mut act: impl FnMut()) -> f64 {
    let (mut count, start) = (0_u32, Instant::now());
    while start.elapsed() < WHILE {
        act();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

fn transact(stream: &mut TcpStream) {
    let mut byte = [1];
    stream.write_all(&byte).unwrap();
    stream.read_exact(&mut byte).unwrap();
}

/// Ends with a reset, or the ports would run out after some seconds.
fn connect() -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((SERVER, PORT)), Duration::from_secs(2)).unwrap();
    stream.set_nodelay(true).unwrap();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option is a `linger` of that size, which the kernel only reads.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    assert_eq!(set, 0);
    stream
}
