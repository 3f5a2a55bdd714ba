//! From the object in this binary to programs and maps in the kernel.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::PrintLevel;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::denials::Denials;
use super::flows;
use super::hook::{self, Hooks};
use super::maps::KernelMaps;
use super::{Error, Pins};
use crate::skeleton::DatapathSkelBuilder;

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Since then there are netfilter programs.
const OLDEST: (u32, u32) = (6, 4);

/// The loaded kernel side.
pub struct Datapath {
    pub maps: KernelMaps,
    pub hooks: Hooks,
    pub denials: Denials,
}

/// Loads the programs, over the pinned maps if there are any, and puts the netfilter program in force. Pods' veths are left as
/// they are.
///
/// # Errors
/// If this kernel cannot run the programs; nothing was changed then.
pub fn load(pins: &Pins) -> Result<Datapath, Error> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, say)));
    let mut storage = MaybeUninit::uninit();
    let mut builder = DatapathSkelBuilder::default();
    builder
        .obj_builder
        .pin_root_path(pins.maps())
        .map_err(Error::Load)?;
    let mut open = builder.open(&mut storage).map_err(Error::Load)?;
    // What is remembered of flows outlives a change of what rules look like.
    for (name, map) in flows::tables_of(&mut open.maps) {
        map.set_pin_path(pins.flows().join(name)).map_err(Error::Load)?;
    }
    let skeleton = open.load().map_err(Error::Load)?;
    let maps = KernelMaps::new(&skeleton.maps)?;
    let denials = Denials::new(&skeleton.maps)?;
    let copy = |program: &libbpf_rs::ProgramMut<'_>| {
        program
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Load(source.into()))
    };
    let hooks = Hooks {
        from_pod: copy(&skeleton.progs.rf_from_pod)?,
        to_pod: copy(&skeleton.progs.rf_to_pod)?,
        send: copy(&skeleton.progs.rf_send)?,
    };
    hook::attach_netfilter(&skeleton.progs.rf_translated, pins)?;
    Ok(Datapath { maps, hooks, denials })
}

/// Says what is wrong with this kernel, before anything is touched.
///
/// # Errors
/// If it lacks BTF or netfilter programs.
pub fn check_kernel() -> Result<(), Error> {
    if !Path::new(BTF).exists() {
        return Err(Error::NoBtf(BTF.into()));
    }
    let release = release();
    match version(&release) {
        Some(version) if version < OLDEST => Err(Error::KernelTooOld(release)),
        _ => Ok(()),
    }
}

fn release() -> String {
    let mut name = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: `uname` fills the structure if it returns 0, which is checked; its fields then end with a nul.
    unsafe {
        if libc::uname(name.as_mut_ptr()) != 0 {
            return String::new();
        }
        CStr::from_ptr(name.assume_init_ref().release.as_ptr())
            .to_string_lossy()
            .into_owned()
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// libbpf warns of much that is no failure (that a qdisc is there already); what is one comes back as an error besides.
fn say(level: PrintLevel, text: String) {
    match level {
        PrintLevel::Warn => tracing::debug!(target: "libbpf", "{}", text.trim_end()),
        _ => tracing::trace!(target: "libbpf", "{}", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("odd"), None);
    }
}
