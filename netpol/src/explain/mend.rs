//! The smallest change that would allow a connection, as an object to apply.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Explanation, Miss, reach};
use crate::cluster::{Cluster, Key, NAMESPACE_NAME};
use crate::evaluate::Endpoint;
use crate::policy::Direction;
use crate::port::{Protocol, Transport};
use crate::selector::Labels;

/// Labels that controllers make up: a rule that names them is void with the next rollout.
const VOLATILE: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
];

/// Everything that has to be applied for the connection to be allowed: for each side that denies, the nearest rule extended if that opens
/// nothing besides, else a policy of its own. `stored` finds a policy as it was written.
pub fn mends(
    cluster: &Cluster,
    explanation: &Explanation,
    (from, to): (Endpoint<'_>, Endpoint<'_>),
    transport: Transport,
    stored: impl Fn(&Key) -> Option<k8s::NetworkPolicy>,
) -> Vec<k8s::NetworkPolicy> {
    let mut mends: Vec<(Key, k8s::NetworkPolicy)> = Vec::new();
    for side in explanation.denying() {
        let (subject, peer) = match side.direction {
            Direction::Egress => (from, to),
            Direction::Ingress => (to, from),
        };
        let fits = |miss: &&Miss| reach::is_just(cluster, miss, subject, peer, transport);
        let near = side.missed.iter().find(fits).and_then(|miss| {
            // Both sides may be mended in one policy.
            let before = mends.iter().position(|(key, _)| *key == miss.rule.policy);
            let policy = match before {
                Some(at) => Some(mends[at].1.clone()),
                None => stored(&miss.rule.policy),
            };
            let extended = extension(&policy?, miss, peer, transport)?;
            Some((before, miss.rule.policy.clone(), extended))
        });
        match near {
            Some((Some(at), _, policy)) => mends[at].1 = policy,
            Some((None, key, policy)) => mends.push((key, policy)),
            None => {
                let pods = reach::isolated_alike(cluster, side, subject, &stored);
                mends.extend(
                    addition(side.direction, pods, subject, peer, transport).map(|policy| {
                        let key = Key::new(
                            policy.metadata.namespace.clone().unwrap_or_default(),
                            policy.metadata.name.clone().unwrap_or_default(),
                        );
                        (key, policy)
                    }),
                );
            }
        }
    }
    mends.into_iter().map(|(_, policy)| policy).collect()
}

/// The policy with the rule that nearly allowed the connection extended by the peer, or by the port, that it lacks. `None` if more is amiss, or
/// the rule is not there.
fn extension(
    policy: &k8s::NetworkPolicy,
    miss: &Miss,
    peer: Endpoint<'_>,
    transport: Transport,
) -> Option<k8s::NetworkPolicy> {
    if !miss.is_near() {
        return None;
    }
    let mut changed = bare(policy);
    let namespace = miss.rule.policy.namespace.as_str();
    let spec = changed.spec.as_mut()?;
    let (peers, ports) = match miss.rule.direction {
        Direction::Ingress => {
            let rule = spec.ingress.as_mut()?.get_mut(miss.rule.index)?;
            (&mut rule.from, &mut rule.ports)
        }
        Direction::Egress => {
            let rule = spec.egress.as_mut()?.get_mut(miss.rule.index)?;
            (&mut rule.to, &mut rule.ports)
        }
    };
    if miss.port.is_some() {
        ports.as_mut()?.push(port_item(transport)?);
    } else {
        peers.as_mut()?.push(peer_item(namespace, peer));
    }
    Some(changed)
}

/// A policy of its own that allows just this connection, for the pod that it is denied to.
fn addition(
    direction: Direction,
    pods: Option<LabelSelector>,
    subject: Endpoint<'_>,
    peer: Endpoint<'_>,
    transport: Transport,
) -> Option<k8s::NetworkPolicy> {
    let Endpoint::Pod { key, .. } = subject else {
        return None;
    };
    let peers = Some(vec![peer_item(&key.namespace, peer)]);
    let ports = Some(vec![port_item(transport)?]);
    let (policy_type, ingress, egress, preposition) = match direction {
        Direction::Ingress => {
            let rule = k8s::NetworkPolicyIngressRule { from: peers, ports };
            ("Ingress", Some(vec![rule]), None, "from")
        }
        Direction::Egress => {
            let rule = k8s::NetworkPolicyEgressRule { to: peers, ports };
            ("Egress", None, Some(vec![rule]), "to")
        }
    };
    let name = format!("{}-{preposition}-{}", short_name(subject), short_name(peer));
    Some(k8s::NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(object_name(&name)),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(k8s::NetworkPolicySpec {
            pod_selector: pods,
            policy_types: Some(vec![policy_type.to_owned()]),
            ingress,
            egress,
        }),
    })
}

/// The policy without what the API server keeps in its metadata.
fn bare(policy: &k8s::NetworkPolicy) -> k8s::NetworkPolicy {
    let meta = &policy.metadata;
    k8s::NetworkPolicy {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            ..ObjectMeta::default()
        },
        spec: policy.spec.clone(),
    }
}

fn port_item(transport: Transport) -> Option<k8s::NetworkPolicyPort> {
    let Transport::Port(protocol, number) = transport else {
        return None;
    };
    Some(k8s::NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: (protocol != Protocol::Tcp).then(|| protocol.to_string()),
        end_port: None,
    })
}

fn peer_item(namespace: &str, peer: Endpoint<'_>) -> k8s::NetworkPolicyPeer {
    match peer {
        Endpoint::Address(address) => k8s::NetworkPolicyPeer {
            ip_block: Some(k8s::IPBlock {
                cidr: format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
                except: None,
            }),
            ..k8s::NetworkPolicyPeer::default()
        },
        Endpoint::Pod { key, pod } => k8s::NetworkPolicyPeer {
            ip_block: None,
            namespace_selector: (key.namespace != namespace).then(|| LabelSelector {
                match_labels: Some(BTreeMap::from([(
                    NAMESPACE_NAME.to_owned(),
                    key.namespace.clone(),
                )])),
                match_expressions: None,
            }),
            pod_selector: Some(selector(&pod.labels)),
        },
    }
}

/// The labels of a pod that outlive it.
pub(super) fn stable(labels: &Labels) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| !VOLATILE.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

pub(super) fn selector(labels: &Labels) -> LabelSelector {
    let stable = stable(labels);
    LabelSelector {
        match_labels: (!stable.is_empty()).then_some(stable),
        match_expressions: None,
    }
}

fn short_name(end: Endpoint<'_>) -> String {
    match end {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Pod { key, pod } => match &pod.owner {
            Some(owner) => owner.name.clone(),
            None => key.name.clone(),
        },
    }
}

/// A name that the API server takes.
fn object_name(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(253)
        .collect();
    clean.trim_matches('-').to_owned()
}
