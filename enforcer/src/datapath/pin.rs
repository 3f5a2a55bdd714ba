//! Where state is kept in the BPF file system, beyond the agent's life.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Grows with every change of a map's type, key, value or meaning: an agent never reads what it could misunderstand.
const LAYOUT: &str = "10";
/// The same for the maps that hold flows, in a folder of their own: an agent that has other rules still knows who opened what.
const FLOWS: &str = "flows-1";
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The folder of one layout.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// If `root` is not on a BPF file system.
    pub fn prepare(root: &Path) -> Result<Self, Error> {
        let pins = Self {
            root: root.to_owned(),
        };
        for path in [pins.links(), pins.flows()] {
            fs::create_dir_all(&path).map_err(|source| Error::Pin { path, source })?;
        }
        if !is_bpffs(root) {
            return Err(Error::NotBpffs(root.to_owned()));
        }
        Ok(pins)
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join(LAYOUT)
    }

    /// Where the maps that hold flows are.
    pub fn flows(&self) -> PathBuf {
        self.root.join(FLOWS)
    }

    pub fn links(&self) -> PathBuf {
        self.maps().join("links")
    }

    /// Whether an agent was here before, and left its maps, of whichever layout.
    pub fn are_there(&self) -> bool {
        let folders = fs::read_dir(&self.root).into_iter().flatten().flatten();
        folders
            .map(|folder| folder.path().join("ep"))
            .any(|ep| ep.exists())
    }

    /// The hooks at which no netfilter program of this layout is any more.
    pub fn links_gone(&self) -> Vec<&'static str> {
        let pinned = fs::read_dir(self.links()).into_iter().flatten().flatten();
        let pinned: Vec<_> = pinned.map(|entry| entry.file_name()).collect();
        let is_at = |hook: &str| {
            let of_hook = |name: &OsString| name.to_string_lossy().starts_with(hook);
            pinned.iter().any(of_hook)
        };
        let hooks = super::hook::NETFILTER_HOOKS.map(|(name, ..)| name);
        hooks.into_iter().filter(|hook| !is_at(hook)).collect()
    }

    /// Removes what other layouts left, once this one is in force.
    pub fn sweep(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.root).map_err(|source| Error::Pin {
            path: self.root.clone(),
            source,
        })?;
        for entry in entries
            .flatten()
            .filter(|entry| ![LAYOUT, FLOWS].map(OsStr::new).contains(&&*entry.file_name()))
        {
            tracing::info!(path = %entry.path().display(), "removing the state of another version of the agent");
            fs::remove_dir_all(entry.path()).map_err(|source| Error::Pin {
                path: entry.path(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Removes all pins, and with the last reference the maps and the netfilter programs.
///
/// # Errors
/// If a pin cannot be removed.
pub fn uninstall(root: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(root) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Pin {
            path: root.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a nul, and `statfs` fills the structure if it returns 0, which is checked before it is read.
    unsafe {
        libc::statfs(path.as_ptr(), stat.as_mut_ptr()) == 0 && stat.assume_init().f_type == BPF_FS_MAGIC
    }
}
