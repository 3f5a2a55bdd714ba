//! NP009: an address of an ipBlock that is written so that readers may differ about it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::finding::{Fix, Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject, TOLD};
use crate::policy::Direction;

pub(super) const RULE: Rule = Rule {
    code: "NP009",
    name: "odd-block",
    finds: "an ipBlock with bits beyond its prefix, leading zeros, or an IPv4 address in an IPv6 one",
    why: "Newer API servers refuse such a block; older ones store it, and then each reader decides what it means: 10.1.2.3/8 is \
          all of 10.0.0.0/8 and not one host, and 010.0.0.0/8 may be 8.0.0.0/8 to one who reads it as octal.",
    severity: Severity::Deny,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
ingress:
- from:
  - ipBlock: {cidr: 10.1.2.3/8}
",
    beside: "",
    good: "\
podSelector: {}
ingress:
- from:
  - ipBlock: {cidr: 10.0.0.0/8}
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(spec) = &subject.object.spec else {
        return Vec::new();
    };
    let ingress = spec.ingress.iter().flatten().map(|rule| &rule.from);
    let egress = spec.egress.iter().flatten().map(|rule| &rule.to);
    let ingress = ingress
        .enumerate()
        .map(|(index, peers)| (Direction::Ingress, index, peers));
    let egress = egress
        .enumerate()
        .map(|(index, peers)| (Direction::Egress, index, peers));
    let mut found = Vec::new();
    for (direction, index, peers) in ingress.chain(egress) {
        for (at, peer) in peers.iter().flatten().enumerate() {
            if found.len() > TOLD {
                return found;
            }
            let Some(block) = &peer.ip_block else { continue };
            let field = format!(
                "spec.{}[{index}].{}[{at}].ipBlock",
                direction.field(),
                direction.peers_field()
            );
            if block.cidr.parse::<IpNet>().is_err() {
                continue; // NP001's, and what is excepted from nothing is nobody's
            }
            found.extend(odd(format!("{field}.cidr"), &block.cidr));
            for (at, except) in block.except.iter().flatten().enumerate() {
                found.extend(odd(format!("{field}.except[{at}]"), except));
            }
        }
    }
    found
}

/// What is odd about a block; one that cannot be read at all is NP001's.
fn odd(field: String, text: &str) -> Option<Found> {
    let net: IpNet = text.parse().ok()?;
    let (address, length) = text.split_once('/')?;
    let is_padded = |part: &str| {
        part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    // Groups of IPv6 may have leading zeros.
    let zeros = is_padded(length) || (net.addr().is_ipv4() && address.split('.').any(is_padded));
    let mapped = match net.addr() {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let message = match mapped {
        Some(address) => format!("{text} is the IPv4 address {address} in the form of IPv6"),
        None if zeros => format!("{text} has leading zeros"),
        None if net.addr() != net.network() => format!("{text} has bits beyond its prefix length"),
        None => return None,
    };
    let mend = match mapped {
        Some(address) => Mend::text(format!("write it as IPv4, {address}/…")),
        // What is octal to one reader is decimal to another: nobody can say which was meant.
        None if zeros => Mend::text(format!("write {}, if all of it is meant", net.trunc())),
        None => Mend::text(format!("write {}, if all of it is meant", net.trunc())).sure([Fix::Replace {
            field: field.clone(),
            value: net.trunc().to_string().into(),
        }]),
    };
    Some(Found {
        field,
        message,
        consequence: format!(
            "newer API servers refuse it; where it is stored it means {}",
            net.trunc()
        ),
        mend: Some(mend),
    })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn blocks_that_readers_may_differ_about_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            ingress:
            - from:
              - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.2.3/16]}
              - ipBlock: {cidr: 010.0.0.0/8}
            egress:
            - to:
              - ipBlock: {cidr: '::ffff:10.0.0.0/104'}
        "
        ));
    }

    #[test]
    fn plain_blocks_are_not_found() {
        for cidr in [
            "0.0.0.0/0",
            "10.0.0.0/08x",
            "192.0.2.1/32",
            "::/0",
            "2001:db8::/32",
            "2001:0db8::/32",
        ] {
            good(
                &RULE,
                &Live::default(),
                &format!("{{ingress: [{{from: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]}}"),
            );
        }
    }
}
