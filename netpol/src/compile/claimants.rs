//! The pods that claim an address: one, but for moments. There are as many of these as pods, so that they are kept tightly.

use super::population::PodId;

#[derive(Debug)]
pub(super) enum Claimants {
    None,
    One(PodId),
    Many(Box<[PodId]>),
}

impl Claimants {
    pub(super) fn pods(&self) -> &[PodId] {
        match self {
            Self::None => &[],
            Self::One(pod) => std::slice::from_ref(pod),
            Self::Many(pods) => pods,
        }
    }

    pub(super) fn are_many(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    pub(super) fn add(&mut self, pod: PodId) {
        let mut pods = self.pods().to_vec();
        if !pods.contains(&pod) {
            pods.push(pod);
        }
        *self = pods.into();
    }

    pub(super) fn remove(&mut self, pod: PodId) {
        let pods = self.pods().iter().filter(|other| **other != pod);
        *self = pods.copied().collect::<Vec<_>>().into();
    }
}

impl From<Vec<PodId>> for Claimants {
    fn from(pods: Vec<PodId>) -> Self {
        match pods[..] {
            [] => Self::None,
            [pod] => Self::One(pod),
            _ => Self::Many(pods.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_set() {
        let mut claimants = Claimants::None;
        claimants.add(1);
        claimants.add(1);
        assert!(!claimants.are_many() && claimants.pods() == [1]);
        claimants.add(2);
        claimants.remove(3);
        assert!(claimants.are_many() && claimants.pods() == [1, 2]);
        claimants.remove(1);
        assert!(!claimants.are_many() && claimants.pods() == [2]);
        claimants.remove(2);
        assert!(claimants.pods().is_empty());
    }
}
