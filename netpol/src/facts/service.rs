//! The pods behind a Service, on the ports where they really listen.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::api::baseline::{FactRule, ServiceReference};
use crate::cluster::{Cluster, EndpointPort, Key, Pod, Service, ServicePort, TargetPort};
use crate::port::Protocol;

use super::{Finding, Findings, address_peer, peers, pods_of, ports};

/// Finds what stands behind Services that were named by hand.
pub(super) fn find(cluster: &Cluster, services: &[ServiceReference]) -> Findings {
    let finding = |reference: &ServiceReference| {
        let key = Key::new(reference.namespace.as_str(), reference.name.as_str());
        Finding {
            origin: format!("Service {key}"),
            found: match cluster.services.get(&key) {
                None => Err("there is no such Service".to_owned()),
                Some(service) => rule(cluster, &key, service, |_| true).map(|(rule, _)| rule),
            },
        }
    };
    Findings {
        findings: services.iter().map(finding).collect(),
        ..Findings::default()
    }
}

/// The peers and ports behind those of a Service's ports that are asked for; and the ports as numbers.
pub(super) fn rule(
    cluster: &Cluster,
    key: &Key,
    service: &Service,
    asked: impl Fn(&ServicePort) -> bool,
) -> Result<(FactRule, BTreeSet<(Protocol, u16)>), String> {
    let Some(selector) = service.selector.as_ref() else {
        return by_hand(cluster, key, service, asked);
    };
    let pods: Vec<&Pod> = pods_of(cluster, &key.namespace, selector).collect();
    let mut numbers = BTreeSet::new();
    for port in service.ports.iter().filter(|port| asked(port)) {
        match &port.target {
            TargetPort::Number(number) => {
                numbers.insert((port.protocol, *number));
            }
            TargetPort::Name(name) => {
                let before = numbers.len();
                for pod in &pods {
                    numbers.extend(
                        pod.named_ports(port.protocol, name)
                            .map(|number| (port.protocol, number)),
                    );
                }
                if numbers.len() == before
                    && !pods
                        .iter()
                        .any(|pod| pod.named_ports(port.protocol, name).next().is_some())
                {
                    return Err(match pods.len() {
                        0 => format!(
                            "its target port {name:?} is a name, and none of its pods is there to say the number"
                        ),
                        count => format!(
                            "none of its {count} pods has a {} port named {name:?}",
                            port.protocol
                        ),
                    });
                }
            }
        }
    }
    if numbers.is_empty() {
        return Err("it has no such port".to_owned());
    }
    let rule = FactRule {
        origin: String::new(),
        peers: peers(
            &key.namespace,
            &selector.equalities().collect::<Vec<_>>(),
            pods.into_iter(),
        ),
        ports: ports(&numbers),
    };
    Ok((rule, numbers))
}

/// The endpoints of a Service without a selector, as they were written by hand, on those of its ports that are asked for.
fn by_hand(
    cluster: &Cluster,
    key: &Key,
    service: &Service,
    asked: impl Fn(&ServicePort) -> bool,
) -> Result<(FactRule, BTreeSet<(Protocol, u16)>), String> {
    let asked: Vec<_> = service.ports.iter().filter(|port| asked(port)).collect();
    let meant = |port: &EndpointPort| {
        // As kube-proxy does: by the port's name. Without one, by the number that the Service says.
        let fits = |asked: &&ServicePort| match &port.name {
            None => asked.target == TargetPort::Number(port.number),
            Some(name) => asked.name.as_ref() == Some(name),
        };
        asked
            .iter()
            .any(|asked| asked.protocol == port.protocol && fits(asked))
    };
    let slices = cluster.endpoint_slices.in_namespace(&key.namespace);
    let own: Vec<_> = slices
        .map(|(_, slice)| slice)
        .filter(|slice| slice.service.as_ref() == Some(&key.name))
        .collect();
    let addresses: BTreeSet<IpNet> = own
        .iter()
        .flat_map(|slice| &slice.addresses)
        .map(|ip| IpNet::from(*ip))
        .collect();
    let ports_of_own = own.iter().flat_map(|slice| &slice.ports);
    let numbers: BTreeSet<_> = ports_of_own
        .filter(|port| meant(port))
        .map(|port| (port.protocol, port.number))
        .collect();
    if addresses.is_empty() || numbers.is_empty() {
        return Err("it has no selector, and no endpoints are written for it on such a port".to_owned());
    }
    let rule = FactRule {
        origin: String::new(),
        peers: addresses.into_iter().map(address_peer).collect(),
        ports: ports(&numbers),
    };
    Ok((rule, numbers))
}
