//! The pods behind a Service, on the ports where they really listen.

use std::collections::BTreeSet;

use crate::api::baseline::{FactRule, ServiceReference};
use crate::cluster::{Cluster, Key, Pod, Service, ServicePort, TargetPort};
use crate::port::Protocol;
use crate::selector::{Condition, Selector};

use super::{Finding, Findings, peers, pods_of, ports};

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
    let selector = service
        .selector
        .as_ref()
        .ok_or("it has no selector, so its endpoints are written by hand; pin the fact with rules")?;
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
        peers: peers(&key.namespace, &labels(selector), pods.into_iter()),
        ports: ports(&numbers),
    };
    Ok((rule, numbers))
}

/// A Service's selector knows equality only.
fn labels(selector: &Selector) -> Vec<(String, String)> {
    selector
        .requirements()
        .filter_map(|requirement| match &requirement.condition {
            Condition::In(values) => values
                .first()
                .map(|value| (requirement.key.clone(), value.clone())),
            _ => None,
        })
        .collect()
}
