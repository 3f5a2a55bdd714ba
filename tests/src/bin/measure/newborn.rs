//! Within a node: what gets out of each network namespace from the moment that it is there. It is entered before the pod's first container
//! runs, so this is more than the pod itself could try.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

const FOLDER: &str = "/var/run/netns";
/// Where libcni keeps what CNI plugins answered, a file a pod.
const RESULTS: &str = "/var/lib/cni/results";
const EVERY: Duration = Duration::from_millis(1);
/// A connection is tried so long, and waited for so much longer; it is all over before a SYN is sent a second time.
const TRY: Duration = Duration::from_millis(300);
const WAIT: Duration = Duration::from_millis(300);
/// What must not be lost any more.
const GRACE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);

/// When a pod's namespace is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// As soon as there is one, which is before anything of the pod could: what gets out then gets out of an unfinished network, too.
    Birth,
    /// Once the container runtime has what its CNI plugins answered. Before that the network may be unfinished (a pod whose gateway does not
    /// answer ARP yet asks again only after a second), and no container runs.
    Network,
}

/// What one pod got out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Birth {
    /// The pod's.
    pub address: IpAddr,
    /// Since it was tried first.
    pub tries: usize,
    pub connected: usize,
    /// The first try that became a connection, in milliseconds since the first one.
    pub opened_after: Option<f64>,
    /// Tries after the first 50 ms that did not.
    pub lost_later: usize,
}

/// Prints a line a namespace that appears, until nobody holds the other end of its input.
pub fn watch(to: SocketAddr, from: From) -> anyhow::Result<()> {
    thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink()); // however it ends
        std::process::exit(0);
    });
    let mut known: BTreeSet<PathBuf> = list()?;
    println!("watching");
    loop {
        let now = list()?;
        for path in now.difference(&known) {
            let path = path.clone();
            thread::spawn(move || match born(&path, to, from) {
                Ok(birth) => {
                    let mut out = std::io::stdout().lock();
                    let _ = writeln!(out, "{}", serde_json::json!(birth)); // nobody listens any more
                }
                Err(error) => eprintln!("{}: {error:#}", path.display()),
            });
        }
        known = now;
        thread::sleep(EVERY);
    }
}

fn list() -> anyhow::Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(FOLDER).context(FOLDER)?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn born(path: &Path, to: SocketAddr, from: From) -> anyhow::Result<Birth> {
    let appeared = Instant::now();
    // The file is there a moment before it is a namespace.
    while let Err(error) = File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?))
    {
        if appeared.elapsed() > PATIENCE {
            return Err(error);
        }
        thread::sleep(EVERY / 4);
    }
    while from == From::Network && !has_network(path)? {
        anyhow::ensure!(appeared.elapsed() < PATIENCE, "the runtime has no network for it");
        thread::sleep(EVERY);
    }
    let mut tries: Vec<(Duration, Socket, bool)> = Vec::new();
    let mut began = None;
    let mut next = Instant::now();
    loop {
        let since = began.map_or(Duration::ZERO, |began: Instant| began.elapsed());
        if since < TRY {
            match connect(to) {
                Ok(socket) => {
                    began.get_or_insert_with(Instant::now);
                    tries.push((since, socket, false));
                }
                Err(error) => anyhow::ensure!(appeared.elapsed() < PATIENCE, "no way out: {error}"),
            }
        } else if since >= TRY + WAIT {
            break;
        }
        next += EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    for (_, socket, connected) in &mut tries {
        *connected = socket.peer_addr().is_ok();
    }
    let (_, socket, _) = tries.first().context("nothing was tried")?;
    let address = socket.local_addr()?.as_socket().context("an address")?.ip();
    let opened = tries.iter().find(|(.., connected)| *connected);
    let late = tries.iter().filter(|(at, ..)| *at >= GRACE);
    let lost_later = late.filter(|(.., connected)| !*connected).count();
    Ok(Birth {
        address,
        tries: tries.len(),
        connected: tries.iter().filter(|(.., connected)| *connected).count(),
        opened_after: opened.map(|(at, ..)| at.as_secs_f64() * 1e3),
        lost_later,
    })
}

/// Whether the plugins have answered for the pod of this namespace: of the loopback interface they do so before.
fn has_network(netns: &Path) -> anyhow::Result<bool> {
    let sandbox = format!("\"sandbox\":\"{}\"", netns.display());
    for entry in std::fs::read_dir(RESULTS).context(RESULTS)?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default(); // gone meanwhile
        if text.contains(&sandbox) && !text.contains("\"ifName\":\"lo\"") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn connect(to: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket),
    }
}
