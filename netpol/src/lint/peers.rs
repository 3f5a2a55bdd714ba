//! The peers of a policy, each with its place in the object.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use crate::policy::{Direction, Policy};
use crate::selector::{Condition, Selector};

/// A peer that selects by labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PeerAt {
    pub direction: Direction,
    /// The index of its rule, and its own among the peers of that.
    pub rule: usize,
    pub at: usize,
    /// As `spec.ingress[0].from[1]`.
    pub field: String,
    /// `None`: the policy's own namespace.
    pub namespaces: Option<Selector>,
    pub pods: Option<Selector>,
    /// Whether its rule has no other peer, so that without it the rule allows nobody.
    pub alone: bool,
    /// Whether its rule is for DNS: it names port 53.
    pub dns: bool,
}

impl PeerAt {
    /// The list with just this peer, as it would stand in the object.
    pub fn yaml(namespaces: Option<&Selector>, pods: Option<&Selector>) -> Value {
        let mut peer = Map::new();
        if let Some(selector) = namespaces {
            peer.insert("namespaceSelector".to_owned(), written(selector));
        }
        if let Some(selector) = pods {
            peer.insert("podSelector".to_owned(), written(selector));
        }
        json!([peer])
    }

    /// What it means for the rule that this peer matches nothing.
    pub fn consequence(&self) -> String {
        let effect = match (self.direction, self.alone) {
            (_, false) => "this peer adds nobody to its rule",
            (Direction::Ingress, true) => "its rule lets nobody in",
            (Direction::Egress, true) => "its rule lets nothing out",
        };
        let dns = if self.dns && self.alone && self.direction == Direction::Egress {
            ", and names cannot be resolved through it (DNS stays cut)"
        } else {
            ""
        };
        format!("{effect}{dns}")
    }
}

/// A peer as it stands in the object.
pub(super) fn in_object<'a>(object: &'a NetworkPolicy, peer: &PeerAt) -> Option<&'a NetworkPolicyPeer> {
    let spec = object.spec.as_ref()?;
    let peers = match peer.direction {
        Direction::Ingress => spec.ingress.as_ref()?.get(peer.rule)?.from.as_ref(),
        Direction::Egress => spec.egress.as_ref()?.get(peer.rule)?.to.as_ref(),
    };
    peers?.get(peer.at)
}

/// The peers of the directions for which the policy isolates; rules of others have no effect at all.
pub(super) fn collect(object: &NetworkPolicy, policy: &Policy) -> Vec<PeerAt> {
    let Some(spec) = &object.spec else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if policy.ingress.is_some() {
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let ports = rule.ports.as_deref();
            rule_peers(Direction::Ingress, index, rule.from.as_deref(), ports, &mut found);
        }
    }
    if policy.egress.is_some() {
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let ports = rule.ports.as_deref();
            rule_peers(Direction::Egress, index, rule.to.as_deref(), ports, &mut found);
        }
    }
    found
}

fn rule_peers(
    direction: Direction,
    index: usize,
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
    found: &mut Vec<PeerAt>,
) {
    let peers = peers.unwrap_or_default();
    for (at, peer) in peers.iter().enumerate() {
        let parse = |selector: &Option<_>| selector.as_ref().map(Selector::parse).transpose();
        let (Ok(namespaces), Ok(pods)) = (parse(&peer.namespace_selector), parse(&peer.pod_selector)) else {
            continue; // another rule's finding
        };
        if peer.ip_block.is_some() || (namespaces.is_none() && pods.is_none()) {
            continue;
        }
        found.push(PeerAt {
            direction,
            rule: index,
            at,
            field: format!(
                "spec.{}[{index}].{}[{at}]",
                direction.field(),
                direction.peers_field()
            ),
            namespaces,
            pods,
            alone: peers.len() == 1,
            dns: is_dns(ports),
        });
    }
}

/// Whether a rule names ports, and only those of DNS.
pub(super) fn is_dns(ports: Option<&[NetworkPolicyPort]>) -> bool {
    let ports = ports.unwrap_or_default();
    let dns = |port: &NetworkPolicyPort| match &port.port {
        Some(IntOrString::Int(number)) => *number == 53 && port.end_port.is_none_or(|end| end == 53),
        Some(IntOrString::String(name)) => matches!(name.as_str(), "dns" | "dns-tcp" | "domain"),
        None => false,
    };
    !ports.is_empty() && ports.iter().all(dns)
}

/// A selector as it would stand in the object.
pub(super) fn written(selector: &Selector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for requirement in selector.requirements() {
        let key = &requirement.key;
        let expression = match &requirement.condition {
            Condition::In(values) => match values.first() {
                Some(value) if values.len() == 1 && !labels.contains_key(key) => {
                    labels.insert(key.clone(), json!(value));
                    continue;
                }
                _ => json!({"key": key, "operator": "In", "values": values}),
            },
            Condition::NotIn(values) => json!({"key": key, "operator": "NotIn", "values": values}),
            Condition::Exists => json!({"key": key, "operator": "Exists"}),
            Condition::DoesNotExist => json!({"key": key, "operator": "DoesNotExist"}),
        };
        expressions.push(expression);
    }
    let mut written = Map::new();
    if !labels.is_empty() {
        written.insert("matchLabels".to_owned(), Value::Object(labels));
    }
    if !expressions.is_empty() {
        written.insert("matchExpressions".to_owned(), Value::Array(expressions));
    }
    Value::Object(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_written_and_read_again_is_the_same() {
        for yaml in [
            "{}",
            "{matchLabels: {a: b, c: d}}",
            "{matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: a, operator: In, values: [c]}]}",
            "{matchExpressions: [{key: a, operator: In, values: [b]}, {key: a, operator: In, values: [c]}]}",
            "{matchExpressions: [{key: a, operator: Exists}, {key: b, operator: DoesNotExist}, {key: c, operator: NotIn, values: [d]}]}",
        ] {
            let selector = Selector::parse(&serde_yaml_ng::from_str(yaml).unwrap()).unwrap();
            let again = serde_json::from_value(written(&selector)).unwrap();
            assert_eq!(Selector::parse(&again), Ok(selector), "{yaml}");
        }
    }
}
