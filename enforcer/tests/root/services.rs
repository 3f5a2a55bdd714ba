//! Services, translated by netfilter as kube-proxy has it done, on both kinds of CNI.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use ringfence_enforcer::link::Links;
use ringfence_netpol::compile::NodeRules;
use serde_json::{Value, json};

use super::harness::{Kernel, alone, key, rules, run, within};
use super::namespaces::{PATIENCE, connect, pod, prepare, serve};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);
/// Its backend is on the node itself.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 3);
/// Has both Services translated, and hides the source of what a pod sends to itself.
const NFT: &str = "
table ip services {
    chain translate {
        type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.1 dnat to 10.0.0.1
        ip daddr 10.96.0.2 dnat to 10.0.0.3
        ip daddr 10.96.0.3 dnat to 10.0.0.254
    }
    chain hide {
        type nat hook postrouting priority srcnat;
        ip saddr 10.0.0.1 ip daddr 10.0.0.1 masquerade
        ip saddr 10.0.0.2 ip daddr 10.0.0.2 masquerade
    }
}";

fn with(policies: &[Value]) -> NodeRules {
    let pods = [
        ("web", json!({"app": "web"}), "10.0.0.1"),
        ("client", json!({"app": "client"}), "10.0.0.2"),
        ("other", json!({"app": "other"}), "10.0.0.3"),
    ];
    let service = |address: Ipv4Addr| json!({"clusterIP": address.to_string(), "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]});
    rules(&pods, policies, &[service(WEB), service(OTHER), service(NODE)])
}

/// The client may open connections to web only; nobody to the client, nor to web but the client.
fn client_to_web() -> [Value; 2] {
    [
        json!({
            "podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Ingress", "Egress"],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
        }),
        json!({
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}],
        }),
    ]
}

fn asks(netns: &str, to: Ipv4Addr) -> bool {
    let asking = within(netns, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((to, 53)).unwrap();
        socket.send(b"?").is_ok() && socket.recv(&mut [0; 8]).is_ok()
    });
    asking.join().unwrap()
}

/// `also` happens while the policies are in force.
fn judges_services(also: impl FnOnce()) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    std::io::Write::write_all(&mut nft.stdin.take().unwrap(), NFT.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    ["web", "client", "other"].into_iter().for_each(serve);
    let node = std::net::TcpListener::bind("10.0.0.254:80").unwrap();

    let mut kernel = Kernel::load();
    let mut links = Links::open().unwrap();
    let mut seats = Vec::new();
    for veth in links.veths().unwrap() {
        let address = links.addresses_behind(&veth).unwrap()[0];
        let IpAddr::V4(v4) = address else {
            panic!("{address}")
        };
        let name = ["web", "client", "other"][usize::from(v4.octets()[3]) - 1];
        kernel.seat_via(veth.ifindex, address, veth.via());
        seats.push((veth.ifindex, key(name)));
    }
    let mut enforce = |policies: &[Value]| {
        let seats: Vec<_> = seats.iter().map(|(ifindex, key)| (*ifindex, key)).collect();
        kernel.enforce(&with(policies), &seats);
        seats
            .iter()
            .for_each(|(ifindex, _)| kernel.hooks.attach(*ifindex).unwrap());
    };
    enforce(&[]);
    for service in [WEB, OTHER] {
        assert!(connect("client", service).is_some() && asks("client", service));
    }
    enforce(&client_to_web());
    assert!(connect("client", WEB).is_some() && asks("client", WEB));
    assert!(connect("client", OTHER).is_none() && !asks("client", OTHER));
    assert!(
        connect("client", NODE).is_none(),
        "a backend on the node is judged too"
    );
    assert!(connect("other", NODE).is_some());
    assert!(
        connect("other", WEB).is_none() && !asks("other", WEB),
        "judged where it arrives"
    );
    assert!(
        connect("web", WEB).is_some() && asks("web", WEB),
        "a pod reaches itself through its Service"
    );
    let direct = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 80);
    assert!(
        TcpStream::connect_timeout(&direct, PATIENCE).is_ok(),
        "the node reaches its pods"
    );
    also();
    enforce(&[]);
    assert!(connect("client", OTHER).is_some() && connect("other", WEB).is_some());
    drop(node);
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it_where_pods_are_routed() {
    alone(|| {
        prepare();
        for (name, number) in [("web", 1), ("client", 2), ("other", 3)] {
            pod(name, number);
        }
        judges_services(|| ());
    });
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it_where_pods_share_a_bridge() {
    alone(|| {
        prepare();
        run("ip link add bridge0 type bridge");
        run("ip link set bridge0 up");
        run("ip address add 10.0.0.254/24 dev bridge0");
        for (name, number) in [("web", 1), ("client", 2), ("other", 3)] {
            run(&format!("ip netns add {name}"));
            run(&format!(
                "ip link add veth{number} type veth peer name eth0 netns {name}"
            ));
            run(&format!("ip link set veth{number} master bridge0"));
            run(&format!("ip link set veth{number} up"));
            run(&format!("ip link set veth{number} type bridge_slave hairpin on"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} address add 10.0.0.{number}/24 dev eth0"));
            run(&format!("ip -n {name} link set eth0 up"));
            run(&format!("ip -n {name} route add default via 10.0.0.254"));
        }
        // As kube-proxy asks of bridged CNIs: a reply between two pods of the node must be translated back.
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap_or_default();
        judges_services(|| {
            // Without, the bridge's own packets are not translated, and what the pod sends to itself goes through the node.
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0").unwrap_or_default();
            assert!(connect("web", WEB).is_some() && asks("web", WEB));
            assert!(connect("other", WEB).is_none());
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap_or_default();
        });
    });
}
