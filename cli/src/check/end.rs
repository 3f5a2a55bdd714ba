//! Who is meant by a name: a pod, a workload, a Service or an address.

use std::net::IpAddr;

use ringfence_netpol::cluster::{Cluster, Key, Pod, Service, TargetPort};
use ringfence_netpol::evaluate::Endpoint;
use ringfence_netpol::port::Protocol;

use crate::Error;

/// A name, split.
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Explicitly `svc/`.
    service: bool,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str, namespace: &'a str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let (namespace, service, name) = match parts.as_slice() {
            ["svc" | "service", name] => (namespace, true, *name),
            [name] => (namespace, false, *name),
            [namespace, name] => (*namespace, false, *name),
            [namespace, "svc" | "service", name] => (*namespace, true, *name),
            _ => {
                return Err(Error::Usage(format!(
                    "{text:?} is none of NAME, NAMESPACE/NAME, NAMESPACE/svc/NAME and an address"
                )));
            }
        };
        Ok(Self {
            namespace,
            name,
            service,
        })
    }
}

/// Looks at every pod of two families at its address of the family that is asked about, if one of the ends is an address: a connection
/// is of one family. Otherwise at its first.
pub fn look_at_family(cluster: &mut Cluster, ends: [&str; 2]) {
    let Some(asked) = ends.iter().find_map(|end| end.parse::<IpAddr>().ok()) else {
        return;
    };
    let others = |address: &IpAddr| address.is_ipv4() != asked.is_ipv4();
    let first_is_other = |pod: &Pod| pod.addresses.first().is_some_and(others);
    let turned: Vec<(Key, Pod)> = cluster
        .pods
        .iter()
        .filter(|(_, pod)| first_is_other(pod))
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
    for (key, mut pod) in turned {
        pod.addresses.sort_by_key(others);
        cluster.pods.apply(key, pod);
    }
}

pub fn senders<'a>(cluster: &'a Cluster, text: &str, namespace: &str) -> Result<Vec<Endpoint<'a>>, Error> {
    if let Ok(address) = text.parse() {
        return Ok(vec![of_address(cluster, address)]);
    }
    let name = Name::parse(text, namespace)?;
    if name.service {
        return Err(Error::Usage(format!(
            "--from {text}: a Service opens no connections"
        )));
    }
    pods(cluster, &name)
}

/// Who is reached, each at the port that counts there.
pub fn receivers<'a>(
    cluster: &'a Cluster,
    text: &str,
    namespace: &str,
    protocol: Protocol,
    port: &str,
) -> Result<Vec<(Endpoint<'a>, u16)>, Error> {
    let number = || {
        let number = port.parse::<u16>().ok().filter(|port| *port != 0);
        number.ok_or_else(|| Error::Usage(format!("--port {port}: must be between 1 and 65535")))
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        let number = number()?;
        let behind = cluster.services.iter().find(|(_, service)| {
            service.cluster_ips.contains(&address) || service.outer_ips.contains(&address)
        });
        return match behind {
            Some((key, service)) => behind_service(cluster, key, service, protocol, port),
            None => Ok(vec![(of_address(cluster, address), number)]),
        };
    }
    let name = Name::parse(text, namespace)?;
    let key = Key::new(name.namespace, name.name);
    let service = cluster.services.get(&key);
    match (service, pods(cluster, &name)) {
        (Some(service), _) if name.service => behind_service(cluster, &key, service, protocol, port),
        (None, _) if name.service => Err(Error::Usage(format!("there is no Service {key}"))),
        (_, Ok(found)) => {
            let number = number()?;
            Ok(found.into_iter().map(|end| (end, number)).collect())
        }
        (Some(service), Err(_)) => behind_service(cluster, &key, service, protocol, port),
        (None, Err(error)) => Err(error),
    }
}

/// The pod that has an address, or whoever it is.
fn of_address(cluster: &Cluster, address: IpAddr) -> Endpoint<'_> {
    let has = |pod: &Pod| pod.is_governed() && pod.addresses.first() == Some(&address);
    match cluster.pods.iter().find(|(_, pod)| has(pod)) {
        Some((key, pod)) => Endpoint::Pod { key, pod },
        None => Endpoint::Address(address),
    }
}

fn pods<'a>(cluster: &'a Cluster, name: &Name<'_>) -> Result<Vec<Endpoint<'a>>, Error> {
    let in_namespace = || cluster.pods.in_namespace(name.namespace);
    let called = |(key, pod): &(&Key, &Pod)| key.name == name.name || owned_by(pod, name.name);
    let mut found: Vec<(&Key, &Pod)> = in_namespace().filter(|(key, _)| key.name == name.name).collect();
    if found.is_empty() {
        found = in_namespace().filter(called).collect();
    }
    if found.is_empty() {
        let mut known: Vec<String> = in_namespace()
            .map(|(key, pod)| {
                pod.owner
                    .as_ref()
                    .map_or(key.name.clone(), |owner| owner.name.clone())
            })
            .collect();
        known.dedup();
        known.truncate(10);
        let hint = match known.as_slice() {
            [] => format!("namespace {} has no pods", name.namespace),
            _ => format!("in {} there are {}", name.namespace, known.join(", ")),
        };
        return Err(Error::Usage(format!(
            "there is no pod or workload {}/{}; {hint}",
            name.namespace, name.name
        )));
    }
    let ends: Vec<Endpoint<'a>> = found
        .iter()
        .filter_map(|(key, _)| Endpoint::of(cluster, key))
        .collect();
    if ends.is_empty() {
        return Err(Error::Usage(format!(
            "{}/{} is finished, or on the host's network with no address known",
            name.namespace, name.name
        )));
    }
    Ok(ends)
}

fn owned_by(pod: &Pod, name: &str) -> bool {
    pod.owner
        .as_ref()
        .is_some_and(|owner| owner.name == name || owner.to_string() == name)
}

fn behind_service<'a>(
    cluster: &'a Cluster,
    key: &Key,
    service: &Service,
    protocol: Protocol,
    port: &str,
) -> Result<Vec<(Endpoint<'a>, u16)>, Error> {
    let is_meant = |candidate: &&ringfence_netpol::cluster::ServicePort| {
        candidate.protocol == protocol
            && (candidate.name.as_deref() == Some(port) || port.parse() == Ok(candidate.port))
    };
    let Some(meant) = service.ports.iter().find(is_meant) else {
        let known: Vec<String> = service
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.protocol, port.port))
            .collect();
        return Err(Error::Usage(format!(
            "the Service {key} has no port {protocol}/{port}; it has {}",
            known.join(", ")
        )));
    };
    let Some(selector) = &service.selector else {
        return Err(Error::Usage(format!(
            "the Service {key} has no selector, so that its endpoints are not known"
        )));
    };
    let selected = cluster.pods.in_namespace(&key.namespace);
    let selected = selected.filter(|(_, pod)| selector.matches(&pod.labels));
    let targets: Vec<(Endpoint<'a>, u16)> = selected
        .flat_map(|(key, pod)| {
            let numbers: Vec<u16> = match &meant.target {
                TargetPort::Number(number) => vec![*number],
                TargetPort::Name(name) => pod.named_ports(protocol, name).collect(),
            };
            let end = Endpoint::of(cluster, key);
            numbers.into_iter().filter_map(move |number| Some((end?, number)))
        })
        .collect();
    if targets.is_empty() {
        return Err(Error::Usage(format!(
            "no pod is behind the Service {key} at its port {port}"
        )));
    }
    Ok(targets)
}
