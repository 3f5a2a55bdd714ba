//! Reads a baseline and says everything that is wrong with it, with no cluster at hand.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::api::NamespaceBaseline;
use crate::api::baseline::{
    Adoption, Anyone, EgressTemplate, ExistingNamespaces, FactRule, FactSource, IngressTemplate,
    PolicyTemplate, PolicyTemplateSpec, PolicyType, Retention,
};
use crate::facts;
use crate::policy::{self, Direction};
use crate::selector::{self, Selector};
use crate::syntax::{is_dns_name, is_label_value};

use super::object::REVISION;
use super::render;
use super::variable::{self, Text};

/// A baseline that could be understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub name: String,
    pub generation: i64,
    /// In seconds of the Unix time; `None` for one that is in no cluster.
    pub created: Option<i64>,
    pub selector: Selector,
    pub excluded: BTreeSet<String>,
    pub existing: ExistingNamespaces,
    pub priority: i32,
    pub retention: Retention,
    pub adoption: Adoption,
    pub suspended: bool,
    pub contact: Option<String>,
    /// In Git.
    pub revision: Option<String>,
    pub sources: BTreeMap<String, FactSource>,
    pub facts_used: BTreeSet<String>,
    pub policies: Vec<PolicyTemplate>,
}

/// A part of a baseline that cannot be understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {error}")]
pub struct Defect {
    /// As `spec.policies[1].spec.egress[0].fact`.
    pub field: String,
    pub error: Error,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Variable(#[from] variable::Error),
    #[error("unknown fact {name:?}; did you mean {nearest}? A fact of your own is defined in spec.facts")]
    UnknownFact { name: String, nearest: String },
    #[error("no rule uses the fact {name:?}; did you mean {nearest}?")]
    UnusedFact { name: String, nearest: String },
    #[error("a fact has either services or rules")]
    FactForm,
    #[error(
        "a peer of a fact needs namespaceSelector or ipBlock: a bare podSelector would look in each policy's own namespace"
    )]
    BarePodSelector,
    #[error("a list of peers that is empty would allow everyone; if that is meant, write anyone: {{}}")]
    NoPeers,
    #[error("a rule has exactly one of fact, {peers} and anyone; without a peer it would allow everyone")]
    RuleForm { peers: &'static str },
    #[error("{field} rules need {kind:?} in policyTypes")]
    RulesWithoutType { field: &'static str, kind: PolicyType },
    #[error("a policy for each routed Service isolates for Ingress only")]
    RoutedEgress,
    #[error("a policy for each routed Service selects the Service's pods; write podSelector: {{}}")]
    RoutedSelector,
    #[error("policyTypes is empty; write which directions are isolated")]
    NoPolicyTypes,
    #[error("a baseline needs at least one policy")]
    NoPolicies,
    #[error("{0:?} cannot name an object; use lower-case letters, digits, '-' and '.'")]
    Name(String),
    #[error("{0:?} has more than 189 characters, and the name of a Service follows it")]
    RoutedName(String),
    #[error("there are two policies named {0:?}")]
    NameTwice(String),
    #[error(
        "a Service named {service:?} would make {name:?}, which is the name of another policy; choose another beginning"
    )]
    Shadows { name: String, service: String },
    #[error(
        "{0} is wider than any network of one's own; a variable must not stand for everyone, write such a block into the template"
    )]
    Wide(String),
    #[error(
        "{0:?} is no label value: at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"
    )]
    LabelValue(String),
    #[error(transparent)]
    Selector(#[from] selector::Error),
    #[error(transparent)]
    Policy(#[from] policy::Error),
}

/// A rule of either direction.
#[derive(Clone, Copy)]
pub(super) struct Rule<'a> {
    pub fact: Option<&'a str>,
    pub peers: Option<&'a [NetworkPolicyPeer]>,
    pub anyone: Option<Anyone>,
    pub ports: Option<&'a [NetworkPolicyPort]>,
}

impl<'a> From<&'a IngressTemplate> for Rule<'a> {
    fn from(rule: &'a IngressTemplate) -> Self {
        Self {
            fact: rule.fact.as_deref(),
            peers: rule.from.as_deref(),
            anyone: rule.anyone,
            ports: rule.ports.as_deref(),
        }
    }
}

impl<'a> From<&'a EgressTemplate> for Rule<'a> {
    fn from(rule: &'a EgressTemplate) -> Self {
        Self {
            fact: rule.fact.as_deref(),
            peers: rule.to.as_deref(),
            anyone: rule.anyone,
            ports: rule.ports.as_deref(),
        }
    }
}

/// The rules of a direction.
pub(super) fn rules(spec: &PolicyTemplateSpec, direction: Direction) -> Vec<Rule<'_>> {
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().map(Rule::from).collect(),
        Direction::Egress => spec.egress.iter().flatten().map(Rule::from).collect(),
    }
}

impl Template {
    /// Whether it makes policies for what the namespace's routes name.
    pub fn is_routed(&self) -> bool {
        self.routed().next().is_some()
    }

    /// Its policies that are made once.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &PolicyTemplate> {
        self.policies.iter().filter(|policy| policy.for_each.is_none())
    }

    /// Its policies that are made for each Service that a route names.
    pub(crate) fn routed(&self) -> impl Iterator<Item = &PolicyTemplate> {
        self.policies.iter().filter(|policy| policy.for_each.is_some())
    }

    /// # Errors
    /// Everything that cannot be understood; nothing must then be rendered.
    pub fn parse(baseline: &NamespaceBaseline) -> Result<Self, Vec<Defect>> {
        let (template, defects) = Self::read(baseline);
        match defects.is_empty() {
            true => Ok(template),
            false => Err(defects),
        }
    }

    /// The template as far as it can be understood, and everything in it that cannot be.
    pub(super) fn read(baseline: &NamespaceBaseline) -> (Self, Vec<Defect>) {
        let spec = &baseline.spec;
        let mut reader = Reader::default();
        let name = baseline.metadata.name.clone().unwrap_or_default();
        if !is_label_value(&name) {
            reader.defect("metadata.name", Error::LabelValue(name.clone())); // it labels what it makes
        }
        let selector = Selector::parse(&spec.namespace_selector)
            .map_err(|error| reader.defect("spec.namespaceSelector", error))
            .unwrap_or_default();
        if spec.policies.is_empty() {
            reader.defect("spec.policies", Error::NoPolicies);
        }
        for (fact, source) in &spec.facts {
            reader.source(&format!("spec.facts.{fact}"), source);
        }
        let known: BTreeSet<&str> = facts::FOUND
            .into_iter()
            .chain(spec.facts.keys().map(String::as_str))
            .collect();
        let mut names = BTreeSet::new();
        for (index, policy) in spec.policies.iter().enumerate() {
            let field = format!("spec.policies[{index}]");
            if !is_dns_name(&policy.name) {
                reader.defect(format!("{field}.name"), Error::Name(policy.name.clone()));
            }
            if !names.insert(policy.name.as_str()) {
                reader.defect(format!("{field}.name"), Error::NameTwice(policy.name.clone()));
            }
            for other in &spec.policies {
                let behind = other.name.strip_prefix(&policy.name);
                let service = behind.and_then(|rest| rest.strip_prefix('-'));
                if let (Some(service), Some(_)) = (service, policy.for_each) {
                    let (name, service) = (other.name.clone(), service.to_owned());
                    reader.defect(format!("{field}.name"), Error::Shadows { name, service });
                }
            }
            reader.policy(&field, policy, &known);
        }
        for name in spec
            .facts
            .keys()
            .filter(|name| !reader.facts_used.contains(*name))
            .cloned()
            .collect::<Vec<_>>()
        {
            let used = reader.facts_used.iter().map(String::as_str).chain(facts::FOUND);
            let nearest = nearest(&name, used);
            reader.defect(format!("spec.facts.{name}"), Error::UnusedFact { name, nearest });
        }
        let meta = &baseline.metadata;
        let template = Self {
            name,
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            selector,
            excluded: spec.excluded_namespaces.iter().cloned().collect(),
            existing: spec.existing_namespaces,
            priority: spec.priority,
            retention: spec.retention,
            adoption: spec.adoption,
            suspended: spec.suspend,
            contact: spec.contact.clone(),
            revision: baseline.annotations().get(REVISION).cloned(),
            sources: spec.facts.clone(),
            facts_used: reader.facts_used,
            policies: spec.policies.clone(),
        };
        (template, reader.defects)
    }
}

#[derive(Default)]
struct Reader {
    defects: Vec<Defect>,
    facts_used: BTreeSet<String>,
}

impl Reader {
    fn defect(&mut self, field: impl Into<String>, error: impl Into<Error>) {
        self.defects.push(Defect {
            field: field.into(),
            error: error.into(),
        });
    }

    fn source(&mut self, field: &str, source: &FactSource) {
        let empty = |source: &FactSource| {
            source.services.as_ref().is_some_and(Vec::is_empty)
                || source.rules.as_ref().is_some_and(Vec::is_empty)
        };
        if source.services.is_some() == source.rules.is_some() || empty(source) {
            self.defect(field, Error::FactForm);
        }
        for (index, FactRule { peers, .. }) in source.rules.iter().flatten().enumerate() {
            if peers.is_empty() {
                self.defect(format!("{field}.rules[{index}].peers"), Error::NoPeers);
            }
            for (peer_index, peer) in peers.iter().enumerate() {
                if peer.ip_block.is_none() && peer.namespace_selector.is_none() {
                    self.defect(
                        format!("{field}.rules[{index}].peers[{peer_index}]"),
                        Error::BarePodSelector,
                    );
                }
            }
        }
    }

    fn policy(&mut self, field: &str, policy: &PolicyTemplate, known: &BTreeSet<&str>) {
        let spec = &policy.spec;
        if spec.policy_types.is_empty() {
            self.defect(format!("{field}.spec.policyTypes"), Error::NoPolicyTypes);
        }
        if policy.for_each.is_some() {
            if policy.name.len() > 189 {
                self.defect(format!("{field}.name"), Error::RoutedName(policy.name.clone()));
            }
            if spec.policy_types.contains(&PolicyType::Egress) {
                self.defect(format!("{field}.spec.policyTypes"), Error::RoutedEgress);
            }
            let selector = &spec.pod_selector;
            if selector
                .match_labels
                .as_ref()
                .is_some_and(|labels| !labels.is_empty())
                || selector
                    .match_expressions
                    .as_ref()
                    .is_some_and(|list| !list.is_empty())
            {
                self.defect(format!("{field}.spec.podSelector"), Error::RoutedSelector);
            }
        }
        for (direction, kind) in Direction::BOTH
            .into_iter()
            .zip([PolicyType::Ingress, PolicyType::Egress])
        {
            let rules = rules(spec, direction);
            let list = format!("{field}.spec.{}", direction.field());
            if !rules.is_empty() && !spec.policy_types.contains(&kind) {
                self.defect(
                    &list,
                    Error::RulesWithoutType {
                        field: direction.field(),
                        kind,
                    },
                );
            }
            for (index, rule) in rules.iter().enumerate() {
                self.rule(&format!("{list}[{index}]"), rule, direction, known);
            }
        }
        // What is wrong with it as a NetworkPolicy, told by the one parser, in a namespace where every variable has a value.
        match render::sample(policy) {
            Ok(sample) => {
                for policy::Defect { field: inner, error } in policy::Policy::parse(&sample).defects {
                    self.defect(format!("{field}.{inner}"), error);
                }
            }
            Err(defects) => {
                self.defects.extend(defects.into_iter().map(|defect| Defect {
                    field: format!("{field}.{}", defect.field),
                    error: defect.error,
                }));
            }
        }
    }

    fn rule(&mut self, field: &str, rule: &Rule<'_>, direction: Direction, known: &BTreeSet<&str>) {
        let peers = direction.peers_field();
        let given = [rule.fact.is_some(), rule.peers.is_some(), rule.anyone.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.defect(field, Error::RuleForm { peers });
        }
        if rule.peers.is_some_and(<[_]>::is_empty) {
            self.defect(format!("{field}.{peers}"), Error::NoPeers);
        }
        if let Some(fact) = rule.fact {
            if !known.contains(fact) {
                let nearest = nearest(fact, known.iter().copied());
                self.defect(
                    format!("{field}.fact"),
                    Error::UnknownFact {
                        name: fact.to_owned(),
                        nearest,
                    },
                );
            }
            self.facts_used.insert(fact.to_owned());
        }
        for (index, port) in rule.ports.into_iter().flatten().enumerate() {
            if matches!(&port.port, Some(IntOrString::String(name)) if name.contains("${")) {
                self.defect(format!("{field}.ports[{index}].port"), variable::Error::NotHere);
            }
        }
    }
}

/// Rewrites each value of a selector; keys hold no variables.
pub(super) fn fill_selector(
    selector: &LabelSelector,
    field: &str,
    fill: &mut impl FnMut(String, &str) -> Result<String, Defect>,
) -> Result<LabelSelector, Defect> {
    let mut filled = selector.clone();
    let key = |field: String, key: &str| match key.contains("${") {
        true => Err(Defect {
            field,
            error: variable::Error::NotHere.into(),
        }),
        false => Ok(()),
    };
    for (name, value) in filled.match_labels.iter_mut().flatten() {
        let field = format!("{field}.matchLabels[{name}]");
        key(field.clone(), name)?;
        *value = label_value(field, value, fill)?;
    }
    for (index, expression) in filled.match_expressions.iter_mut().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        key(format!("{field}.key"), &expression.key)?;
        for (index, value) in expression.values.iter_mut().flatten().enumerate() {
            *value = label_value(format!("{field}.values[{index}]"), value, fill)?;
        }
    }
    Ok(filled)
}

fn label_value(
    field: String,
    value: &str,
    fill: &mut impl FnMut(String, &str) -> Result<String, Defect>,
) -> Result<String, Defect> {
    let filled = fill(field.clone(), value)?;
    if is_label_value(&filled) {
        Ok(filled)
    } else {
        Err(Defect {
            field,
            error: Error::LabelValue(filled),
        })
    }
}

/// Rewrites each value of a peer that may hold variables.
pub(super) fn fill_peer(
    peer: &NetworkPolicyPeer,
    field: &str,
    fill: &mut impl FnMut(String, &str) -> Result<String, Defect>,
) -> Result<NetworkPolicyPeer, Defect> {
    let mut filled = peer.clone();
    if let Some(pods) = &peer.pod_selector {
        filled.pod_selector = Some(fill_selector(pods, &format!("{field}.podSelector"), fill)?);
    }
    if let Some(namespaces) = &peer.namespace_selector {
        filled.namespace_selector = Some(fill_selector(
            namespaces,
            &format!("{field}.namespaceSelector"),
            fill,
        )?);
    }
    if let Some(block) = &mut filled.ip_block {
        block.cidr = fill(format!("{field}.ipBlock.cidr"), &block.cidr)?;
        for (index, except) in block.except.iter_mut().flatten().enumerate() {
            *except = fill(format!("{field}.ipBlock.except[{index}]"), except)?;
        }
    }
    Ok(filled)
}

/// What a variable stands for must not become everyone, since others than the template's author write it.
pub(super) fn check_block(field: &str, written: &str, filled: &str) -> Result<(), Defect> {
    /// The shortest prefixes that networks of one's own have: 10.0.0.0/8 and fc00::/7.
    const SHORTEST: (u8, u8) = (8, 7);
    let wide = match filled.parse() {
        Ok(IpNet::V4(block)) => block.prefix_len() < SHORTEST.0,
        Ok(IpNet::V6(block)) => block.prefix_len() < SHORTEST.1,
        Err(_) => false, // told as any other block that is none
    };
    if wide && written.contains("${") {
        return Err(Defect {
            field: field.to_owned(),
            error: Error::Wide(filled.to_owned()),
        });
    }
    Ok(())
}

/// Checks the variables of a text.
pub(super) fn parse_text(field: &str, text: &str) -> Result<Text, Defect> {
    Text::parse(text).map_err(|error| Defect {
        field: field.to_owned(),
        error: error.into(),
    })
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .min_by_key(|known| strsim::osa_distance(name, known))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
