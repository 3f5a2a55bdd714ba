//! Two lists of address ranges, cut alike.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringfence_netpol::connections::Range;
use ringfence_netpol::port::PortSet;

/// A range with what is open in the one list and in the other.
type Both = (Range, Option<PortSet>, Option<PortSet>);

/// Each list is cut as its own policies need it; a range that was only cut otherwise is no difference. Here both are cut by both, and what is alike
/// on both sides is one range again.
pub fn together(before: &[(Range, PortSet)], after: &[(Range, PortSet)]) -> Vec<Both> {
    let mut starts: BTreeSet<IpAddr> = BTreeSet::new();
    for (range, _) in before.iter().chain(after) {
        starts.insert(range.first);
        starts.extend(next(range.last));
    }
    let starts: Vec<IpAddr> = starts.into_iter().collect();
    let mut all: Vec<Both> = Vec::new();
    for (index, first) in starts.iter().enumerate() {
        let open = |list: &[(Range, PortSet)]| {
            let held = list
                .iter()
                .find(|(range, _)| (range.first..=range.last).contains(first));
            held.map(|(range, ports)| (range.last, ports.clone()))
        };
        let (before, after) = (open(before), open(after));
        let ends = [&before, &after].into_iter().flatten().map(|(last, _)| *last);
        let following = starts.get(index + 1).and_then(|start| previous(*start));
        // The next cut of the same family, or the end of what holds this one.
        let Some(last) = ends.chain(following.filter(|last| last >= first)).min() else {
            continue;
        };
        let [before, after] = [before, after].map(|open| open.map(|(_, ports)| ports));
        if before.is_none() && after.is_none() {
            continue;
        }
        match all.last_mut() {
            Some((range, b, a)) if (&*b, &*a) == (&before, &after) && next(range.last) == Some(*first) => {
                range.last = last;
            }
            _ => all.push((Range { first: *first, last }, before, after)),
        }
    }
    all
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address
            .to_bits()
            .checked_sub(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address
            .to_bits()
            .checked_sub(1)
            .map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> Range {
        Range {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        }
    }

    #[test]
    fn only_what_differs_is_cut() {
        let all = PortSet::All;
        let whole = range("0.0.0.0", "255.255.255.255");
        let v6 = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let parts = [
            (range("0.0.0.0", "9.255.255.255"), all.clone()),
            (range("11.0.0.0", "255.255.255.255"), all.clone()),
            (v6, all.clone()),
        ];
        let open = Some(all.clone());
        assert_eq!(
            together(&[(whole, all.clone())], &parts),
            [
                (range("0.0.0.0", "9.255.255.255"), open.clone(), open.clone()),
                (range("10.0.0.0", "10.255.255.255"), open.clone(), None),
                (range("11.0.0.0", "255.255.255.255"), open.clone(), open.clone()),
                (v6, None, open.clone()),
            ]
        );
        let halves = [
            (range("0.0.0.0", "127.255.255.255"), all.clone()),
            (range("128.0.0.0", "255.255.255.255"), all.clone()),
        ];
        assert_eq!(together(&[(whole, all)], &halves), [(whole, open.clone(), open)]);
    }
}
