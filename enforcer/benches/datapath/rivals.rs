//! The same policies as rules of other firewalls: what a node's netfilter would do in place of this product.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::traffic::{PORT, Policies};

/// Established connections first, as everybody does; then one rule a policy, the one that matches last; then nothing.
pub fn iptables(node: &str, policies: &Policies) {
    let chain = |name: &str, side: &str, peers: &[Ipv4Addr]| -> String {
        let rule = |peer: &Ipv4Addr| format!("-A {name} {side} {peer}/32 -p tcp --dport {PORT} -j ACCEPT\n");
        peers
            .iter()
            .map(rule)
            .chain([format!("-A {name} -j DROP\n")])
            .collect()
    };
    let rules = format!(
        "*filter\n:FORWARD ACCEPT [0:0]\n:from_pod - [0:0]\n:to_pod - [0:0]\n\
         -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
         -A FORWARD -i pod -j from_pod\n-A FORWARD -o pod -j to_pod\n{}{}COMMIT\n",
        chain("from_pod", "-d", &policies.to),
        chain("to_pod", "-s", &policies.from),
    );
    feed(node, &["iptables-legacy-restore"], &rules);
}

pub fn without_iptables(node: &str) {
    feed(
        node,
        &["iptables-legacy-restore"],
        "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n",
    );
}

/// As an author of nftables would: the peers and their port are a set, so it walks no list either.
pub fn nftables(node: &str, policies: &Policies) {
    let set = |name: &str, peers: &[Ipv4Addr]| -> String {
        let elements: Vec<String> = peers.iter().map(|peer| format!("{peer} . {PORT}")).collect();
        format!(
            "set {name} {{ type ipv4_addr . inet_service; elements = {{ {} }} }}\n",
            elements.join(", ")
        )
    };
    let rules = format!(
        "table ip rf {{\n{}{}chain forward {{\n type filter hook forward priority 0;\n ct state established,related accept\n \
         iifname pod ip daddr . tcp dport @to accept\n iifname pod drop\n \
         oifname pod ip saddr . tcp dport @from accept\n oifname pod drop\n}}\n}}\n",
        set("to", &policies.to),
        set("from", &policies.from),
    );
    feed(node, &["nft", "-f", "-"], &rules);
}

/// Only what every node with kube-proxy does anyway: it tracks connections.
pub fn tracking(node: &str) {
    let rules = "table ip rf {\nchain forward {\ntype filter hook forward priority 0;\nct state established accept\n}\n}\n";
    feed(node, &["nft", "-f", "-"], rules);
}

pub fn without_nftables(node: &str) {
    feed(node, &["nft", "-f", "-"], "delete table ip rf");
}

fn feed(node: &str, command: &[&str], input: &str) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", node])
        .args(command)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?} in {node}");
}
