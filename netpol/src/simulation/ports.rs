//! The ports by which two states of a cluster differ.

use std::fmt;

use crate::port::{PortRange, PortSet, Transport};

/// Ports that make a difference.
#[derive(Debug, Clone, PartialEq)]
pub enum Ports {
    These(PortSet),
    /// Everything but these.
    AllBut(PortSet),
}

impl Ports {
    /// What is in one set and not in the other; `None` if that is nothing.
    pub(super) fn beyond(set: &PortSet, other: &PortSet) -> Option<Self> {
        match (set, other) {
            (_, PortSet::All) => None,
            (PortSet::All, other) if other.is_empty() => Some(Self::These(PortSet::All)),
            (PortSet::All, other) => Some(Self::AllBut(other.clone())),
            (PortSet::Ranges(ranges), PortSet::Ranges(others)) => {
                let mut left = Vec::new();
                for range in ranges {
                    let mut rest = Some(*range);
                    // Both are sorted: each of the others cuts something off at the front.
                    for other in others.iter().filter(|other| other.protocol == range.protocol) {
                        let Some(at) = rest.filter(|at| other.first <= at.last && at.first <= other.last)
                        else {
                            continue;
                        };
                        if at.first < other.first {
                            left.push(PortRange {
                                last: other.first - 1,
                                ..at
                            });
                        }
                        rest = (other.last < at.last).then(|| PortRange {
                            first: other.last + 1,
                            ..at
                        });
                    }
                    left.extend(rest);
                }
                (!left.is_empty()).then(|| Self::These(left.into_iter().collect()))
            }
        }
    }
}

impl Ports {
    pub fn contains(&self, transport: Transport) -> bool {
        match self {
            Self::These(ports) => ports.contains(transport),
            Self::AllBut(ports) => !ports.contains(transport),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::These(ports) => ports.fmt(f),
            Self::AllBut(ports) => write!(f, "everything but {ports}"),
        }
    }
}
