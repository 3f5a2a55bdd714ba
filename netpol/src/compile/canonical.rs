//! From identifiers that depend on what came before to indices that depend on the contents only.

use std::collections::BTreeMap;

use super::compiler::Compiler;
use super::delta::{self, ClassId, IdSet, RulesetId};
use super::{
    ANYONE, Class, ClassIx, Decisions, Endpoint, NodeRules, OpenRule, PeerGroup, PeerIx, Ruleset, RulesetIx,
};

impl Compiler {
    /// The rules in canonical form, `==` what [`compile`](super::compile) makes of the same cluster. At the cost of all that there is.
    pub fn rules(&self) -> NodeRules {
        let mut peers: Vec<(&PeerGroup, PeerIx)> = self.peers.iter().map(|(id, peer)| (peer, id)).collect();
        peers.sort_unstable();
        let numbers: BTreeMap<PeerIx, PeerIx> = peers
            .iter()
            .zip(0..)
            .map(|((_, id), index)| (*id, index))
            .collect();
        let renumber = |ids: &[PeerIx]| {
            let mut indices: Vec<PeerIx> = ids.iter().filter_map(|id| numbers.get(id)).copied().collect();
            indices.sort_unstable();
            indices
        };

        let mut classes: Vec<(Class, ClassId)> = self
            .classes
            .iter()
            .map(|(id, class)| {
                let class = Class {
                    peers: renumber(&class.peers),
                    named_ports: self.grants().names().get(class.names).to_vec(),
                };
                (class, id)
            })
            .collect();
        classes.push((Class::default(), delta::ANYONE));
        classes.sort_unstable();
        // What pods have and what other addresses have may be the same, but for being pods'.
        let alike = classes.chunk_by(|(a, _), (b, _)| a == b).zip(0..);
        let class_of: BTreeMap<ClassId, ClassIx> = alike
            .flat_map(|(alike, index)| alike.iter().map(move |(_, id)| (*id, index)))
            .collect();
        classes.dedup_by(|(a, _), (b, _)| a == b);

        let mut rulesets: Vec<(Ruleset, RulesetId)> = self
            .rulesets
            .iter()
            .map(|(id, ruleset)| {
                let mut rules: Vec<OpenRule> = ruleset
                    .rules
                    .iter()
                    .map(|rule| OpenRule {
                        peers: rule.peers.as_deref().map(renumber),
                        ..rule.clone()
                    })
                    .collect();
                rules.sort_unstable();
                let direction = ruleset.direction;
                (Ruleset { direction, rules }, id)
            })
            .collect();
        rulesets.sort_unstable();
        let ruleset_of: BTreeMap<RulesetId, RulesetIx> = rulesets
            .iter()
            .zip(0..)
            .map(|((_, id), index)| (*id, index))
            .collect();

        let state = self.snapshot();
        let class = |id: Option<ClassId>| id.and_then(|id| class_of.get(&id)).copied().unwrap_or(ANYONE);
        let ruleset = |id: Option<RulesetId>| id.and_then(|id| ruleset_of.get(&id)).copied();
        let mut rows: Vec<Vec<(ClassIx, u32)>> = vec![Vec::new(); rulesets.len()];
        for (of, content) in self.rulesets.iter() {
            let found = self.grants().opened(content).into_iter();
            let found = found.filter_map(|(to, set)| Some((*class_of.get(&to)?, set)));
            if let Some(rows) = ruleset(Some(of)).and_then(|index| rows.get_mut(index as usize)) {
                rows.extend(found);
                rows.sort_unstable();
                rows.dedup();
            }
        }
        let in_use: IdSet = rows.iter().flatten().map(|(_, set)| *set).collect();
        let sets = self.grants().port_sets().filter(|(id, _)| in_use.contains(id));
        let sets = sets.map(|(id, ports)| (ports.clone(), id)).collect();
        NodeRules {
            decisions: Decisions::new(rows, sets),
            endpoints: state
                .endpoints
                .into_iter()
                .filter_map(|(key, endpoint)| {
                    let endpoint = endpoint?;
                    let endpoint = Endpoint {
                        uid: endpoint.uid,
                        addresses: endpoint.addresses,
                        ingress: ruleset(endpoint.ingress),
                        egress: ruleset(endpoint.egress),
                    };
                    Some((key, endpoint))
                })
                .collect(),
            peers: peers.into_iter().map(|(peer, _)| peer.clone()).collect(),
            classes: classes.into_iter().map(|(class, _)| class).collect(),
            addresses: state
                .addresses
                .into_iter()
                .map(|(at, id)| (at, class(id)))
                .filter(|(_, class)| *class != ANYONE)
                .collect(),
            blocks: state
                .prefixes
                .into_iter()
                .map(|(at, id)| (at, class(id)))
                .collect(),
            rulesets: rulesets.into_iter().map(|(ruleset, _)| ruleset).collect(),
            service_ports: state.services.into_keys().collect(),
            defects: self.defective().map(|policy| policy.defects.len()).sum(),
        }
    }
}
