//! NP020: the address of a Service, which no policy ever sees.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::cluster::Key;
use crate::finding::{Mend, Severity};
use crate::lint::peers::PeerAt;
use crate::lint::subject::EXAMINED;
use crate::lint::{Found, Needs, Rule, Subject, Survey};
use crate::policy::{IpBlock, Peer, Peers};
use crate::selector::Selector;

pub(super) const RULE: Rule = Rule {
    code: "NP020",
    name: "service-address",
    finds: "an egress ipBlock for the address of a Service",
    why: "The address of a Service is exchanged for that of a pod behind it before policy looks at the packet. A rule for it opens nothing; the \
          classic is the API server's, 10.96.0.1, behind which are addresses of nodes.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 10.96.0.10/32}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
",
    check,
};

/// The Service whose endpoints the API server writes itself.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Blocks with more addresses are not meant for one Service.
const NARROW: u8 = 8;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(survey) = subject
        .survey
        .filter(|_| subject.policy.defects.is_empty() && !subject.is_generated())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut examined = 0;
    for (index, rule) in subject.policy.egress.iter().flatten().enumerate() {
        let Peers::Of(peers) = &rule.peers else { continue };
        let left = EXAMINED - examined;
        examined += peers.len().min(left);
        for (at, peer) in peers.iter().enumerate().take(left) {
            if let Peer::Block(block) = peer
                && let Some(service) = meant(survey, block)
            {
                found.push(finding(
                    survey,
                    format!("spec.egress[{index}].to[{at}].ipBlock.cidr"),
                    block,
                    service,
                ));
            }
        }
    }
    found
}

/// The Service whose address a narrow block has, if nothing else that is in view is in it.
fn meant<'a>(survey: &'a Survey<'_>, block: &IpBlock) -> Option<&'a Key> {
    if block.cidr.max_prefix_len() - block.cidr.prefix_len() > NARROW {
        return None;
    }
    // A cache on the node takes over the addresses of the DNS: there, they are real.
    let is_cached = |address: IpAddr| {
        let caches = survey.dns().iter().filter(|place| place.node_local);
        caches
            .flat_map(|place| place.ends())
            .any(|end| matches!(end, crate::evaluate::Endpoint::Address(own) if own == address))
    };
    let (first, last) = match block.cidr {
        IpNet::V4(net) => (IpAddr::V4(net.network()), IpAddr::V4(net.broadcast())),
        IpNet::V6(net) => (IpAddr::V6(net.network()), IpAddr::V6(net.broadcast())),
    };
    let is_real = survey.pod_addresses().range(first..=last).next().is_some()
        || survey.node_addresses().range(first..=last).next().is_some();
    let mut services = survey.service_addresses().range(first..=last);
    services
        .find(|(address, _)| block.contains(**address) && !is_real && !is_cached(**address))
        .map(|(_, key)| key)
}

fn finding(survey: &Survey<'_>, field: String, block: &IpBlock, service: &Key) -> Found {
    let selector = survey
        .cluster
        .services
        .get(service)
        .and_then(|service| service.selector.as_ref());
    let mend = match selector {
        Some(selector) => {
            let namespace = Selector::label(crate::cluster::NAMESPACE_NAME, &service.namespace);
            Mend::yaml(
                "select the pods behind it, on the port where they listen",
                PeerAt::yaml(Some(&namespace), Some(selector)),
            )
        }
        None if (service.namespace.as_str(), service.name.as_str()) == API_SERVER
            && !survey.api_server().is_empty() =>
        {
            let places = survey.api_server().iter();
            let rules = places.map(|place| json!({"to": place.rule.peers, "ports": place.rule.ports}));
            Mend::yaml(
                "write the addresses and the port of the API server itself",
                json!({"egress": rules.collect::<Value>()}),
            )
        }
        None => Mend::text("write the addresses of its endpoints: kubectl get endpointslices"),
    };
    Found {
        field,
        message: format!("{} is the address of the Service {service}", block.cidr),
        consequence: "policy sees the address behind it, which this rule does not open".to_owned(),
        mend: Some(mend),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::cluster::{EndpointPort, EndpointSlice, Key};
    use crate::lint::testing::{Live, good, shown};
    use crate::port::Protocol;

    #[test]
    fn services_with_and_without_a_selector_are_found() {
        let live = Live::default().service(
            "default",
            "{metadata: {name: kubernetes}, spec: {clusterIP: 10.96.0.1, ports: [{port: 443, targetPort: 6443}]}}",
        );
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "
            podSelector: {}
            egress:
            - to: [{ipBlock: {cidr: 10.96.0.1/32}}, {ipBlock: {cidr: 10.96.0.10/32}}]
        "
        ));
    }

    #[test]
    fn the_api_server_is_named_by_its_real_address() {
        let mut live = Live::default().service(
            "default",
            "{metadata: {name: kubernetes}, spec: {clusterIP: 10.96.0.1, ports: [{port: 443, targetPort: 6443}]}}",
        );
        let slice = EndpointSlice {
            service: Some("kubernetes".to_owned()),
            addresses: vec![[10, 10, 0, 2].into()],
            ports: vec![EndpointPort {
                name: None,
                protocol: Protocol::Tcp,
                number: 6443,
            }],
        };
        live.0
            .endpoint_slices
            .apply(Key::new("default", "kubernetes"), slice);
        insta::assert_snapshot!(shown(
            &RULE,
            &live,
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.0.1/32}}]}]}"
        ));
    }

    #[test]
    fn wide_blocks_other_addresses_and_caches_are_not_found() {
        for spec in [
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.0.0/12}}]}]}",
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.0.11/32}}]}]}",
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.96.0.10/32}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        let cached = Live::default().pod("kube-system", "node-local-dns", &[("k8s-app", "node-local-dns")]);
        good(
            &RULE,
            &cached,
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.0.10/32}}]}]}",
        );
    }
}
