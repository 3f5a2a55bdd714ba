//! Whether pods are open to addresses at large.

use ipnet::IpNet;

use super::side::Side;
use crate::policy::{IpBlock, Peer, Peers};

/// Whether a side becomes open to addresses at large.
pub(super) fn opens(before: &Side<'_>, after: &Side<'_>) -> bool {
    !is_open(before) && is_open(after)
}

/// Open to anyone, or to half of all addresses of a family or more, in however many blocks.
fn is_open(side: &Side<'_>) -> bool {
    if !side.isolated {
        return true;
    }
    let mut blocks: Vec<&IpBlock> = Vec::new();
    for rule in &side.rules {
        match &rule.peers {
            Peers::Any => return true,
            Peers::Of(peers) => blocks.extend(peers.iter().filter_map(|peer| match peer {
                Peer::Block(block) => Some(block),
                Peer::Pods { .. } => None,
            })),
        }
    }
    covers_half(&blocks, true) || covers_half(&blocks, false)
}

/// Exceptions count as taken away from each block; what another block has of them counts there.
fn covers_half(blocks: &[&IpBlock], ipv4: bool) -> bool {
    let bits = if ipv4 { 32 } else { 128 };
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == ipv4;
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for block in blocks {
        if !of_family(&&block.cidr) {
            continue;
        }
        let mut holes: Vec<(u128, u128)> = block.except.iter().filter(of_family).map(ends).collect();
        holes.sort_unstable();
        let (mut first, last) = ends(&block.cidr);
        let mut exhausted = false;
        for (hole_first, hole_last) in holes {
            if hole_first > first {
                ranges.push((first, hole_first - 1));
            }
            match hole_last.checked_add(1) {
                Some(next) => first = first.max(next),
                None => exhausted = true,
            }
        }
        if !exhausted && first <= last {
            ranges.push((first, last));
        }
    }
    ranges.sort_unstable();
    let half = 1u128 << (bits - 1);
    let mut covered: u128 = 0;
    let mut reached: Option<u128> = None;
    for (first, last) in ranges {
        let first = match reached {
            Some(reached) if first <= reached => match reached.checked_add(1) {
                Some(next) => next,
                None => break,
            },
            _ => first,
        };
        if last < first {
            continue;
        }
        covered = covered.saturating_add((last - first).saturating_add(1));
        reached = Some(last);
    }
    covered >= half
}

fn ends(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (
            u128::from(net.network().to_bits()),
            u128::from(net.broadcast().to_bits()),
        ),
        IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        IpBlock {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn half_of_all_addresses_is_the_world_in_however_many_blocks() {
        let table: [(&[IpBlock], bool); 9] = [
            (&[block("0.0.0.0/0", &[])], true),
            (&[block("0.0.0.0/0", &["10.0.0.0/8", "192.168.0.0/16"])], true),
            (&[block("0.0.0.0/1", &[]), block("128.0.0.0/1", &[])], true),
            (&[block("0.0.0.0/2", &[]), block("64.0.0.0/2", &[])], true),
            (&[block("0.0.0.0/2", &[]), block("0.0.0.0/2", &[])], false),
            (&[block("10.0.0.0/8", &[]), block("203.0.113.0/24", &[])], false),
            (&[block("::/0", &[])], true),
            (&[block("2000::/3", &[])], false),
            (&[block("0.0.0.0/0", &["0.0.0.0/1", "128.0.0.0/2"])], false),
        ];
        for (blocks, expected) in table {
            let blocks: Vec<&IpBlock> = blocks.iter().collect();
            let open = covers_half(&blocks, true) || covers_half(&blocks, false);
            assert_eq!(open, expected, "{blocks:?}");
        }
    }
}
