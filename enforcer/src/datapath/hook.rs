//! Where the programs stand.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use libbpf_rs::{
    ErrorKind, NF_INET_FORWARD, NF_INET_LOCAL_IN, NFPROTO_IPV4, NFPROTO_IPV6, NetfilterOpts, ProgramMut,
    TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook, libbpf_sys,
};

use super::{Error, Pins};
use crate::skeleton::types;

/// First at the hook. The programs have no opinion on what they let pass, so whoever comes later still decides; a program before
/// them that ends the walk would take enforcement away.
const PRIORITY: u32 = 1;
/// Tells our filters from others at the same priority.
const HANDLE: u32 = 0x7266_0001;
/// Netfilter programs of one hook need different priorities, so an agent's takes the first that is free: others have those of
/// agents before, also of one with another layout of the maps, which stays until this one's rules are in force.
const NETFILTER: std::ops::Range<i32> = -17..-9;

/// Where netfilter programs stand: the name of the pin, the family, the hook.
pub(super) const NETFILTER_HOOKS: [(&str, i32, i32); 4] = [
    ("forward4", NFPROTO_IPV4, NF_INET_FORWARD),
    ("input4", NFPROTO_IPV4, NF_INET_LOCAL_IN),
    ("forward6", NFPROTO_IPV6, NF_INET_FORWARD),
    ("input6", NFPROTO_IPV6, NF_INET_LOCAL_IN),
];

/// The programs of a pod's veth.
pub struct Hooks {
    pub(super) from_pod: OwnedFd,
    pub(super) to_pod: OwnedFd,
    pub(super) send: OwnedFd,
}

impl Hooks {
    /// Puts both filters at an interface, in place of those of an agent before, if it had any.
    pub fn attach(&self, ifindex: u32) -> Result<(), Error> {
        let fail = |source| Error::Attach { ifindex, source };
        clsact(ifindex).create().map_err(fail)?;
        for mut hook in self.filters(ifindex) {
            hook.replace(true).attach().map_err(fail)?;
        }
        Ok(())
    }

    /// Whether both filters are where they were put, and are these programs.
    pub fn are_attached(&self, ifindex: u32) -> bool {
        let loaded = self.programs().map(program_id);
        self.filters(ifindex)
            .iter_mut()
            .zip(loaded)
            .all(|(hook, loaded)| loaded.is_some() && hook.query().ok() == loaded)
    }

    /// Whether a filter of ours is at an interface, of whichever agent.
    pub fn stand_at(ifindex: u32) -> bool {
        let stdin = std::io::stdin(); // which program it is is of no account
        [TC_INGRESS, TC_EGRESS]
            .into_iter()
            .any(|point| filter(stdin.as_fd(), ifindex, point).query().is_ok())
    }

    /// The programs for what the pod sends and for what goes to it.
    pub fn programs(&self) -> [BorrowedFd<'_>; 2] {
        [self.from_pod.as_fd(), self.to_pod.as_fd()]
    }

    /// Sends an Ethernet frame out of an interface, as the node's own.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> Result<(), Error> {
        let mut context = types::__sk_buff {
            ifindex,
            ..types::__sk_buff::default()
        };
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ctx_in: std::ptr::from_mut(&mut context).cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: 1,
            ..libbpf_sys::bpf_test_run_opts::default()
        };
        // SAFETY: the descriptor is a program's; what the options point to outlives the call, and has the sizes that they say.
        let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.send.as_raw_fd(), &mut options) };
        // The program returns what sending it did.
        let failed = [-result, -options.retval.cast_signed()]
            .into_iter()
            .find(|error| *error > 0);
        failed.map_or(Ok(()), |error| {
            let source = io::Error::from_raw_os_error(error).into();
            Err(Error::Send { ifindex, source })
        })
    }

    fn filters(&self, ifindex: u32) -> [TcHook; 2] {
        [
            filter(self.from_pod.as_fd(), ifindex, TC_INGRESS),
            filter(self.to_pod.as_fd(), ifindex, TC_EGRESS),
        ]
    }
}

/// Takes both filters away; it is no error if they or the interface are gone.
pub fn detach(ifindex: u32) -> Result<(), Error> {
    let stdin = std::io::stdin(); // which program it is is of no account
    for point in [TC_INGRESS, TC_EGRESS] {
        match filter(stdin.as_fd(), ifindex, point).detach() {
            Err(source) if source.kind() != ErrorKind::NotFound && !is_no_device(&source) => {
                return Err(Error::Attach { ifindex, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes away the qdisc that filters are at; nobody's may be there any more.
pub fn remove_clsact(ifindex: u32) -> Result<(), Error> {
    match clsact(ifindex).destroy() {
        Err(source) if source.kind() != ErrorKind::NotFound && !is_no_device(&source) => {
            Err(Error::Attach { ifindex, source })
        }
        _ => Ok(()),
    }
}

fn program_id(program: BorrowedFd<'_>) -> Option<u32> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: the descriptor is a program's, and the kernel writes no more than `length` bytes, which are those of `info`.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            std::ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    (result == 0).then_some(info.id)
}

fn filter(program: BorrowedFd<'_>, ifindex: u32, point: TcAttachPoint) -> TcHook {
    let mut hook = TcHook::new(program);
    hook.ifindex(ifindex.cast_signed())
        .attach_point(point)
        .priority(PRIORITY)
        .handle(HANDLE);
    hook
}

fn clsact(ifindex: u32) -> TcHook {
    // The program is of no account for making the qdisc.
    let stdin = std::io::stdin();
    let mut hook = TcHook::new(stdin.as_fd());
    hook.ifindex(ifindex.cast_signed())
        .attach_point(TC_INGRESS | TC_EGRESS);
    hook
}

fn is_no_device(error: &libbpf_rs::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("No such device") || text.contains("os error 22") || text.contains("Invalid argument")
}

/// Puts the program behind the node's translation, and then takes away that of an agent before.
pub fn attach_netfilter(program: &ProgramMut<'_>, pins: &Pins) -> Result<(), Error> {
    for (name, protocol_family, hooknum) in NETFILTER_HOOKS {
        let pin = |priority: i32| pins.links().join(format!("{name}-{}", priority.unsigned_abs()));
        let stale: Vec<PathBuf> = NETFILTER.map(pin).filter(|path| path.exists()).collect();
        let mut busy = None;
        let fresh = NETFILTER.rev().find_map(|priority| {
            let options = NetfilterOpts {
                protocol_family,
                hooknum,
                priority,
                ..NetfilterOpts::default()
            };
            match program.attach_netfilter_with_opts(options) {
                Ok(link) => Some((link, pin(priority))),
                Err(error) => {
                    busy = Some(error);
                    None
                }
            }
        });
        match (fresh, busy) {
            (Some((mut link, path)), _) => link.pin(&path).map_err(Error::Netfilter)?,
            (None, Some(error)) => return Err(Error::Netfilter(error)),
            (None, None) => {}
        }
        stale.iter().try_for_each(|path| remove(path))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| Error::Pin {
        path: path.to_owned(),
        source,
    })
}
