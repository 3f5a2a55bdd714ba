//! Pods that asked for their neighbours' hardware addresses while filters were put at their veths.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringfence_enforcer::filters;
use ringfence_enforcer::link::Links;
use serde_json::json;

use super::harness::{Kernel, alone, interface, key, rules, run, within};
use super::namespaces::prepare;

const PORT: u16 = 7;
/// Long before the pod would ask a second time.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn a_pod_that_missed_its_gateways_answer_hears_it_when_its_filters_are_there() {
    for gateway in ["10.0.0.254", "fd00::fe"] {
        alone(move || missed_and_heard(gateway, false));
    }
}

#[test]
fn so_does_one_behind_a_bridge() {
    for gateway in ["10.0.0.254", "fd00::fe"] {
        alone(move || missed_and_heard(gateway, true));
    }
}

fn missed_and_heard(gateway: &str, bridged: bool) {
    prepare();
    run("ip netns add pod");
    run("ip link add veth1 type veth peer name eth0 netns pod");
    let node = if bridged { "bridge1" } else { "veth1" };
    if bridged {
        run("ip link add bridge1 type bridge");
        run("ip link set veth1 master bridge1");
        run("ip link set bridge1 up");
    }
    run("ip link set veth1 up");
    run("ip -n pod link set eth0 up");
    run("ip -n pod address add 10.0.0.1/24 dev eth0");
    run("ip -n pod address add fd00::1/64 dev eth0 nodad");
    within("pod", || {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/eth0/retrans_time_ms");
            std::fs::write(path, "60000").unwrap();
        }
    })
    .join()
    .unwrap();

    let gateway: IpAddr = gateway.parse().unwrap();
    // Nobody has the address yet, so the pod's question has no answer: as if that had been dropped.
    within("pod", move || {
        let any = if gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.send_to(b"!", (gateway, PORT)).unwrap();
    })
    .join()
    .unwrap();
    run(&format!("ip address add 10.0.0.254/24 dev {node}"));
    run(&format!("ip address add fd00::fe/64 dev {node} nodad"));
    let socket = UdpSocket::bind((gateway, PORT)).unwrap();

    let (veth, addresses) = (interface("veth1"), ["10.0.0.1", "fd00::1"]);
    let mut kernel = Kernel::load();
    kernel.seat_both(
        veth,
        &addresses.map(|address| address.parse().unwrap()),
        interface(node),
    );
    let rules = rules(&[("pod", json!({}), &addresses.join(" "))], &[], &[]);
    kernel.enforce(&rules, &[(veth, &key("pod"))]);
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(socket.recv(&mut [0; 8]).is_err(), "the pod waits for an answer");

    socket.set_read_timeout(Some(AT_ONCE)).unwrap();
    let since = Instant::now();
    filters::put(&kernel.hooks, &mut Links::open().unwrap(), veth).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1, "what the pod kept was sent");
    assert!(since.elapsed() < AT_ONCE);
}

#[test]
fn of_a_veth_that_is_down_nothing_is_told() {
    alone(|| {
        prepare();
        run("ip netns add pod");
        run("ip link add veth1 type veth peer name eth0 netns pod");
        let mut links = Links::open().unwrap();
        assert_eq!(links.presence(interface("veth1")).unwrap(), None);
        assert_eq!(links.presence(4711).unwrap(), None, "nor of one that is gone");
    });
}
