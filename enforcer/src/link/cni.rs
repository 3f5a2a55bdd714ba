//! Whose an address is, before the API says so.
//!
//! The kubelet reports a pod's address some hundred milliseconds after its first container was started. The library with which
//! container runtimes call CNI plugins (libcni) keeps each result in a file as soon as the pod has its interface, with the
//! pod's uid. A file counts for nothing by itself: it only says which of the API's pods has an address.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use ipnet::IpNet;
use ringfence_netpol::cluster::Key;
use serde::Deserialize;

use super::Error;
use crate::seats::Claim;

const UID: &str = "K8S_POD_UID";
const NAMESPACE: &str = "K8S_POD_NAMESPACE";
const NAME: &str = "K8S_POD_NAME";

/// What of a result is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    result: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    ips: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

/// The results that were read, by file.
#[derive(Debug, Default)]
pub struct Results {
    folder: PathBuf,
    files: BTreeMap<OsString, (SystemTime, Vec<Claim>)>,
}

impl Results {
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Reads what is new, and forgets what is gone. A folder that is not there has nothing.
    pub fn refresh(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            self.files.clear();
            return;
        };
        let mut files = BTreeMap::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let known = self.files.remove(&name);
            // One that is being written cannot be read yet, and is read the next time.
            if let Some(file) = known.or_else(|| read(&entry.path())) {
                files.insert(name, file);
            }
        }
        self.files = files;
    }

    /// When it was written that a pod has the address.
    pub fn since(&self, address: &IpAddr) -> Option<SystemTime> {
        let files = self.files.values();
        let of = files.filter(|(_, claims)| claims.iter().any(|claim| claim.address == *address));
        of.map(|(written, _)| *written).max()
    }

    /// The oldest first: what a runtime left behind of a pod that is long gone is older than what it says of the next one.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        let mut files: Vec<_> = self.files.values().collect();
        files.sort_by_key(|(written, _)| *written);
        files.into_iter().flat_map(|(_, claims)| claims)
    }
}

fn read(path: &Path) -> Option<(SystemTime, Vec<Claim>)> {
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
    Some((written, parse(&std::fs::read(path).ok()?)?))
}

fn parse(bytes: &[u8]) -> Option<Vec<Claim>> {
    let cached: Cached = serde_json::from_slice(bytes).ok()?;
    let argument = |name| {
        cached
            .cni_args
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.clone())
    };
    let (uid, name) = (argument(UID)?, Key::new(argument(NAMESPACE)?, argument(NAME)?));
    let addresses = cached
        .result
        .ips
        .iter()
        .filter_map(|ip| match ip.address.parse() {
            Ok(net) if !IpNet::addr(&net).is_loopback() => Some(net.addr()),
            _ => None,
        });
    Some(
        addresses
            .map(|address| Claim {
                address,
                uid: uid.clone(),
                name: name.clone(),
            })
            .collect(),
    )
}

/// Calls `tell` whenever a result was written, from a thread of its own.
pub fn watch(folder: &Path, mut tell: impl FnMut() + Send + 'static) -> Result<(), Error> {
    let fail = |source| Error {
        asking: "watching the results of CNI plugins",
        source,
    };
    let mut events = listen(folder).map_err(fail)?;
    let follow = move || {
        let mut buffer = [0; 4096];
        while events.read(&mut buffer).is_ok() {
            tell();
        }
    };
    thread::Builder::new()
        .name("cni".to_owned())
        .spawn(follow)
        .map(drop)
        .map_err(fail)
}

fn listen(folder: &Path) -> io::Result<File> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: asks for a descriptor, which is checked before it is owned by the file that is made of it.
    let events = unsafe {
        let descriptor = libc::inotify_init1(libc::IN_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    // SAFETY: the descriptor is open, and the path ends with a nul.
    let watched = unsafe {
        libc::inotify_add_watch(
            std::os::fd::AsRawFd::as_raw_fd(&events),
            path.as_ptr(),
            libc::IN_CLOSE_WRITE | libc::IN_MOVED_TO,
        )
    };
    if watched < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_says_which_pod_has_which_address() {
        let file = r#"{"kind": "cniCacheV1",
            "cniArgs": [["K8S_POD_NAMESPACE", "ns"], ["K8S_POD_NAME", "web"], ["K8S_POD_UID", "u1"]],
            "result": {"ips": [{"address": "10.244.1.8/24"}, {"address": "fd00::8/64"}, {"address": "127.0.0.1/8"}]}}"#;
        let claims = ["10.244.1.8", "fd00::8"].map(|address| Claim {
            address: address.parse().unwrap(),
            uid: "u1".to_owned(),
            name: Key::new("ns", "web"),
        });
        assert_eq!(parse(file.as_bytes()), Some(claims.to_vec()));
        assert_eq!(parse(br#"{"cniArgs": [], "result": {}}"#), None);
        assert_eq!(parse(&file.as_bytes()[..50]), None);
    }
}
