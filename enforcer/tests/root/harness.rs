//! A place of its own for a test, with the programs loaded.

#[path = "../../src/encode/differences.rs"]
mod differences;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use differences::Differences;
use libbpf_rs::libbpf_sys;
use ringfence_enforcer::datapath::{self, Datapath, Denials, Endpoint, Hooks, KernelMaps, Pins, ROOM};
use ringfence_enforcer::sync::Sync;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{NodeRules, compile};
use serde_json::{Value, json};

pub const NODE: &str = "one";
pub const PINS: &str = "/sys/fs/bpf/ringfence";

/// Runs a test in a network namespace and a mount namespace that end with it.
pub fn alone(test: impl FnOnce() + Send + 'static) {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        let skip = std::env::var("RINGFENCE_SKIP_ROOT").is_ok_and(|value| value == "1");
        assert!(
            skip,
            "this test loads programs into the kernel and needs root; RINGFENCE_SKIP_ROOT=1 leaves it out"
        );
        eprintln!("left out: needs root");
        return;
    }
    let thread = thread::spawn(|| {
        // SAFETY: concerns this thread only, which ends with the test.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(unshared, 0, "unshare");
        run("mount --make-rprivate /");
        run("mount -t bpf bpf /sys/fs/bpf");
        run("ip link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command, by words.
pub fn run(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The index of an interface of this namespace.
pub fn interface(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the name ends with a nul.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{name:?}");
    index
}

/// The loaded kernel side, and what brings rules to it.
pub struct Kernel {
    pub maps: Arc<KernelMaps>,
    pub hooks: Hooks,
    pub denials: Denials,
    pub sync: Sync<Arc<KernelMaps>>,
    differences: Differences,
}

impl Kernel {
    /// Loads the programs, over what another one pinned in this place.
    pub fn load() -> Self {
        Self::load_at(&Pins::prepare(Path::new(PINS)).unwrap())
    }

    /// The same in a place of the caller's own: a node's, of several.
    pub fn load_at(pins: &Pins) -> Self {
        let Datapath { maps, hooks, denials } =
            datapath::load(pins).unwrap_or_else(|error| panic!("{error}"));
        let maps = Arc::new(maps);
        Self {
            sync: Sync::new(Arc::clone(&maps), ROOM),
            differences: Differences::default(),
            maps,
            hooks,
            denials,
        }
    }

    /// As if the agent were started again.
    pub fn restart(&mut self) {
        self.sync = Sync::new(Arc::clone(&self.maps), ROOM);
        self.differences = Differences::default();
    }

    /// Makes an interface the veth of the pod with this address.
    pub fn seat(&self, ifindex: u32, address: impl Into<IpAddr>) {
        self.seat_both(ifindex, &[address.into()], ifindex);
    }

    /// The same, for a pod with addresses of both families, whose packets the node receives on another interface.
    pub fn seat_both(&self, ifindex: u32, addresses: &[IpAddr], via: u32) {
        self.maps.admit(ifindex).unwrap();
        self.maps
            .bind(Endpoint {
                ifindex,
                addresses: addresses.iter().copied().collect(),
                via,
                lax: false,
            })
            .unwrap();
    }

    /// Brings rules into force for pods by their interfaces.
    pub fn enforce(&mut self, rules: &NodeRules, pods: &[(u32, &Key)]) {
        self.sync.take(&self.differences.to(rules));
        let differences = &self.differences;
        let done = self.sync.apply(
            || differences.everything(),
            |encoder| {
                let id = |index| encoder.ruleset(differences.ruleset(index)).unwrap();
                let of = |key: &Key| {
                    let endpoint = &rules.endpoints[key];
                    (id(endpoint.ingress), id(endpoint.egress))
                };
                pods.iter().map(|(ifindex, key)| (*ifindex, of(key))).collect()
            },
        );
        done.unwrap();
    }

    /// Whether the programs let a packet pass that a pod sends.
    pub fn passes_out(&self, ifindex: u32, packet: &[u8]) -> bool {
        test_run(self.hooks.programs()[0], packet, ifindex, ifindex) != TC_ACT_SHOT
    }

    /// Whether the programs let a packet pass to a pod, that the node received on the interface `from`, or made itself (0).
    pub fn passes_in(&self, ifindex: u32, packet: &[u8], from: u32) -> bool {
        test_run(self.hooks.programs()[1], packet, ifindex, from) != TC_ACT_SHOT
    }

    /// How often there was this reason.
    pub fn count(&self, reason: &str) -> u64 {
        let at = datapath::REASONS
            .iter()
            .position(|(_, _, name)| *name == reason)
            .expect(reason);
        self.maps.counts().unwrap()[at]
    }

    /// How much of this was counted besides.
    pub fn tally(&self, what: &str) -> u64 {
        let at = datapath::TALLIES
            .iter()
            .position(|(_, name)| *name == what)
            .expect(what);
        self.maps.counts().unwrap()[datapath::REASONS.len() + at]
    }
}

const TC_ACT_SHOT: u32 = 2;

fn test_run(program: BorrowedFd<'_>, packet: &[u8], ifindex: u32, from: u32) -> u32 {
    test_runs(program, packet, ifindex, from, 1).0
}

/// Runs a program so many times; its verdict, and the mean time in nanoseconds.
pub fn test_runs(program: BorrowedFd<'_>, packet: &[u8], ifindex: u32, from: u32, times: u32) -> (u32, u32) {
    // The beginning of `struct __sk_buff`, as in kernel.h.
    let context: [u32; 11] = [0, 0, 0, 0, 0, 0, 0, 0, 0, from, ifindex];
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: packet.len() as u32,
        ctx_in: std::ptr::from_ref(&context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        repeat: times as i32,
        ..Default::default()
    };
    // SAFETY: all pointers are to live values of the sizes beside them, and the kernel only reads them.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    assert_eq!(
        result,
        0,
        "test_run of {} bytes: {}",
        packet.len(),
        std::io::Error::last_os_error()
    );
    (options.retval, options.duration)
}

/// A thread in another network namespace; its result.
pub fn within<T: Send + 'static>(
    netns: &str,
    act: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let file = File::open(format!("/run/netns/{netns}")).unwrap();
    thread::spawn(move || {
        // SAFETY: concerns this thread only.
        let entered = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "setns");
        act()
    })
}

/// Rules of [`NODE`] for a [`cluster`].
pub fn rules(pods: &[(&str, Value, &str)], policies: &[Value], services: &[Value]) -> NodeRules {
    compile(&cluster(pods, policies, services), NODE)
}

/// Pods of [`NODE`] as `(name, labels, addresses)`, all of the namespace `x`, and specifications of policies and Services there.
pub fn cluster(pods: &[(&str, Value, &str)], policies: &[Value], services: &[Value]) -> Cluster {
    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }
    let mut cluster = Cluster::default();
    let namespace: k8s_openapi::api::core::v1::Namespace = object(json!({"metadata": {"name": "x"}}));
    cluster.apply(&namespace);
    for (name, labels, address) in pods {
        let pod: k8s_openapi::api::core::v1::Pod = object(json!({
            "metadata": {"name": name, "namespace": "x", "labels": labels, "uid": name},
            "spec": {"nodeName": NODE, "containers": []},
            "status": {"phase": "Running", "podIPs": address.split_whitespace().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()},
        }));
        cluster.apply(&pod);
    }
    for (index, spec) in policies.iter().enumerate() {
        let policy: k8s_openapi::api::networking::v1::NetworkPolicy =
            object(json!({"metadata": {"name": format!("p{index}"), "namespace": "x"}, "spec": spec}));
        cluster.apply(&policy);
    }
    for (index, spec) in services.iter().enumerate() {
        let service: k8s_openapi::api::core::v1::Service =
            object(json!({"metadata": {"name": format!("s{index}"), "namespace": "x"}, "spec": spec}));
        cluster.apply(&service);
    }
    cluster
}

pub fn key(name: &str) -> Key {
    Key::new("x", name)
}
