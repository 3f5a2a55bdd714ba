//! What baselines mean: from templates to NetworkPolicies, and from what is stored to what must be done.
//!
//! # The form of a template
//!
//! Templates are **typed**, not text: a template is the NetworkPolicy that it makes, except that a rule may name a fact instead of
//! peers, and that the values of labels and blocks may hold variables. Variables are filled in *after* the YAML was
//! parsed, into single fields whose syntax is then checked, so that no label that a tenant wrote can become a rule,
//! a peer or a second value. A template can be checked with no cluster at hand, its differences are those of a NetworkPolicy, and an
//! error names a field.
//!
//! A fact stands for **whole rules**, not for peers: the DNS of a cluster may be two Services whose pods listen on different
//! ports, and every peer of one with every port of the other would be more than is meant. So `egress: [{fact: dns}]` becomes one
//! rule for each group of the fact, with its peers and its ports.
//!
//! A rule without peers allows everyone. It can only be written as `anyone: {}`, and what stands for nothing is left out: neither
//! an absent fact nor an unknown field that the API server dropped can open a namespace.
//!
//! # The parts
//!
//! [`template`]: reads and checks a baseline. [`membership`]: which namespaces it takes. [`route`]: what a namespace is reached by.
//! [`render`]: a baseline's policies for one namespace. [`wanted`]: those of all baselines. [`object`]: how stored objects are marked and compared.
//! [`plan`]: what must be done in one namespace. [`ahead`]: what is enforced until it is done. [`gate`]: who waits for it. [`status`]: what is said of it.
//! All pure; whoever renders (generator, enforcer, command line) calls the same functions.

pub mod ahead;
pub mod gate;
pub mod membership;
pub mod object;
pub mod plan;
pub mod render;
pub mod route;
pub mod status;
pub mod template;
mod variable;
pub mod wanted;

#[cfg(test)]
mod testing;

use std::collections::BTreeMap;

use crate::api::NamespaceBaseline;
use crate::cluster::Cluster;
use crate::facts::{self, Facts};

use template::{Defect, Template};

/// The baselines of a cluster, by name, each with the facts that it uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baselines(BTreeMap<String, Baseline>);

#[derive(Debug, Clone, PartialEq)]
pub enum Baseline {
    Valid {
        template: Box<Template>,
        facts: Facts,
    },
    /// Nothing is rendered from it, and nothing that was rendered from it before is taken away or becomes another's.
    Invalid {
        /// As far as it could be understood.
        template: Box<Template>,
        defects: Vec<Defect>,
    },
}

impl Baseline {
    fn read(object: &NamespaceBaseline, facts: impl FnOnce(&Template) -> Facts) -> Self {
        let (template, defects) = Template::read(object);
        let template = Box::new(template);
        match defects.is_empty() {
            true => Self::Valid {
                facts: facts(&template),
                template,
            },
            false => Self::Invalid { template, defects },
        }
    }

    /// What it says, as far as it can be understood.
    pub fn template(&self) -> &Template {
        match self {
            Self::Valid { template, .. } | Self::Invalid { template, .. } => template,
        }
    }
}

impl Baselines {
    /// Reads the baselines of a cluster. `last_known` holds facts that are newer than those in the baselines' status, by the
    /// baseline's name.
    pub fn read(cluster: &Cluster, last_known: &BTreeMap<String, Facts>) -> Self {
        let read = |(name, object): (&str, &NamespaceBaseline)| {
            let baseline = Baseline::read(object, |template| {
                let stored = object.status.iter().flat_map(|status| &status.facts);
                let newer = last_known.get(name).into_iter().flat_map(BTreeMap::values);
                let known: Vec<_> = newer.chain(stored).cloned().collect();
                facts::resolve(cluster, &template.facts_used, &template.sources, &known)
            });
            (name.to_owned(), baseline)
        };
        Self(
            cluster
                .baselines
                .iter()
                .map(|(key, object)| read((key.name.as_str(), object)))
                .collect(),
        )
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Baseline)> {
        self.0.iter().map(|(name, baseline)| (name.as_str(), baseline))
    }

    /// Whether any of them makes policies for what namespaces' routes name.
    pub fn are_routed(&self) -> bool {
        self.0
            .values()
            .any(|baseline| matches!(baseline, Baseline::Valid { template, .. } if template.is_routed()))
    }

    /// Whether a fact of any of them is told by which namespaces there are, as where Prometheus may be.
    pub fn depend_on_namespaces(&self) -> bool {
        self.0.values().any(|baseline| {
            matches!(baseline, Baseline::Valid { template, .. } if template.facts_used.contains(facts::PROMETHEUS))
        })
    }

    pub fn get(&self, name: &str) -> Option<&Baseline> {
        self.0.get(name)
    }

    /// The facts of all valid baselines, to be the last known ones of the next reading.
    pub fn facts(&self) -> BTreeMap<String, Facts> {
        let facts = |(name, baseline): (&String, &Baseline)| match baseline {
            Baseline::Valid { facts, .. } => Some((name.clone(), facts.clone())),
            Baseline::Invalid { .. } => None,
        };
        self.0.iter().filter_map(facts).collect()
    }
}
