//! Taking everything away from a node again.

use std::path::Path;

use crate::datapath::{self, Hooks};
use crate::link::Links;

/// Removes all filters of ours, of whichever agent, the qdiscs that nobody else uses, and all that is pinned.
///
/// # Errors
/// If the kernel refuses to.
pub fn uninstall(pins: &Path) -> Result<(), anyhow::Error> {
    let mut links = Links::open()?;
    for veth in links.veths()? {
        if Hooks::stand_at(veth.ifindex) {
            datapath::detach(veth.ifindex)?;
            if !links.has_filters(veth.ifindex)? {
                datapath::remove_clsact(veth.ifindex)?;
            }
        }
    }
    Ok(datapath::uninstall(pins)?)
}
