//! The policies of a baseline for one namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::baseline::{PolicyTemplate, PolicyType};
use crate::cluster::Namespace;
use crate::facts::Facts;
use crate::policy::{self, Direction, Policy};

use super::object::{BASELINE, DESCRIPTION, Digest, GENERATION, HASH, MANAGED_BY, MANAGER};
use super::template::{Defect, Rule, Template, fill_peer, fill_selector, parse_text, rules};
use super::variable;

/// A policy as it must be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub policy: NetworkPolicy,
    pub digest: Digest,
    /// It has no rules: whatever it selects is closed.
    pub denies: bool,
}

/// Why a policy cannot be rendered for a namespace.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{field}: {error}")]
    Unset { field: String, error: variable::Unset },
    #[error(transparent)]
    Template(#[from] Defect),
    #[error("{0}")]
    Policy(policy::Defect),
}

/// Peers and ports of a rule; no peers is everyone.
type Pair = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

/// The policies of a baseline for one namespace, by name, each or why it cannot be.
pub fn render(
    template: &Template,
    facts: &Facts,
    name: &str,
    namespace: &Namespace,
) -> Vec<(String, Result<Rendered, Error>)> {
    let render = |policy: &PolicyTemplate| {
        (
            policy.name.clone(),
            render_policy(template, policy, facts, name, namespace),
        )
    };
    template.policies.iter().map(render).collect()
}

fn render_policy(
    template: &Template,
    policy: &PolicyTemplate,
    facts: &Facts,
    name: &str,
    namespace: &Namespace,
) -> Result<Rendered, Error> {
    let mut unset = None;
    let mut fill = |field: String, text: &str| {
        let parsed = parse_text(&field, text)?;
        Ok(parsed.fill(name, namespace).unwrap_or_else(|error| {
            unset.get_or_insert(Error::Unset { field, error });
            String::new()
        }))
    };
    let of_fact = |fact: &str| facts.get(fact).map_or(&[][..], |fact| &fact.rules);
    let spec = fill_spec(policy, &mut fill, |fact, ports| {
        let pair = |rule: &crate::api::baseline::FactRule| {
            (
                rule.peers.clone(),
                ports.map_or_else(|| rule.ports.clone(), <[_]>::to_vec),
            )
        };
        of_fact(fact).iter().map(pair).collect()
    })?;
    if let Some(unset) = unset {
        return Err(unset);
    }
    let mut object = object(template, policy, name, spec);
    if let Some(defect) = Policy::parse(&object).defects.into_iter().next() {
        return Err(Error::Policy(defect));
    }
    let denies = object.spec.as_ref().is_some_and(|spec| {
        spec.ingress.iter().flatten().count() + spec.egress.iter().flatten().count() == 0
    });
    if let (Some(spec), Some(annotations)) = (&object.spec, &mut object.metadata.annotations) {
        annotations.insert(HASH.to_owned(), Digest::of_spec(spec).short());
    }
    Ok(Rendered {
        digest: Digest::of_policy(&object),
        policy: object,
        denies,
    })
}

/// The policy in a namespace where every variable has a value and every fact one rule, to see what is wrong with it in any.
pub(super) fn sample(policy: &PolicyTemplate) -> Result<NetworkPolicy, Vec<Defect>> {
    let mut defects = Vec::new();
    let mut fill = |field: String, text: &str| {
        if let Err(defect) = parse_text(&field, text) {
            defects.push(defect);
        }
        Ok(match (text.contains("${"), field.contains(".ipBlock")) {
            (false, _) => text.to_owned(),
            // The widest, so that whatever is excepted lies inside; the real block is judged where it is filled in.
            (true, true) if field.ends_with(".cidr") => "0.0.0.0/0".to_owned(),
            (true, true) => "192.0.2.0/24".to_owned(),
            (true, false) => "sample".to_owned(),
        })
    };
    let spec = fill_spec(policy, &mut fill, |_, ports| {
        vec![(Vec::new(), ports.map(<[_]>::to_vec).unwrap_or_default())]
    });
    match spec {
        Ok(spec) if defects.is_empty() => Ok(NetworkPolicy {
            spec: Some(spec),
            ..NetworkPolicy::default()
        }),
        Ok(_) => Err(defects),
        Err(defect) => {
            defects.push(defect);
            Err(defects)
        }
    }
}

/// The specification with every value filled in and every fact spread out.
///
/// Every field is there, also those without rules: server-side apply then owns them all, and takes away what somebody else added.
fn fill_spec(
    policy: &PolicyTemplate,
    fill: &mut impl FnMut(String, &str) -> Result<String, Defect>,
    fact: impl Fn(&str, Option<&[NetworkPolicyPort]>) -> Vec<Pair>,
) -> Result<NetworkPolicySpec, Defect> {
    let spec = &policy.spec;
    let pod_selector = fill_selector(&spec.pod_selector, "spec.podSelector", fill)?;
    let mut pairs = |direction: Direction| {
        let mut pairs = Vec::new();
        for (index, rule) in rules(spec, direction).iter().enumerate() {
            let field = format!("spec.{}[{index}]", direction.field());
            pairs.extend(fill_rule(rule, &field, direction, fill, &fact)?);
        }
        Ok(pairs)
    };
    let ingress = |(from, ports)| NetworkPolicyIngressRule {
        from: full(from),
        ports: full(ports),
    };
    let egress = |(to, ports)| NetworkPolicyEgressRule {
        to: full(to),
        ports: full(ports),
    };
    let mut types: Vec<&str> = Vec::new();
    for (kind, name) in [(PolicyType::Ingress, "Ingress"), (PolicyType::Egress, "Egress")] {
        if spec.policy_types.contains(&kind) {
            types.push(name);
        }
    }
    Ok(NetworkPolicySpec {
        pod_selector: Some(pod_selector),
        policy_types: Some(types.into_iter().map(str::to_owned).collect()),
        ingress: Some(pairs(Direction::Ingress)?.into_iter().map(ingress).collect()),
        egress: Some(pairs(Direction::Egress)?.into_iter().map(egress).collect()),
    })
}

fn fill_rule(
    rule: &Rule<'_>,
    field: &str,
    direction: Direction,
    fill: &mut impl FnMut(String, &str) -> Result<String, Defect>,
    fact: &impl Fn(&str, Option<&[NetworkPolicyPort]>) -> Vec<Pair>,
) -> Result<Vec<Pair>, Defect> {
    if let Some(name) = rule.fact {
        return Ok(fact(name, rule.ports));
    }
    let peers_field = direction.peers_field();
    let peers: Vec<_> = rule
        .peers
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, peer)| fill_peer(peer, &format!("{field}.{peers_field}[{index}]"), fill))
        .collect::<Result<_, _>>()?;
    if peers.is_empty() && rule.anyone.is_none() {
        return Ok(Vec::new()); // never everyone by accident
    }
    Ok(vec![(peers, rule.ports.map(<[_]>::to_vec).unwrap_or_default())])
}

fn full<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn object(
    template: &Template,
    policy: &PolicyTemplate,
    namespace: &str,
    spec: NetworkPolicySpec,
) -> NetworkPolicy {
    let baseline = &template.name;
    let about = policy.description.as_deref().map(str::trim).unwrap_or_default();
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("{about}\n")
    };
    let description = format!(
        "{about}Made by Ringfence from the NamespaceBaseline {baseline}. Edits are undone; to allow more, add a NetworkPolicy of \
         your own to this namespace (policies add up). To change it everywhere, ask who owns the baseline."
    );
    let owned = |pairs: &[(&str, &str)]| -> Option<BTreeMap<String, String>> {
        Some(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    };
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(policy.name.clone()),
            namespace: Some(namespace.to_owned()),
            labels: owned(&[(MANAGED_BY, MANAGER), (BASELINE, baseline)]),
            annotations: owned(&[
                (GENERATION, &template.generation.to_string()),
                (DESCRIPTION, &description),
            ]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}

#[cfg(test)]
mod tests;
