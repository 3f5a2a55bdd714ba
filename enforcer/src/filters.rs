//! Filters at a veth, and what the pod behind it misses while they are put there.

use etherparse::err::packet::BuildWriteError;

use crate::datapath::{self, Hooks};
use crate::link::{self, Links};

/// Puts both filters at a veth that has none. If it is up, the pod is told again what it may not have heard meanwhile: see
/// [`crate::link::presence`]. That this failed costs a new pod a second at worst, and is no failure.
///
/// # Errors
/// If the filters could not be put there.
pub fn put(hooks: &Hooks, links: &mut Links, ifindex: u32) -> Result<(), datapath::Error> {
    hooks.attach(ifindex)?;
    if let Err(error) = announce(hooks, links, ifindex) {
        tracing::debug!(ifindex, %error, "a pod was not told again where its node is; if it just asked, it asks again in a second");
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Frame(#[from] BuildWriteError),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

fn announce(hooks: &Hooks, links: &mut Links, ifindex: u32) -> Result<(), Error> {
    let Some(presence) = links.presence(ifindex)? else {
        return Ok(());
    };
    for frame in presence.announcements()? {
        hooks.send(ifindex, &frame)?;
    }
    Ok(())
}
