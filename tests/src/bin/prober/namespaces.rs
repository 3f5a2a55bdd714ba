//! The pods' network namespaces, by address.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};

/// Where container runtimes keep them.
const FOLDER: &str = "/var/run/netns";

/// What was found so far. A pod's namespace can go at any time, and its address come back with another.
#[derive(Default)]
pub struct Namespaces {
    known: BTreeMap<IpAddr, (PathBuf, Arc<File>)>,
}

impl Namespaces {
    /// The namespace that has this address now.
    ///
    /// # Errors
    /// If none has.
    pub fn of(&mut self, address: IpAddr) -> anyhow::Result<Arc<File>> {
        if let Some((path, file)) = self.known.get(&address)
            && path.exists()
        {
            return Ok(Arc::clone(file));
        }
        self.scan()?;
        let (_, file) = self
            .known
            .get(&address)
            .with_context(|| format!("no pod of this node has the address {address}"))?;
        Ok(Arc::clone(file))
    }

    fn scan(&mut self) -> anyhow::Result<()> {
        self.known.clear();
        for entry in std::fs::read_dir(FOLDER)? {
            let path = entry?.path();
            // One that goes meanwhile is nobody's.
            let Ok((file, addresses)) = open(&path) else {
                continue;
            };
            for address in addresses {
                self.known.insert(address, (path.clone(), Arc::clone(&file)));
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> anyhow::Result<(Arc<File>, Vec<IpAddr>)> {
    let file = Arc::new(File::open(path)?);
    let addresses = within(&file, || {
        let all = getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        Ok(all.filter(|address| !address.is_loopback()).collect())
    })?;
    Ok((file, addresses))
}

/// Runs something in a thread of its own that has entered a namespace: sockets stay in the one that they were made in.
///
/// # Errors
/// If it cannot be entered, or what was run fails.
pub fn within<T: Send + 'static>(
    namespace: &Arc<File>,
    run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let namespace = Arc::clone(namespace);
    let thread = thread::spawn(move || {
        setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
        run()
    });
    thread.join().map_err(|_| anyhow!("the thread panicked"))?
}
