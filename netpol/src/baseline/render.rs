//! The policies of a baseline for one namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::baseline::{ExistingNamespaces, PolicyTemplate, PolicyType, Retention};
use crate::cluster::{Namespace, TargetPort};
use crate::facts::Facts;
use crate::policy::{self, Direction, Policy};

use super::membership::counts_as_new;
use super::object::{
    BASELINE, Closes, DESCRIPTION, Digest, GENERATION, HASH, KEEP, MANAGED_BY, MANAGER, REMOVE, RETENTION,
    REVISION, Stored, TAKEN_AS_NEW,
};
use super::route::RoutedService;
use super::template::{Defect, Rule, Template, check_block, fill_peer, fill_selector, parse_text, rules};
use super::variable;

/// A policy as it must be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub policy: NetworkPolicy,
    pub digest: Digest,
    pub closes: Closes,
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

/// Where policies are rendered for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub name: &'a str,
    pub namespace: &'a Namespace,
    /// Needed if a template [is routed](Template::is_routed).
    pub routes: &'a [RoutedService],
    /// What is stored there, by name.
    pub stored: &'a Stored<'a>,
}

impl<'a> Place<'a> {
    /// A namespace of which no more is known.
    pub fn of(name: &'a str, namespace: &'a Namespace) -> Self {
        static NOTHING: Stored<'static> = Stored::new();
        Self {
            name,
            namespace,
            routes: &[],
            stored: &NOTHING,
        }
    }
}

/// Peers and ports of a rule; no peers is everyone.
type Pair = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

/// A policy by its name, or why it cannot be.
pub type Named = (String, Result<Rendered, Error>);

/// The policies of a baseline for one namespace: first those that it names itself.
pub fn render(template: &Template, facts: &Facts, place: Place<'_>) -> Vec<Named> {
    let mut rendered = render_plain(template, facts, place);
    rendered.extend(render_routed(template, facts, place));
    rendered
}

/// The policies whose names stand in the template.
pub(super) fn render_plain(template: &Template, facts: &Facts, place: Place<'_>) -> Vec<Named> {
    let render = |policy: &PolicyTemplate| {
        let rendered = render_policy(template, policy, facts, place, None);
        (policy.name.clone(), rendered)
    };
    template.plain().map(render).collect()
}

/// The policies whose names end in that of a Service, which whoever makes the Service chooses.
pub(super) fn render_routed(template: &Template, facts: &Facts, place: Place<'_>) -> Vec<Named> {
    let mut rendered = Vec::new();
    for policy in template.routed() {
        rendered.extend(place.routes.iter().map(|service| {
            let policy = PolicyTemplate {
                name: format!("{}-{}", policy.name, service.name),
                ..policy.clone()
            };
            let result = render_policy(template, &policy, facts, place, Some(service));
            (policy.name, result)
        }));
    }
    rendered
}

fn render_policy(
    template: &Template,
    policy: &PolicyTemplate,
    facts: &Facts,
    place: Place<'_>,
    service: Option<&RoutedService>,
) -> Result<Rendered, Error> {
    let mut unset = None;
    let mut fill = |field: String, text: &str| {
        let parsed = parse_text(&field, text)?;
        match parsed.fill(place.name, place.namespace) {
            Ok(filled) if field.ends_with(".ipBlock.cidr") => {
                check_block(&field, text, &filled).map(|()| filled)
            }
            Ok(filled) => Ok(filled),
            Err(error) => {
                unset.get_or_insert(Error::Unset { field, error });
                Ok(String::new())
            }
        }
    };
    let routed = service.map(service_ports);
    let of_fact = |fact: &str| facts.get(fact).map_or(&[][..], |fact| &fact.rules);
    let mut spec = fill_spec(policy, &mut fill, routed.as_deref(), |fact, ports| {
        let pair = |rule: &crate::api::baseline::FactRule| {
            (
                rule.peers.clone(),
                ports.map_or_else(|| rule.ports.clone(), <[_]>::to_vec),
            )
        };
        // Facts also come from a status, which others may write: without peers one would let everyone in.
        let named = of_fact(fact).iter().filter(|rule| !rule.peers.is_empty());
        named.map(pair).collect()
    })?;
    if let Some(unset) = unset {
        return Err(unset);
    }
    if let Some(service) = service {
        spec.pod_selector = Some(LabelSelector {
            match_labels: Some(service.pods.clone()),
            match_expressions: None,
        });
    }
    let mut object = object(template, policy, place, spec);
    if let Some(defect) = Policy::parse(&object).defects.into_iter().next() {
        return Err(Error::Policy(defect));
    }
    if let (Some(spec), Some(annotations)) = (&object.spec, &mut object.metadata.annotations) {
        annotations.insert(HASH.to_owned(), Digest::of_spec(spec).short());
    }
    Ok(Rendered {
        digest: Digest::of_policy(&object),
        closes: Closes::of(object.spec.as_ref()),
        policy: object,
    })
}

fn service_ports(service: &RoutedService) -> Vec<NetworkPolicyPort> {
    let port = |(protocol, target): &(crate::port::Protocol, TargetPort)| NetworkPolicyPort {
        protocol: Some(protocol.to_string()),
        port: Some(match target {
            TargetPort::Number(number) => IntOrString::Int(i32::from(*number)),
            TargetPort::Name(name) => IntOrString::String(name.clone()),
        }),
        end_port: None,
    };
    service.ports.iter().map(port).collect()
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
    let spec = fill_spec(policy, &mut fill, None, |_, ports| {
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
    // Of rules that name none.
    ports: Option<&[NetworkPolicyPort]>,
    fact: impl Fn(&str, Option<&[NetworkPolicyPort]>) -> Vec<Pair>,
) -> Result<NetworkPolicySpec, Defect> {
    let spec = &policy.spec;
    let pod_selector = fill_selector(&spec.pod_selector, "spec.podSelector", fill)?;
    let mut pairs = |direction: Direction| {
        let mut pairs = Vec::new();
        for (index, rule) in rules(spec, direction).iter().enumerate() {
            let field = format!("spec.{}[{index}]", direction.field());
            let rule = &Rule {
                ports: rule.ports.or(ports),
                ..*rule
            };
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
    place: Place<'_>,
    spec: NetworkPolicySpec,
) -> NetworkPolicy {
    let baseline = &template.name;
    let about = policy.description.as_deref().map(str::trim).unwrap_or_default();
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("{about}\n")
    };
    // In lines, since `kubectl describe` cuts each after 140 characters.
    let description = format!(
        "{about}Made by Ringfence from the NamespaceBaseline {baseline}; edits are undone.\n\
         To allow more, add a NetworkPolicy of your own to this namespace: policies add up.\n\
         To change it everywhere, ask {}.",
        template.contact.as_deref().unwrap_or("who owns the baseline"),
    );
    let retention = match template.retention {
        Retention::Remove => REMOVE,
        Retention::Keep => KEEP,
    };
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let mut annotations = owned(&[
        (GENERATION, &template.generation.to_string()),
        (DESCRIPTION, &description),
        (RETENTION, retention),
    ]);
    if template.existing == ExistingNamespaces::OptIn && counts_as_new(template, place) {
        annotations.insert(TAKEN_AS_NEW.to_owned(), "true".to_owned());
    }
    if let Some(revision) = &template.revision {
        annotations.insert(REVISION.to_owned(), revision.clone());
    }
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(policy.name.clone()),
            namespace: Some(place.name.to_owned()),
            labels: Some(owned(&[(MANAGED_BY, MANAGER), (BASELINE, baseline)])),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}

#[cfg(test)]
mod tests;
