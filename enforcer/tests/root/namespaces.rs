//! Real traffic between namespaces, routed by this one as a node does: what a pod's application sees.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::thread;
use std::time::{Duration, Instant};

use ringfence_enforcer::link::{Links, Veth};
use ringfence_netpol::compile::NodeRules;
use serde_json::{Value, json};

use super::harness::{Kernel, alone, key, rules, run, within};

pub const PATIENCE: Duration = Duration::from_millis(400);

fn address(pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, pod)
}

fn address6(pod: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(pod))
}

/// Both addresses of a pod.
pub fn addresses(pod: u8) -> [IpAddr; 2] {
    [IpAddr::V4(address(pod)), IpAddr::V6(address6(pod))]
}

/// Makes a namespace with a veth to this one, as the ptp plugin does; the veth's index here.
pub fn pod(name: &str, number: u8) -> u32 {
    let address = address(number);
    run(&format!("ip netns add {name}"));
    within(name, trust_addresses).join().unwrap();
    run(&format!(
        "ip link add veth{number} type veth peer name eth0 netns {name}"
    ));
    run(&format!("ip link set veth{number} up"));
    run(&format!("ip address add 10.0.0.254/32 dev veth{number}"));
    run(&format!("ip route add {address}/32 dev veth{number}"));
    run(&format!("ip -n {name} link set lo up"));
    run(&format!("ip -n {name} address add {address}/32 dev eth0"));
    run(&format!("ip -n {name} link set eth0 up"));
    run(&format!("ip -n {name} route add 10.0.0.254 dev eth0 scope link"));
    run(&format!("ip -n {name} route add default via 10.0.0.254"));
    let address6 = address6(number);
    run(&format!("ip address add fd00::fe/128 dev veth{number} nodad"));
    run(&format!("ip route add {address6}/128 dev veth{number}"));
    run(&format!("ip -n {name} address add {address6}/128 dev eth0 nodad"));
    run(&format!("ip -n {name} route add fd00::fe dev eth0"));
    run(&format!("ip -n {name} route add default via fd00::fe"));
    let index = std::fs::read_to_string(format!("/sys/class/net/veth{number}/ifindex")).unwrap();
    index.trim().parse().unwrap()
}

/// Makes this namespace one that forwards.
pub fn prepare() {
    run("mount -t sysfs sys /sys");
    run("mount -t bpf bpf /sys/fs/bpf");
    run("mount -t tmpfs run /run");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    trust_addresses();
}

/// Interfaces that are made from now on do not spend their first second asking whether their own addresses are taken: until then they
/// would solicit no neighbour.
fn trust_addresses() {
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
}

/// A namespace that forwards, with three pods; their veths.
fn node() -> [u32; 3] {
    prepare();
    [pod("web", 1), pod("friend", 2), pod("stranger", 3)]
}

fn with(policies: &[Value]) -> NodeRules {
    let pods = [
        ("web", json!({"app": "web"}), "10.0.0.1 fd00::1"),
        ("friend", json!({"app": "friend"}), "10.0.0.2 fd00::2"),
        ("stranger", json!({"app": "stranger"}), "10.0.0.3 fd00::3"),
    ];
    rules(&pods, policies, &[])
}

fn only_friends() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    })
}

fn enforce(kernel: &mut Kernel, [web, friend, stranger]: [u32; 3], policies: &[Value]) {
    kernel.enforce(
        &with(policies),
        &[
            (web, &key("web")),
            (friend, &key("friend")),
            (stranger, &key("stranger")),
        ],
    );
}

/// Serves TCP and UDP echo in a namespace, as long as the test lasts.
pub fn serve(netns: &str) {
    let ready = within(netns, || {
        let tcp = TcpListener::bind("[::]:80").unwrap();
        let udp = UdpSocket::bind("[::]:53").unwrap();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                thread::spawn(move || {
                    let (mut stream, mut buffer) = (stream, [0; 64]);
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                udp.send_to(&buffer[..length], from).unwrap_or_default();
            }
        });
    });
    ready.join().unwrap();
}

pub fn connect(netns: &str, to: impl Into<IpAddr>) -> Option<TcpStream> {
    let to = SocketAddr::new(to.into(), 80);
    within(netns, move || TcpStream::connect_timeout(&to, PATIENCE).ok())
        .join()
        .unwrap()
}

pub fn asks(netns: &str, to: impl Into<IpAddr>) -> bool {
    let to = to.into();
    let asking = within(netns, move || {
        let socket = UdpSocket::bind((unspecified(to), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((to, 53)).unwrap();
        socket.send(b"?").is_ok() && socket.recv(&mut [0; 8]).is_ok()
    });
    asking.join().unwrap()
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn pings(netns: &str, to: impl Into<IpAddr>) -> bool {
    let to = to.into();
    let (family, protocol, echo, answer, header) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0, 20),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129, 0),
    };
    let pinging = within(netns, move || {
        // SAFETY: asks for a socket, which is then owned by the one that is made of it; -1 is refused before.
        let socket = unsafe {
            let socket = libc::socket(family, libc::SOCK_RAW, protocol);
            assert!(socket >= 0, "{}", std::io::Error::last_os_error());
            UdpSocket::from_raw_fd(socket)
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // An echo with identifier 7, and IPv4's checksum; the other one is the kernel's to fill in.
        socket
            .send_to(&[echo, 0, 0xf7, 0xf7, 0, 7, 0, 1], (to, 0))
            .unwrap();
        let mut heard = [0; 64];
        while let Ok(length) = socket.recv(&mut heard) {
            if length >= header + 8 && heard[header] == answer && heard[header + 5] == 7 {
                return true;
            }
        }
        false
    });
    pinging.join().unwrap()
}

/// Whether a connection still carries something.
pub fn lives(connection: &mut TcpStream) -> bool {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(b"!").unwrap();
    match connection.read(&mut [0; 8]) {
        Ok(length) => length > 0,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

fn veths(links: &mut Links) -> Vec<Veth> {
    links.veths().unwrap()
}

#[test]
fn policy_holds_between_pods_of_a_node_and_outlives_the_agent() {
    alone(|| holds_and_outlives(|pod| addresses(pod)[0]));
}

#[test]
fn policy_holds_over_ipv6_and_outlives_the_agent() {
    alone(|| holds_and_outlives(|pod| addresses(pod)[1]));
}

fn holds_and_outlives(address: fn(u8) -> IpAddr) {
    let seats = node();
    serve("web");
    serve("friend");
    let web = address(1);
    let mut kernel = Kernel::load();
    for (ifindex, pod) in seats.into_iter().zip(1..) {
        kernel.seat_both(ifindex, &addresses(pod), ifindex);
        kernel.hooks.attach(ifindex).unwrap();
        assert!(Links::open().unwrap().has_filters(ifindex).unwrap());
    }
    assert!(connect("friend", web).is_none(), "closed before the pod is known");
    enforce(&mut kernel, seats, &[]);
    assert!(
        connect("friend", web).is_some(),
        "a pod that nothing isolates is reached by TCP"
    );
    assert!(asks("stranger", web) && pings("stranger", web), "by UDP and ICMP");
    let mut connection = connect("stranger", web).unwrap();
    assert!(lives(&mut connection));

    enforce(&mut kernel, seats, &[only_friends()]);
    assert!(connect("friend", web).is_some() && asks("friend", web) && pings("friend", web));
    assert!(connect("stranger", web).is_none() && !asks("stranger", web) && !pings("stranger", web));
    assert!(
        !lives(&mut connection),
        "a live connection is cut by a policy that does not allow it"
    );
    assert!(
        connect("web", address(2)).is_some() && asks("web", address(2)),
        "answers come in"
    );
    let node = TcpStream::connect_timeout(&SocketAddr::new(web, 80), PATIENCE);
    assert!(node.is_ok(), "the node reaches its pods: {node:?}");

    let mut connection = connect("friend", web).unwrap();
    drop(kernel);
    assert!(
        lives(&mut connection),
        "a connection does not notice that the agent is gone"
    );
    assert!(connect("friend", web).is_some() && connect("stranger", web).is_none());

    let mut kernel = Kernel::load();
    for ifindex in seats {
        kernel.hooks.attach(ifindex).unwrap();
    }
    assert!(lives(&mut connection), "nor that another one came");
    enforce(&mut kernel, seats, &[only_friends()]);
    assert!(lives(&mut connection) && connect("stranger", web).is_none());

    for ifindex in seats {
        ringfence_enforcer::datapath::detach(ifindex).unwrap();
        ringfence_enforcer::datapath::detach(ifindex).unwrap();
        assert!(!kernel.hooks.are_attached(ifindex));
        assert!(!Links::open().unwrap().has_filters(ifindex).unwrap());
        ringfence_enforcer::datapath::remove_clsact(ifindex).unwrap();
    }
    assert!(connect("stranger", web).is_some(), "nothing stays behind");
}

#[test]
fn pods_veths_are_found_by_what_is_behind_them() {
    alone(|| {
        let seats = node();
        // A veth with both ends here, and the way out, by a veth too.
        run("ip link add both0 type veth peer name both1");
        run("ip netns add outside");
        run("ip link add uplink type veth peer name eth0 netns outside");
        run("ip link set uplink up");
        run("ip address add 192.0.2.2/24 dev uplink");
        run("ip route add default via 192.0.2.1");
        let mut links = Links::open().unwrap();
        let found = veths(&mut links);
        assert_eq!(found.iter().map(|veth| veth.ifindex).collect::<Vec<_>>(), seats);
        for (veth, pod) in found.iter().zip(1..) {
            assert_eq!(links.addresses_behind(veth).unwrap(), addresses(pod));
            assert!(links.is_kept_in(veth, "/run/netns".as_ref()).unwrap());
            assert!(!links.is_kept_in(veth, "/run".as_ref()).unwrap());
        }
        run("ip link add bridge0 type bridge");
        run("ip link set veth2 master bridge0");
        let bridge: u32 = std::fs::read_to_string("/sys/class/net/bridge0/ifindex")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let ways: Vec<u32> = veths(&mut links).iter().map(Veth::via).collect();
        assert_eq!(ways, [seats[0], bridge, seats[2]]);
    });
}

#[test]
fn a_veth_is_taken_for_looked_at_only_once_it_is_closed_also_if_its_end_on_the_node_is_made_first() {
    use ringfence_enforcer::gate::Gate;
    use ringfence_enforcer::link::watch::Watch;
    use std::sync::Arc;

    alone(|| {
        prepare();
        let Kernel { maps, hooks, .. } = Kernel::load();
        let hooks = Arc::new(hooks);
        let (tell, _told) = tokio::sync::mpsc::unbounded_channel();
        let links = Links::open().unwrap();
        let netns = "/run/netns".into();
        let mut gate = Gate::new(links, Arc::clone(&maps), Arc::clone(&hooks), netns, tell, []);
        Watch::open()
            .unwrap()
            .follow(move |news| gate.take(news))
            .unwrap();
        run("ip netns add born");
        // SAFETY: asks for a number.
        let thread = unsafe { libc::gettid() };
        run(&format!("ip netns attach node {thread}"));
        // As a CNI plugin does it, from within the pod's namespace.
        run("ip -n born link add eth0 type veth peer name veth1 netns node");
        let index = std::fs::read_to_string("/sys/class/net/veth1/ifindex").unwrap();
        let veth = index.trim().parse().unwrap();
        assert!(!maps.is_looked_at(veth), "it is not known yet what it is");
        run("ip link set veth1 up");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let looked_at = maps.is_looked_at(veth);
            let attached = hooks.are_attached(veth);
            assert!(attached || !looked_at, "it is open");
            if looked_at {
                break;
            }
            assert!(Instant::now() < deadline, "the new veth was not closed");
        }
    });
}

#[test]
fn a_new_veth_is_closed_at_once() {
    use ringfence_enforcer::gate::{Gate, Told};
    use ringfence_enforcer::link::watch::Watch;
    use std::sync::Arc;

    alone(|| {
        let [old, ..] = node();
        let Kernel { maps, hooks, .. } = Kernel::load();
        let hooks = Arc::new(hooks);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let gate_links = Links::open().unwrap();
        let present: Vec<u32> = Links::open()
            .unwrap()
            .veths()
            .unwrap()
            .iter()
            .map(|veth| veth.ifindex)
            .collect();
        let mut gate = Gate::new(
            gate_links,
            maps,
            Arc::clone(&hooks),
            "/run/netns".into(),
            tell,
            present,
        );
        Watch::open()
            .unwrap()
            .follow(move |news| gate.take(news))
            .unwrap();
        let new = pod("new", 9);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !hooks.are_attached(new) {
            assert!(Instant::now() < deadline, "the new veth was not closed");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!hooks.are_attached(old), "what was there before is left alone");
        assert!(!pings("new", Ipv4Addr::new(10, 0, 0, 254)));
        let told: Vec<Told> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let closed = |told: &Told| matches!(told, Told::Closed(veth) if veth.ifindex == new);
        assert!(told.iter().any(closed), "{told:?}");
        let veth = Links::open().unwrap().veth(new).unwrap();
        assert!(
            veth.is_some_and(|veth| told.contains(&Told::Closed(veth))),
            "{veth:?}"
        );
        assert_eq!(Links::open().unwrap().veth(0x7ff0_0000).unwrap(), None);
    });
}
