//! The addresses of a pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// At most one address of each family, as Kubernetes has it. None: it is not known whose they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Addresses {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Takes an address, unless one of its family is there.
    pub fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => drop(self.v4.get_or_insert(address)),
            IpAddr::V6(address) => drop(self.v6.get_or_insert(address)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut all = Self::default();
        addresses.into_iter().for_each(|address| all.add(address));
        all
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        Self::from_iter([address])
    }
}
