//! Closes new pods' veths at once, on the thread that hears of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::datapath::{Hooks, KernelMaps};
use crate::link::watch::News;
use crate::link::{Links, Veth};
use crate::{datapath, link};

/// What the agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A veth was closed until its pod is known.
    Closed(u32),
    /// Interfaces changed.
    Changed,
    /// A veth could not be looked at or closed.
    Failed(&'static str),
}

pub struct Gate {
    links: Links,
    maps: Arc<KernelMaps>,
    hooks: Arc<Hooks>,
    netns_path: PathBuf,
    tell: UnboundedSender<Told>,
    /// Veths that need no look: they were there before, or are closed already.
    seen: BTreeSet<u32>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

impl Gate {
    /// `present`: the veths that are there before the first news; they are the agent's to judge.
    pub fn new(
        links: Links,
        maps: Arc<KernelMaps>,
        hooks: Arc<Hooks>,
        netns_path: PathBuf,
        tell: UnboundedSender<Told>,
        present: impl IntoIterator<Item = u32>,
    ) -> Self {
        Self {
            links,
            maps,
            hooks,
            netns_path,
            tell,
            seen: present.into_iter().collect(),
        }
    }

    pub fn take(&mut self, news: News) {
        let told = match news {
            News::Veth(veth) if self.seen.contains(&veth.ifindex) => return,
            News::Veth(veth) => match self.look(&veth) {
                Ok(true) => Told::Closed(veth.ifindex),
                Ok(false) => Told::Changed,
                Err(error) => {
                    tracing::error!(ifindex = veth.ifindex, %error, "a new veth could not be closed; its pod is open until it is known");
                    Told::Failed(match error {
                        Error::Link(_) => "link",
                        Error::Datapath(error) => error.kind(),
                    })
                }
            },
            News::Gone(ifindex) => {
                self.seen.remove(&ifindex);
                Told::Changed
            }
            News::Lost => Told::Changed,
        };
        // The agent is gone only when the process ends.
        self.tell.send(told).unwrap_or_default();
    }

    /// Closes a veth if it is a new pod's.
    fn look(&mut self, veth: &Veth) -> Result<bool, Error> {
        if !self.links.is_kept_in(veth, &self.netns_path)? || self.links.uplinks()?.contains(&veth.ifindex) {
            return Ok(false);
        }
        self.maps.admit(veth.ifindex)?;
        self.hooks.attach(veth.ifindex)?;
        self.seen.insert(veth.ifindex);
        tracing::debug!(
            ifindex = veth.ifindex,
            "a new pod's veth is closed until the pod is known"
        );
        Ok(true)
    }
}
