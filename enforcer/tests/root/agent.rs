//! The whole agent but for the API server: what it finds on a node, and what it leaves behind.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libbpf_rs::{TC_INGRESS, TcHook};
use prometheus::Registry;
use ringfence_enforcer::agent::{Agent, Ready};
use ringfence_enforcer::datapath::{self, Datapath, Hooks, KernelMaps, Pins};
use ringfence_enforcer::link::Links;
use ringfence_enforcer::metrics::Metrics;
use ringfence_enforcer::removal::uninstall;
use ringfence_enforcer::settings::EnforcerSettings;
use ringfence_runtime::health::Readiness;
use ringfence_runtime::view::View;
use serde_json::{Value, json};

use super::harness::{NODE, PINS, alone, cluster, run, within};
use super::namespaces::{PATIENCE, addresses, asks, connect, lives, pod, prepare, serve};

/// An agent that has come to rest: everything it could do is done, and its process is gone.
struct Rested {
    maps: Arc<KernelMaps>,
    hooks: Arc<Hooks>,
    ready: Readiness,
}

fn settings() -> EnforcerSettings {
    EnforcerSettings {
        node_name: NODE.to_owned(),
        netns_path: PathBuf::from("/run/netns"),
        cni_results_path: PathBuf::from("/run/none"),
        ..EnforcerSettings::default()
    }
}

/// Runs an agent for a while on what the API says.
fn agent(pods: &[(&str, Value, &str)], policies: &[Value]) -> Rested {
    agent_that(pods, policies, |_| Duration::ZERO)
}

/// Runs it for a while, and after `happens` as much longer as that says.
fn agent_that(
    pods: &[(&str, Value, &str)],
    policies: &[Value],
    happens: impl FnOnce(&Hooks) -> Duration,
) -> Rested {
    let pins = Pins::prepare(Path::new(PINS)).unwrap();
    let resumed = pins.are_there();
    let Datapath { maps, hooks, .. } = datapath::load(&pins).unwrap_or_else(|error| panic!("{error}"));
    let (maps, hooks) = (Arc::new(maps), Arc::new(hooks));
    let registry = Registry::new();
    let readiness = Readiness::default();
    let ready = Ready {
        view: readiness.condition("view"),
        rules: readiness.condition("rules"),
        pods: readiness.condition("pods"),
        filters: readiness.condition("filters"),
    };
    let view = View::of(cluster(pods, policies, &[]), &registry).unwrap();
    let mut links = Links::open().unwrap();
    let veths = links.veths().unwrap();
    let mut agent = Agent::new(
        settings(),
        view,
        links,
        (Arc::clone(&maps), Arc::clone(&hooks)),
        (Metrics::new(&registry).unwrap(), ready),
        (pins, resumed),
    );
    agent.resume(&veths).unwrap();
    // Its threads are of this one's namespaces.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (_tell, news) = tokio::sync::mpsc::unbounded_channel();
    runtime.block_on(async {
        let working = tokio::spawn(agent.run(news));
        tokio::time::sleep(Duration::from_secs(4)).await;
        tokio::time::sleep(happens(&hooks)).await;
        working.abort();
    });
    Rested {
        maps,
        hooks,
        ready: readiness,
    }
}

fn web() -> (&'static str, Value, &'static str) {
    ("web", json!({"app": "web"}), "10.0.0.1 fd00::1")
}

fn friend() -> (&'static str, Value, &'static str) {
    ("friend", json!({"app": "friend"}), "10.0.0.2 fd00::2")
}

fn stranger(address: &'static str) -> (&'static str, Value, &'static str) {
    ("stranger", json!({"app": "stranger"}), address)
}

fn only_friends() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    })
}

fn web_address() -> IpAddr {
    addresses(1)[0]
}

#[test]
fn a_veth_that_was_born_while_no_agent_ran_is_closed_by_the_next_one_until_its_pod_is_known() {
    alone(|| {
        prepare();
        pod("web", 1);
        pod("friend", 2);
        serve("web");
        agent(&[web(), friend()], &[only_friends()]);
        assert!(connect("friend", web_address()).is_some());

        serve("friend");
        let born = pod("stranger", 3);
        assert!(
            connect("stranger", addresses(2)[0]).is_none() && connect("friend", addresses(3)[0]).is_none(),
            "the node forwards nothing from or to it"
        );
        assert!(connect("friend", web_address()).is_some(), "all else goes on");
        // The API knows the pod, and not its address.
        let next = agent(&[web(), friend(), stranger("")], &[only_friends()]);
        assert!(next.hooks.are_attached(born));
        assert!(connect("stranger", addresses(2)[0]).is_none() && !asks("stranger", addresses(2)[0]));
        assert!(next.maps.counts().unwrap()[15] > 0, "pending");
        let last = agent(
            &[web(), friend(), stranger("10.0.0.3 fd00::3")],
            &[only_friends()],
        );
        assert!(last.hooks.are_attached(born));
        assert!(
            connect("stranger", addresses(2)[0]).is_some(),
            "nothing isolates the friend"
        );
        assert!(connect("stranger", web_address()).is_none());
        assert!(last.ready.missing().is_empty());
    });
}

#[test]
fn filters_that_somebody_takes_away_are_put_back_and_netfilters_programs_are_missed() {
    alone(|| {
        prepare();
        let veths = [pod("web", 1), pod("friend", 2), pod("stranger", 3)];
        serve("web");
        let all = [web(), friend(), stranger("10.0.0.3 fd00::3")];
        let rested = agent_that(&all, &[only_friends()], |hooks| {
            run("tc qdisc delete dev veth1 clsact");
            assert!(!hooks.are_attached(veths[0]));
            assert!(connect("stranger", web_address()).is_some());
            let links = layout().join("links");
            let link = std::fs::read_dir(&links).unwrap().next().unwrap().unwrap();
            std::fs::remove_file(link.path()).unwrap();
            Duration::from_secs(12)
        });
        assert!(rested.hooks.are_attached(veths[0]));
        assert!(connect("stranger", web_address()).is_none() && connect("friend", web_address()).is_some());
        assert_eq!(rested.ready.missing(), ["filters"]);
    });
}

#[test]
fn what_is_left_of_veths_that_are_gone_is_forgotten_at_the_start() {
    alone(|| {
        prepare();
        let [first, second] = [pod("web", 1), pod("friend", 2)];
        let before = agent(&[web(), friend()], &[only_friends()]);
        assert_eq!(before.maps.endpoints().unwrap().len(), 2);
        run("ip link delete veth2");
        let after = agent(&[web()], &[only_friends()]);
        let left: Vec<u32> = after
            .maps
            .endpoints()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint.ifindex)
            .collect();
        assert_eq!(left, [first]);
        assert_ne!(first, second);
    });
}

#[test]
fn an_agent_with_another_layout_of_the_maps_takes_over_from_one_that_was_killed() {
    alone(|| {
        prepare();
        let veths = [pod("web", 1), pod("friend", 2), pod("stranger", 3)];
        serve("web");
        let all = [web(), friend(), stranger("10.0.0.3 fd00::3")];
        let silent = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]});
        let policies = [only_friends(), silent];
        agent(&all, &policies);
        let mut connection = connect("friend", web_address()).unwrap();
        assert!(lives(&mut connection));
        // A question, whose answer may only come because it was asked.
        let socket = |name, address| {
            within(name, move || UdpSocket::bind((address, 4242)).unwrap())
                .join()
                .unwrap()
        };
        let (asks, answers) = (socket("friend", addresses(2)[0]), socket("web", web_address()));
        asks.send_to(b"?", (web_address(), 4242)).unwrap();
        let (_, from) = answers.recv_from(&mut [0; 8]).unwrap();
        // What another version would have left.
        let layout = layout();
        std::fs::rename(&layout, Path::new(PINS).join("old")).unwrap();
        assert!(lives(&mut connection) && connect("stranger", web_address()).is_none());

        let next = agent(&all, &policies);
        answers.send_to(b"!", from).unwrap();
        asks.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(asks.recv(&mut [0; 8]).is_ok(), "what was asked before is known");
        assert!(lives(&mut connection));
        assert!(connect("friend", web_address()).is_some() && connect("stranger", web_address()).is_none());
        assert!(
            !Path::new(PINS).join("old").exists(),
            "nothing of the other version stays"
        );
        assert!(veths.into_iter().all(|veth| next.hooks.are_attached(veth)));
        let links = std::fs::read_dir(layout.join("links")).unwrap().count();
        assert_eq!(links, 4, "forwarded and received, in both families");
        assert!(next.ready.missing().is_empty());
    });
}

/// The folder of what would change with the layout of rules.
fn layout() -> PathBuf {
    let entries = std::fs::read_dir(PINS).unwrap();
    let mut folders = entries.map(|entry| entry.unwrap().path());
    folders.find(|folder| folder.join("ep").exists()).unwrap()
}

#[test]
fn what_is_kept_beyond_the_agents_life_does_not_grow_with_the_pods() {
    alone(|| {
        prepare();
        pod("web", 1);
        agent(&[web()], &[only_friends()]);
        let pinned = count(Path::new(PINS));
        pod("friend", 2);
        pod("stranger", 3);
        agent(
            &[web(), friend(), stranger("10.0.0.3 fd00::3")],
            &[only_friends()],
        );
        assert_eq!(count(Path::new(PINS)), pinned);
    });
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { count(&path) } else { 1 })
        .sum()
}

#[test]
fn to_uninstall_leaves_nothing_but_what_others_put_there() {
    alone(|| {
        prepare();
        let [alone, shared] = [pod("web", 1), pod("friend", 2)];
        let agent = agent(&[web(), friend()], &[only_friends()]);
        other(&agent.hooks, shared);
        uninstall(Path::new(PINS)).unwrap();
        let mut links = Links::open().unwrap();
        assert!(!links.has_filters(alone).unwrap());
        assert!(links.has_filters(shared).unwrap(), "somebody else's filter");
        assert!(!Hooks::stand_at(shared));
        assert!(!Path::new(PINS).exists());
        uninstall(Path::new(PINS)).unwrap();
    });
}

/// Somebody else's filter at what a pod sends, which lets everything pass.
fn other(hooks: &Hooks, ifindex: u32) -> TcHook {
    let [from_pod, _] = hooks.programs();
    let mut hook = TcHook::new(from_pod.as_fd());
    hook.ifindex(ifindex.cast_signed())
        .attach_point(TC_INGRESS)
        .priority(7)
        .handle(9);
    hook.attach().unwrap()
}

#[test]
fn other_programs_at_the_same_hook_keep_running() {
    alone(|| {
        prepare();
        pod("web", 1);
        let veth = pod("friend", 2);
        serve("web");
        let agent = agent(&[web(), friend()], &[only_friends()]);
        // But for what neighbours say to each other.
        let passed = || agent.maps.counts().unwrap()[..9].iter().sum::<u64>();
        let packets = || {
            let before = passed();
            assert!(asks("friend", web_address()));
            passed() - before
        };
        // The first packets find their neighbours.
        packets();
        let alone = packets();
        let mut other = other(&agent.hooks, veth);
        assert_eq!(
            packets(),
            alone + 1,
            "what the pod asked went through the other program too"
        );
        agent.hooks.attach(veth).unwrap();
        assert_eq!(packets(), alone + 1);
        other.detach().unwrap();
        assert_eq!(packets(), alone);
    });
}
