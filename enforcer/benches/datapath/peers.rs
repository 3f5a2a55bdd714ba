//! Policies of one pod, each of which lets in (or out to) one peer.

use std::net::Ipv4Addr;

use ringfence_netpol::compile::NodeRules;
use serde_json::{Value, json};

use crate::harness::rules;

/// Where the pod serves.
pub const PORT: u16 = 80;
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// What a policy names its peer by.
#[derive(Debug, Clone, Copy)]
pub enum By {
    Label,
    Block,
}

/// Far enough apart for a block around each.
const APART: u32 = 16;

/// The peer of a policy.
pub fn peer(number: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(10, 64, 0, 0));
    Ipv4Addr::from(first + u32::try_from(number).unwrap() * APART)
}

/// A block that a peer is alone in, of one of several lengths.
fn block(number: usize) -> String {
    format!("{}/{}", peer(number), 28 + number % 5)
}

/// The pod, and so many policies that each let one peer in. Twice as many pods have an address as are let in.
pub fn each_lets_one_in(policies: usize, by: By) -> NodeRules {
    let names: Vec<(String, String)> = (0..2 * policies)
        .map(|number| (format!("peer-{number}"), peer(number).to_string()))
        .collect();
    let mut pods = vec![("pod", json!({"app": "pod"}), "10.0.0.1")];
    if matches!(by, By::Label) {
        pods.extend(
            names
                .iter()
                .map(|(name, address)| (name.as_str(), json!({"id": name}), address.as_str())),
        );
    }
    let from = |number: usize| -> Value {
        match by {
            By::Label => json!({"podSelector": {"matchLabels": {"id": format!("peer-{number}")}}}),
            By::Block => json!({"ipBlock": {"cidr": block(number)}}),
        }
    };
    let policies: Vec<Value> = (0..policies)
        .map(|number| {
            json!({
                "podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [from(number)], "ports": [{"port": PORT}]}],
            })
        })
        .collect();
    rules(&pods, &policies, &[])
}
