//! Where the cluster's DNS really is.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Key, Service, ServicePort};
use crate::port::Protocol;
use crate::selector::Selector;

use super::{Finding, Findings, address_peer, pods_of, ports, service};

/// The port of a DNS Service, as clients ask for it; the pods may listen elsewhere.
const PORT: u16 = 53;
const SYSTEM: &str = "kube-system";
/// CoreDNS and kube-dns carry this label for compatibility, whatever their Service is called.
const APP: (&str, &str) = ("k8s-app", "kube-dns");
/// OpenShift's.
const ELSEWHERE: (&str, &str) = ("openshift-dns", "dns-default");
/// NodeLocal DNSCache: its pods, and the address on which it answers on each node unless told otherwise.
const NODE_LOCAL: (&str, &str) = ("k8s-app", "node-local-dns");
const NODE_LOCAL_ADDRESS: [u8; 4] = [169, 254, 20, 10];

pub(super) fn find(cluster: &Cluster) -> Findings {
    let asked = |port: &ServicePort| port.port == PORT && port.protocol != Protocol::Sctp;
    let named = |key: &Key, service: &Service| {
        key.name == "kube-dns" || service.labels.get(APP.0).is_some_and(|app| app == APP.1)
    };
    let system = cluster
        .services
        .in_namespace(SYSTEM)
        .filter(|(key, service)| named(key, service));
    let elsewhere = cluster
        .services
        .in_namespace(ELSEWHERE.0)
        .filter(|(key, _)| key.name == ELSEWHERE.1);
    let services: Vec<_> = system
        .chain(elsewhere)
        .filter(|(_, service)| service.ports.iter().any(asked))
        .collect();
    let mut found = Findings::default();
    for (key, service) in &services {
        let rule = service::rule(cluster, key, service, asked).map(|(rule, mut numbers)| {
            both_protocols(&mut numbers);
            FactRule {
                ports: ports(&numbers),
                ..rule
            }
        });
        found.findings.push(Finding {
            origin: format!("Service {key}"),
            found: rule,
        });
    }
    found
        .findings
        .extend(node_local(cluster, services.iter().map(|(_, service)| *service)));
    if found.findings.is_empty() {
        found.remarks.push(format!(
            "no Service in {SYSTEM} is named kube-dns or labelled {}={}; name the DNS in spec.facts.dns.services",
            APP.0, APP.1
        ));
    }
    found
}

/// Large answers need TCP, and some resolvers start with it: who listens by one protocol is allowed by both.
fn both_protocols(numbers: &mut BTreeSet<(Protocol, u16)>) {
    for (missing, there) in [(Protocol::Tcp, Protocol::Udp), (Protocol::Udp, Protocol::Tcp)] {
        if !numbers.iter().any(|(protocol, _)| *protocol == missing) {
            let added: Vec<_> = numbers
                .iter()
                .filter(|(protocol, _)| *protocol == there)
                .map(|(_, port)| (missing, *port))
                .collect();
            numbers.extend(added);
        }
    }
}

/// Where NodeLocal DNSCache runs, pods ask it on their own node: on a link-local address, or on the DNS Service's own address,
/// which it takes over.
fn node_local<'a>(cluster: &Cluster, services: impl Iterator<Item = &'a Service>) -> Option<Finding> {
    pods_of(cluster, SYSTEM, &Selector::label(NODE_LOCAL.0, NODE_LOCAL.1)).next()?;
    let taken_over = services.flat_map(|service| service.cluster_ips.iter().copied());
    let addresses: BTreeSet<IpNet> = taken_over
        .chain([NODE_LOCAL_ADDRESS.into()])
        .map(IpNet::from)
        .collect();
    let numbers = BTreeSet::from([(Protocol::Tcp, PORT), (Protocol::Udp, PORT)]);
    Some(Finding {
        origin: format!("NodeLocal DNSCache in {SYSTEM}"),
        found: Ok(FactRule {
            origin: String::new(),
            peers: addresses.into_iter().map(address_peer).collect(),
            ports: ports(&numbers),
        }),
    })
}
