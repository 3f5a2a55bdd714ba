//! Network namespaces with a veth to the node each, as a CNI plugin makes them for pods.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// Gives this process a file system for maps and a folder for namespaces that are no other's, and that go with it.
pub fn move_out() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    for command in [
        "mount --make-rprivate /",
        "mount -t bpf bpf /sys/fs/bpf",
        "mount -t tmpfs run /run",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        ensure!(
            Command::new(words[0]).args(&words[1..]).status()?.success(),
            "{command}"
        );
    }
    std::fs::create_dir_all("/run/netns")?;
    Ok(())
}

/// The namespaces of pods; gone when this is dropped.
pub struct Veths {
    names: Vec<String>,
}

impl Veths {
    /// One for each address.
    pub fn make(addresses: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let mut veths = Self { names: Vec::new() };
        let mut here = String::new();
        for (number, address) in addresses.iter().enumerate() {
            let name = name(*address);
            ip(&["netns", "add", &name], "")?;
            here += &format!(
                "link add crowd{number} type veth peer name eth0 netns {name}\nlink set crowd{number} up\n"
            );
            here += &format!(
                "address add 10.254.255.254/32 dev crowd{number}\nroute add {address}/32 dev crowd{number}\n"
            );
            veths.names.push(name);
        }
        ip(&["-batch", "-"], &here)?;
        for (name, address) in veths.names.iter().zip(addresses) {
            let there = format!(
                "link set lo up\naddress add {address}/32 dev eth0\nlink set eth0 up\n\
                 route add 10.254.255.254 dev eth0 scope link\nroute add default via 10.254.255.254\n"
            );
            ip(&["-n", name, "-batch", "-"], &there)?;
        }
        Ok(veths)
    }
}

impl Drop for Veths {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name], ""); // the folder goes with this process anyway
        }
    }
}

fn name(address: Ipv4Addr) -> String {
    format!("crowd-{address}")
}

/// Runs something in a thread that has entered the namespace of the pod with this address.
pub fn within<T: Send + 'static>(
    address: Ipv4Addr,
    run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let path = format!("/run/netns/{}", name(address));
    let namespace: OwnedFd = File::open(&path).with_context(|| path.clone())?.into();
    let thread = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        run()
    });
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

fn ip(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip").args(arguments).stdin(Stdio::piped()).spawn()?;
    child
        .stdin
        .take()
        .context("ip has no input")?
        .write_all(input.as_bytes())?;
    ensure!(child.wait()?.success(), "ip {}", arguments.join(" "));
    Ok(())
}
