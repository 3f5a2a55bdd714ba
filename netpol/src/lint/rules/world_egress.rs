//! NP013: a way to the world that leads inside too.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::json;

use crate::finding::{Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject, TOLD};
use crate::policy::{IpBlock, Peer, Peers, Port, Ports};
use crate::port::Protocol;

pub(super) const RULE: Rule = Rule {
    code: "NP013",
    name: "world-egress",
    finds: "egress to 0.0.0.0/0 or ::/0 that leaves the private ranges or the cloud's metadata address open",
    why: "Who writes 0.0.0.0/0 means the internet, and opens every address: other pods, the nodes, whatever is in the same network, and \
          169.254.169.254 (fd00:ec2::254), where a cloud hands out the node's credentials to whoever asks.",
    severity: Severity::Warn,
    needs: Needs::Nothing,
    bad: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - ipBlock:
      cidr: 0.0.0.0/0
      except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
  ports:
  - port: 443
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - ipBlock:
      cidr: 0.0.0.0/0
      except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16]
  ports:
  - port: 443
",
    check,
};

/// What is inside, of one family.
struct Inside {
    metadata: &'static str,
    private: &'static [&'static str],
    /// What to except: the private ranges, and the link-local one or the metadata address.
    except: &'static [&'static str],
}

const IPV4: Inside = Inside {
    metadata: "169.254.169.254",
    private: &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    except: &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"],
};
const IPV6: Inside = Inside {
    metadata: "fd00:ec2::254",
    private: &["fc00::/7"],
    except: &["fc00::/7", "fe80::/10"],
};
/// The ports on which metadata is asked for, or a proxy to it.
const METADATA_PORTS: [u16; 2] = [80, 443];

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    if !subject.policy.defects.is_empty() {
        return Vec::new(); // indices may differ, and the policy is refused
    }
    let mut found = Vec::new();
    for (index, rule) in subject.policy.egress.iter().flatten().enumerate() {
        let Peers::Of(peers) = &rule.peers else { continue };
        // Asked once for all peers: of one that is there ten thousand times, each would look at all others.
        let [ipv4, ipv6] = [&IPV4, &IPV6].map(|inside| {
            let metadata = inside.metadata.parse::<IpAddr>();
            metadata.is_ok_and(|address| peers.iter().any(|peer| is_meant(peer, address)))
        });
        for (at, peer) in peers.iter().enumerate() {
            if found.len() > TOLD {
                return found;
            }
            if let Peer::Block(block) = peer
                && block.cidr.prefix_len() == 0
            {
                let field = format!("spec.egress[{index}].to[{at}].ipBlock");
                found.extend(match block.cidr {
                    IpNet::V4(_) => judge(field, block, &rule.ports, &IPV4, ipv4),
                    IpNet::V6(_) => judge(field, block, &rule.ports, &IPV6, ipv6),
                });
            }
        }
    }
    found
}

/// Whether a peer of its own names an address: then it is meant.
fn is_meant(peer: &Peer, address: IpAddr) -> bool {
    matches!(peer, Peer::Block(block) if block.cidr.prefix_len() > 0 && block.contains(address))
}

fn judge(field: String, block: &IpBlock, ports: &Ports, inside: &Inside, is_meant: bool) -> Option<Found> {
    let metadata = inside
        .metadata
        .parse()
        .is_ok_and(|address: IpAddr| block.contains(address) && !is_meant);
    let opens_metadata = metadata && asks_metadata(ports);
    // Who excepts one range knows the network, and which of the others are in use.
    let opens_private = !inside.private.iter().any(|range| excepts_part_of(block, range));
    let (message, consequence) = match (opens_private, opens_metadata) {
        (false, false) => return None,
        (true, false) => (
            "leaves the private ranges open".to_owned(),
            "the selected pods may connect to other pods, to nodes and to the whole network around the cluster".to_owned(),
        ),
        (true, true) => (
            format!("leaves the private ranges and {} open", inside.metadata),
            "the selected pods may connect to other pods, to nodes, to the whole network around the cluster, and to the cloud's metadata, \
             which may hand out the node's credentials"
                .to_owned(),
        ),
        (false, true) => (
            format!("leaves {} open, the cloud's metadata address", inside.metadata),
            "the selected pods may ask the cloud for what the node may know, its credentials among it".to_owned(),
        ),
    };
    let mut except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
    for range in inside.except {
        let is_new = range
            .parse()
            .is_ok_and(|net: IpNet| !block.except.iter().any(|there| there.contains(&net)));
        if is_new && (opens_private || !inside.private.contains(range)) {
            except.push((*range).to_owned());
        }
    }
    Some(Found {
        field: format!(
            "{field}.{}",
            if block.except.is_empty() { "cidr" } else { "except" }
        ),
        message: format!("{} {message}", block.cidr),
        consequence,
        mend: Some(Mend::yaml(
            "take out what is inside; what of it is needed gets a rule of its own, DNS first",
            json!({"ipBlock": {"cidr": block.cidr.to_string(), "except": except}}),
        )),
    })
}

fn asks_metadata(ports: &Ports) -> bool {
    match ports {
        Ports::Any => true,
        Ports::Of(ports) => ports.iter().any(|port| match port {
            Port::Range(range) => METADATA_PORTS
                .iter()
                .any(|port| range.contains(Protocol::Tcp, *port)),
            Port::Named(..) => false,
        }),
    }
}

fn excepts_part_of(block: &IpBlock, range: &str) -> bool {
    let Ok(range) = range.parse::<IpNet>() else {
        return false;
    };
    block
        .except
        .iter()
        .any(|except| except.contains(&range) || range.contains(except))
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn what_is_left_open_is_told_with_what_to_except() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {}
            policyTypes: [Egress]
            egress:
            - to: [{ipBlock: {cidr: 0.0.0.0/0}}]
            - to: [{ipBlock: {cidr: 0.0.0.0/0}}]
              ports: [{port: 5432}]
            - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]
              ports: [{port: 443}]
            - to: [{ipBlock: {cidr: '::/0'}}]
        "
        ));
    }

    #[test]
    fn blocks_that_leave_the_inside_out_are_not_found() {
        for spec in [
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 169.254.169.254/32]}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 169.254.0.0/16]}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], ports: [{port: 25}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: '::/0', except: ['fd00::/8']}}]}]}",
            // says itself that it means it
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: 169.254.169.254/32}}]}]}",
            "{egress: [{to: [{ipBlock: {cidr: 169.254.169.254/32}}]}]}",
            "{ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}",
            "{policyTypes: [Ingress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
    }
}
