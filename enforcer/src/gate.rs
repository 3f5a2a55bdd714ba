//! Closes new pods' veths at once, on the thread that hears of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::datapath::{Hooks, KernelMaps};
use crate::link::watch::News;
use crate::link::{Links, One, Veth};
use crate::{datapath, filters, link};

/// What the agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A veth was closed until its pod is known.
    Closed(Veth),
    /// The container runtime has told whose an address is.
    Named,
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
            News::Veth(one) => match self.meet(&one) {
                Some(told) => told,
                None => return,
            },
            News::Gone(ifindex) => {
                self.seen.remove(&ifindex);
                self.maps.look_away(ifindex);
                Told::Changed
            }
            News::Lost => {
                self.catch_up();
                Told::Changed
            }
        };
        // The agent is gone only when the process ends.
        self.tell.send(told).unwrap_or_default();
    }

    /// What to tell of a veth; nothing if it was looked at before.
    fn meet(&mut self, one: &One) -> Option<Told> {
        let ifindex = one.ifindex();
        let veth = match one {
            _ if self.seen.contains(&ifindex) => return None,
            One::Across(veth) => veth,
            One::Within(_) => {
                self.maps.look_at(ifindex);
                return None;
            }
        };
        let closed = self.look(veth).inspect(|_| self.maps.look_at(ifindex));
        Some(match closed {
            Ok(true) => Told::Closed(*veth),
            Ok(false) => Told::Changed,
            Err(error) => {
                tracing::error!(
                    ifindex, %error,
                    "a new veth could not be closed by filters; the node forwards nothing from it until its pod is known, but a bridge does"
                );
                Told::Failed(match error {
                    Error::Link(_) => "link",
                    Error::Datapath(error) => error.kind(),
                })
            }
        })
    }

    /// News were lost: what came meanwhile is looked at now.
    fn catch_up(&mut self) {
        match self.links.all() {
            Ok(all) => {
                for one in all {
                    if !self.maps.is_looked_at(one.ifindex())
                        && let Some(told) = self.meet(&one)
                    {
                        self.tell.send(told).unwrap_or_default();
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "news of interfaces were lost, and the interfaces cannot be listed; veths that are new stay closed")
            }
        }
    }

    /// Closes a veth if it is a new pod's.
    fn look(&mut self, veth: &Veth) -> Result<bool, Error> {
        if !self.links.is_kept_in(veth, &self.netns_path)? || self.links.uplinks()?.contains(&veth.ifindex) {
            return Ok(false);
        }
        self.maps.admit(veth.ifindex)?;
        filters::put(&self.hooks, &mut self.links, veth.ifindex)?;
        self.seen.insert(veth.ifindex);
        tracing::debug!(
            ifindex = veth.ifindex,
            "a new pod's veth is closed until the pod is known"
        );
        Ok(true)
    }
}
