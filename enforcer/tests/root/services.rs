//! Services, translated by netfilter as kube-proxy has it done, on both kinds of CNI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use ringfence_enforcer::link::Links;
use ringfence_netpol::compile::NodeRules;
use serde_json::{Value, json};

use super::harness::{Kernel, alone, key, rules, run};
use super::namespaces::{PATIENCE, addresses, asks, connect, pod, prepare, serve};

/// A Service's address in one family, by its number.
type Address = fn(u8) -> IpAddr;

const WEB: u8 = 1;
const OTHER: u8 = 2;
/// Its backend is on the node itself.
const NODE: u8 = 3;
/// Nobody translates it: the node has its address.
const CACHE: u8 = 4;

fn v4(service: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, service))
}

fn v6(service: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, u16::from(service)))
}

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
}
table ip6 services {
    chain translate {
        type nat hook prerouting priority dstnat;
        ip6 daddr fd96::1 dnat to fd00::1
        ip6 daddr fd96::2 dnat to fd00::3
        ip6 daddr fd96::3 dnat to fd00::fe
    }
    chain hide {
        type nat hook postrouting priority srcnat;
        ip6 saddr fd00::1 ip6 daddr fd00::1 masquerade
        ip6 saddr fd00::2 ip6 daddr fd00::2 masquerade
    }
}";

fn with(policies: &[Value]) -> NodeRules {
    let pods = [
        ("web", json!({"app": "web"}), "10.0.0.1 fd00::1"),
        ("client", json!({"app": "client"}), "10.0.0.2 fd00::2"),
        ("other", json!({"app": "other"}), "10.0.0.3 fd00::3"),
    ];
    let service = |number| json!({"clusterIP": v4(number), "clusterIPs": [v4(number), v6(number)], "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]});
    rules(&pods, policies, &[WEB, OTHER, NODE, CACHE].map(service))
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

/// As kube-proxy has it where it works by nftables.
fn translate_by_nftables() {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    std::io::Write::write_all(&mut nft.stdin.take().unwrap(), NFT.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}

/// As kube-proxy has it where it works by iptables: a chain for each Service, one for each backend, and marks on what has to hide its
/// source.
fn translate_by_iptables() {
    for (command, six) in [("iptables", false), ("ip6tables", true)] {
        let of = |service| if six { v6(service) } else { v4(service) };
        let rule = |rule: String| run(&format!("{command} -w -t nat {rule}"));
        rule("-N KUBE-SERVICES".to_owned());
        rule("-N KUBE-MARK-MASQ".to_owned());
        rule("-N KUBE-POSTROUTING".to_owned());
        rule("-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000".to_owned());
        rule("-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned());
        rule("-A KUBE-POSTROUTING -j MASQUERADE".to_owned());
        rule("-A PREROUTING -j KUBE-SERVICES".to_owned());
        rule("-A OUTPUT -j KUBE-SERVICES".to_owned());
        rule("-A POSTROUTING -j KUBE-POSTROUTING".to_owned());
        let backends = [
            addresses(1),
            addresses(3),
            [[10, 0, 0, 254].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 0xfe].into()],
        ];
        for (service, backend) in [WEB, OTHER, NODE].into_iter().zip(backends) {
            let (address, backend) = (of(service), backend[usize::from(six)]);
            rule(format!("-N KUBE-SVC-{service}"));
            rule(format!("-N KUBE-SEP-{service}"));
            rule(format!("-A KUBE-SEP-{service} -s {backend} -j KUBE-MARK-MASQ"));
            for protocol in ["tcp", "udp"] {
                rule(format!(
                    "-A KUBE-SERVICES -d {address} -p {protocol} -j KUBE-SVC-{service}"
                ));
                rule(format!(
                    "-A KUBE-SEP-{service} -p {protocol} -m {protocol} -j DNAT --to-destination {backend}"
                ));
            }
            rule(format!("-A KUBE-SVC-{service} -j KUBE-SEP-{service}"));
        }
    }
}

/// `also` happens while the policies are in force.
fn judges_services(translate: fn(), of: Address, also: impl FnOnce(IpAddr)) {
    let [web, other, on_node] = [WEB, OTHER, NODE].map(of);
    translate();
    ["web", "client", "other"].into_iter().for_each(serve);
    let node = std::net::TcpListener::bind("[::]:80").unwrap();

    let mut kernel = Kernel::load();
    let mut links = Links::open().unwrap();
    let mut seats = Vec::new();
    for veth in links.veths().unwrap() {
        let behind = links.addresses_behind(&veth).unwrap();
        let number = (1..=3).find(|pod| addresses(*pod)[..] == behind).unwrap();
        let name = ["web", "client", "other"][usize::from(number) - 1];
        kernel.seat_both(veth.ifindex, &behind, veth.via());
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
    for service in [web, other] {
        // A bridge takes a while until it forwards.
        let reachable = (0..10).any(|_| connect("client", service).is_some());
        assert!(reachable && asks("client", service));
    }
    enforce(&client_to_web());
    assert!(connect("client", web).is_some() && asks("client", web));
    assert!(connect("client", other).is_none() && !asks("client", other));
    assert!(
        connect("client", on_node).is_none(),
        "a backend on the node is judged too"
    );
    assert!(connect("other", on_node).is_some());
    assert!(
        connect("other", web).is_none() && !asks("other", web),
        "judged where it arrives"
    );
    assert!(
        connect("web", web).is_some() && asks("web", web),
        "a pod reaches itself through its Service"
    );
    let direct = SocketAddr::new(addresses(1)[usize::from(web.is_ipv6())], 80);
    assert!(
        TcpStream::connect_timeout(&direct, PATIENCE).is_ok(),
        "the node reaches its pods"
    );
    also(web);
    enforce(&[]);
    assert!(connect("client", other).is_some() && connect("other", web).is_some());
    drop(node);
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it_where_pods_are_routed() {
    alone(|| {
        prepare();
        for (name, number) in [("web", 1), ("client", 2), ("other", 3)] {
            pod(name, number);
        }
        judges_services(translate_by_nftables, v4, |_| ());
    });
}

#[test]
fn a_service_over_ipv6_is_judged_by_the_pod_behind_it_where_pods_are_routed() {
    alone(|| {
        prepare();
        for (name, number) in [("web", 1), ("client", 2), ("other", 3)] {
            pod(name, number);
        }
        judges_services(translate_by_nftables, v6, |_| ());
    });
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it_where_pods_share_a_bridge() {
    alone(|| on_a_bridge(v4, "/proc/sys/net/bridge/bridge-nf-call-iptables"));
}

#[test]
fn a_service_over_ipv6_is_judged_by_the_pod_behind_it_where_pods_share_a_bridge() {
    alone(|| on_a_bridge(v6, "/proc/sys/net/bridge/bridge-nf-call-ip6tables"));
}

/// `setting` says whether the bridge's own packets go through netfilter.
fn on_a_bridge(of: Address, setting: &str) {
    prepare();
    run("ip link add bridge0 type bridge");
    run("ip link set bridge0 up");
    run("ip address add 10.0.0.254/24 dev bridge0");
    run("ip address add fd00::fe/64 dev bridge0 nodad");
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
        run(&format!(
            "ip -n {name} address add fd00::{number}/64 dev eth0 nodad"
        ));
        run(&format!("ip -n {name} route add default via fd00::fe"));
    }
    // As kube-proxy asks of bridged CNIs: a reply between two pods of the node must be translated back.
    std::fs::write(setting, "1").unwrap_or_default();
    judges_services(translate_by_nftables, of, |web| {
        // Without, the bridge's own packets are not translated, and what the pod sends to itself goes through the node.
        std::fs::write(setting, "0").unwrap_or_default();
        assert!(connect("web", web).is_some() && asks("web", web));
        assert!(connect("other", web).is_none());
        std::fs::write(setting, "1").unwrap_or_default();
    });
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it_where_kube_proxy_works_by_iptables() {
    for of in [v4 as Address, v6] {
        alone(move || {
            prepare();
            for (name, number) in [("web", 1), ("client", 2), ("other", 3)] {
                pod(name, number);
            }
            judges_services(translate_by_iptables, of, |_| ());
        });
    }
}

/// As caches of names on every node have it: nothing of this is tracked.
const UNTRACKED: &str = "
table inet cache {
    chain in {
        type filter hook prerouting priority raw;
        ip daddr 10.96.0.4 notrack
        ip6 daddr fd96::4 notrack
    }
    chain out {
        type filter hook output priority raw;
        ip saddr 10.96.0.4 notrack
        ip6 saddr fd96::4 notrack
    }
}";

#[test]
fn a_cache_of_names_on_the_node_is_judged_by_the_address_that_it_has_tracked_or_not() {
    alone(|| {
        prepare();
        let client = pod("client", 2);
        translate_by_nftables();
        run("ip link set lo up");
        run("ip address add 10.96.0.4/32 dev lo");
        run("ip address add fd96::4/128 dev lo nodad");
        let caches = [v4(CACHE), v6(CACHE)];
        let names = caches.map(|of| UdpSocket::bind((of, 53)).unwrap());
        let _listening = caches.map(|of| TcpListener::bind((of, 80)).unwrap());
        for names in names {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, from)) = names.recv_from(&mut buffer) {
                    names.send_to(&buffer[..length], from).unwrap_or_default();
                }
            });
        }
        let to = |blocks: [&str; 2]| {
            let peers = blocks.map(|block| json!({"ipBlock": {"cidr": block}}));
            json!({
                "podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": peers}],
            })
        };
        let mut kernel = Kernel::load();
        kernel.seat_both(client, &addresses(2), client);
        kernel.hooks.attach(client).unwrap();
        for tracked in [true, false] {
            if !tracked {
                std::fs::write("/run/untracked", UNTRACKED).unwrap();
                run("nft -f /run/untracked");
            }
            for (policy, open) in [
                (to(["10.96.0.4/32", "fd96::4/128"]), true),
                (to(["10.0.0.1/32", "fd00::1/128"]), false),
            ] {
                kernel.enforce(&with(&[policy]), &[(client, &key("client"))]);
                for cache in caches {
                    assert_eq!(asks("client", cache), open, "{cache}, tracked: {tracked}");
                    assert_eq!(
                        connect("client", cache).is_some(),
                        open,
                        "{cache}, tracked: {tracked}"
                    );
                }
            }
        }
        assert!(kernel.count("service") > 0);
    });
}

/// Clients beyond the node, at its port 30080 (translated as it is) and 30081 (with the node's own address for a source).
const NODE_PORTS: &str = "
table ip nodeports {
    chain translate {
        type nat hook prerouting priority dstnat;
        ip daddr 192.0.2.254 tcp dport 30080 dnat to 10.0.0.1:80
        ip daddr 192.0.2.254 tcp dport 30081 dnat to 10.0.0.1:80
        ip daddr 192.0.2.254 tcp dport 30082 dnat to 10.0.0.1:81
    }
    chain hide {
        type nat hook postrouting priority srcnat;
        meta l4proto tcp ct original proto-dst 30081 masquerade
    }
}";

#[test]
fn a_node_port_is_judged_by_its_client_with_traffic_policy_local_and_by_the_node_with_cluster() {
    alone(|| {
        prepare();
        let web = pod("web", 1);
        run("ip netns add outside");
        run("ip link add uplink type veth peer name eth0 netns outside");
        run("ip link set uplink up");
        run("ip address add 192.0.2.254/24 dev uplink");
        run("ip -n outside link set lo up");
        run("ip -n outside address add 192.0.2.9/24 dev eth0");
        run("ip -n outside address add 192.0.2.10/24 dev eth0");
        run("ip -n outside link set eth0 up");
        std::fs::write("/run/nodeports", NODE_PORTS).unwrap();
        run("nft -f /run/nodeports");
        serve("web");
        let allowed = |block: &str| {
            json!({
                "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"ipBlock": {"cidr": block}}], "ports": [{"port": 80}]}],
            })
        };
        let mut kernel = Kernel::load();
        kernel.seat_both(web, &addresses(1), web);
        kernel.hooks.attach(web).unwrap();
        let mut enforce = |policies: &[Value]| kernel.enforce(&with(policies), &[(web, &key("web"))]);
        let node = |port: u16| SocketAddr::from(([192, 0, 2, 254], port));
        let reaches = |from: &'static str, to: SocketAddr| {
            let connecting = super::harness::within("outside", move || connects_from(from, to));
            connecting.join().unwrap()
        };
        enforce(&[]);
        assert!(reaches("192.0.2.9", node(30080)) && reaches("192.0.2.9", node(30081)));
        enforce(&[allowed("192.0.2.9/32")]);
        assert!(reaches("192.0.2.9", node(30080)), "Local: the client is seen");
        assert!(!reaches("192.0.2.10", node(30080)));
        assert!(!reaches("192.0.2.9", node(30082)), "the pod's port counts");
        assert!(
            !reaches("192.0.2.9", node(30081)),
            "Cluster: the client is hidden"
        );
        enforce(&[allowed("10.0.0.254/32")]);
        assert!(
            reaches("192.0.2.9", node(30081)),
            "the node's address has to be allowed"
        );
    });
}

/// Whether a connection from one of the own addresses comes about.
fn connects_from(own: &str, to: SocketAddr) -> bool {
    use std::os::fd::FromRawFd;
    // SAFETY: asks for a socket, which is then owned by the one that is made of it; -1 is refused before.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        assert!(socket >= 0);
        std::net::UdpSocket::from_raw_fd(socket)
    };
    let of = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else {
            panic!("{address}")
        };
        libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(address.ip().octets()),
            },
            sin_zero: [0; 8],
        }
    };
    let own = of(SocketAddr::new(own.parse().unwrap(), 0));
    let to = of(to);
    let patience = libc::timeval {
        tv_sec: 0,
        tv_usec: PATIENCE.as_micros() as i64,
    };
    let (fd, length) = (
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        size_of::<libc::sockaddr_in>() as u32,
    );
    // SAFETY: all pointers are to live values of the sizes beside them.
    unsafe {
        let sent = libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            std::ptr::from_ref(&patience).cast(),
            size_of::<libc::timeval>() as u32,
        );
        assert_eq!(sent, 0);
        assert_eq!(libc::bind(fd, std::ptr::from_ref(&own).cast(), length), 0);
        libc::connect(fd, std::ptr::from_ref(&to).cast(), length) == 0
    }
}
