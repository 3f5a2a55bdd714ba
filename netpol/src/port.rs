//! Protocols, ports and sets of them.

use std::fmt;

/// The transport protocols that a policy's port can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Reads the API's spelling; absent means TCP there.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What a packet asks for at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A destination port of a protocol that has ports.
    Port(Protocol, u16),
    /// ICMP echo and every protocol without ports: allowed only by rules that name no port.
    Portless,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{protocol}/{port}"),
            Self::Portless => f.write_str("portless"),
        }
    }
}

/// A closed interval of ports of one protocol; `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Every port of a protocol, 0 included: a policy without a port number allows whatever a packet carries.
    pub fn whole(protocol: Protocol) -> Self {
        Self {
            protocol,
            first: 0,
            last: u16::MAX,
        }
    }

    pub fn single(protocol: Protocol, port: u16) -> Self {
        Self {
            protocol,
            first: port,
            last: port,
        }
    }

    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

/// A set of transports in canonical form: equal sets are `==`, whatever they were built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSet {
    /// Every protocol, also those without ports.
    All,
    /// These ranges: sorted, disjoint and not adjacent. No portless protocol.
    Ranges(Vec<PortRange>),
}

impl Default for PortSet {
    fn default() -> Self {
        Self::empty()
    }
}

impl PortSet {
    pub const fn empty() -> Self {
        Self::Ranges(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Ranges(ranges) if ranges.is_empty())
    }

    pub fn contains(&self, transport: Transport) -> bool {
        match (self, transport) {
            (Self::All, _) => true,
            (Self::Ranges(_), Transport::Portless) => false,
            (Self::Ranges(ranges), Transport::Port(protocol, port)) => {
                ranges.iter().any(|range| range.contains(protocol, port))
            }
        }
    }

    /// The union of both sets.
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Ranges(a), Self::Ranges(b)) => a.iter().chain(b).copied().collect(),
        }
    }

    /// What is in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let (a, b) = match (self, other) {
            (Self::All, set) | (set, Self::All) => return set.clone(),
            (Self::Ranges(a), Self::Ranges(b)) => (a, b),
        };
        let (mut i, mut j) = (0, 0);
        let mut common = Vec::new();
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            if x.protocol == y.protocol && x.first.max(y.first) <= x.last.min(y.last) {
                common.push(PortRange {
                    protocol: x.protocol,
                    first: x.first.max(y.first),
                    last: x.last.min(y.last),
                });
            }
            if (x.protocol, x.last) <= (y.protocol, y.last) {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self::Ranges(common)
    }

    /// The ranges, none for [`PortSet::All`].
    pub fn ranges(&self) -> &[PortRange] {
        match self {
            Self::All => &[],
            Self::Ranges(ranges) => ranges,
        }
    }
}

impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut sorted: Vec<PortRange> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last)
                    if last.protocol == range.protocol && range.first <= last.last.saturating_add(1) =>
                {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self::Ranges(merged)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Ranges(ranges) if ranges.is_empty() => f.write_str("nothing"),
            Self::Ranges(ranges) => {
                for (index, range) in ranges.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{range}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            first,
            last,
        } = self;
        if first == last {
            write!(f, "{protocol}/{first}")
        } else {
            write!(f, "{protocol}/{first}-{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(first: u16, last: u16) -> PortRange {
        PortRange {
            protocol: Protocol::Tcp,
            first,
            last,
        }
    }

    #[test]
    fn equal_sets_are_equal_whatever_they_were_built_from() {
        let one = PortSet::from_iter([tcp(80, 90)]);
        assert_eq!(PortSet::from_iter([tcp(85, 90), tcp(80, 84)]), one);
        assert_eq!(PortSet::from_iter([tcp(80, 90), tcp(82, 83)]), one);
        assert_ne!(PortSet::from_iter([tcp(80, 83), tcp(85, 90)]), one);
    }

    #[test]
    fn the_last_port_does_not_wrap() {
        let set = PortSet::from_iter([tcp(65535, 65535), tcp(0, 0)]);
        assert_eq!(set.ranges(), [tcp(0, 0), tcp(65535, 65535)]);
    }

    #[test]
    fn only_the_set_of_everything_holds_portless_protocols() {
        assert!(PortSet::All.contains(Transport::Portless));
        let all_ports: PortSet = Protocol::ALL.map(PortRange::whole).into_iter().collect();
        assert!(!all_ports.contains(Transport::Portless));
        assert!(all_ports.contains(Transport::Port(Protocol::Sctp, 0)));
    }

    #[test]
    fn protocols_are_separate() {
        let set = PortSet::from_iter([tcp(53, 53)]);
        assert!(set.contains(Transport::Port(Protocol::Tcp, 53)));
        assert!(!set.contains(Transport::Port(Protocol::Udp, 53)));
    }

    #[test]
    fn an_intersection_holds_what_both_hold() {
        let udp = PortRange::single(Protocol::Udp, 53);
        let a = PortSet::from_iter([tcp(80, 90), tcp(100, 200), udp]);
        let b = PortSet::from_iter([tcp(85, 110), tcp(150, 160), PortRange::whole(Protocol::Udp)]);
        let common = PortSet::from_iter([tcp(85, 90), tcp(100, 110), tcp(150, 160), udp]);
        assert_eq!(a.intersection(&b), common);
        assert_eq!(b.intersection(&a), common);
        assert_eq!(a.intersection(&PortSet::All), a);
        assert_eq!(PortSet::All.intersection(&PortSet::All), PortSet::All);
        assert!(a.intersection(&PortSet::empty()).is_empty());
    }

    #[test]
    fn a_union_with_everything_is_everything() {
        assert_eq!(PortSet::All.union(&PortSet::empty()), PortSet::All);
        assert_eq!(
            PortSet::empty().union(&PortSet::from_iter([tcp(1, 2)])),
            PortSet::from_iter([tcp(1, 2)])
        );
    }
}
