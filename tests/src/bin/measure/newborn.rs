//! Within a node: what gets out of each network namespace from the moment that it is there. It is entered before the pod's first container
//! runs, so this is more than the pod itself could try.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

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

/// What one pod got out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Birth {
    /// The pod's.
    pub address: IpAddr,
    /// Since it had a way out at all.
    pub tries: usize,
    pub connected: usize,
    /// The first try that became a connection, in milliseconds since the way was there.
    pub opened_after: Option<f64>,
    /// Tries after the first 50 ms that did not.
    pub lost_later: usize,
    /// When the container runtime had the address from its CNI plugins, before which it starts no container; milliseconds.
    pub known_after: Option<f64>,
    /// Tries later than 50 ms after that which became no connection.
    pub lost_once_known: usize,
}

/// Prints a line a namespace that appears, until nobody holds the other end of its input.
pub fn watch(to: SocketAddr) -> anyhow::Result<()> {
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
            thread::spawn(move || match born(&path, to) {
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

fn born(path: &Path, to: SocketAddr) -> anyhow::Result<Birth> {
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
    let mut tries: Vec<(Duration, Socket, bool)> = Vec::new();
    let mut began = None;
    let mut next = Instant::now();
    loop {
        let since = began.map_or(Duration::ZERO, |(began, _): (Instant, _)| began.elapsed());
        if since < TRY {
            match connect(to) {
                Ok(socket) => {
                    began.get_or_insert_with(|| (Instant::now(), SystemTime::now()));
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
    let (_, began) = began.context("nothing was tried")?;
    let known = known(address)?.map(|at| at.duration_since(began).unwrap_or_default());
    let lost_since = |from: Duration| {
        let late = tries.iter().filter(|(at, ..)| *at >= from);
        late.filter(|(.., connected)| !*connected).count()
    };
    Ok(Birth {
        address,
        tries: tries.len(),
        connected: tries.iter().filter(|(.., connected)| *connected).count(),
        opened_after: opened.map(|(at, ..)| at.as_secs_f64() * 1e3),
        lost_later: lost_since(GRACE),
        known_after: known.map(|at| at.as_secs_f64() * 1e3),
        lost_once_known: known.map_or(0, |at| lost_since(at + GRACE)),
    })
}

/// When the result with this address was written.
fn known(address: IpAddr) -> anyhow::Result<Option<SystemTime>> {
    let ours = format!("\"{address}/");
    for entry in std::fs::read_dir(RESULTS).context(RESULTS)?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default(); // gone meanwhile
        if text.contains(&ours) {
            return Ok(Some(entry.metadata()?.modified()?));
        }
    }
    Ok(None)
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
