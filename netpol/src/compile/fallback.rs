//! What counts where a ruleset has no decision for a class of pods.
//!
//! Almost all classes are pods', and a rule that lets in all pods would make a decision for each. So a ruleset says once what it opens
//! to any pod, which is what it opens to most of them, and has decisions for those only to which it opens something else. It says so
//! for as long as it is there: what is in use never changes, however many pods come and go. A pod that no peer matches is anyone.

use std::collections::BTreeMap;

use super::delta::{ClassId, PortSetId, RulesetId};

/// What is open to a class; sorted.
pub(super) type Opened = Vec<(ClassId, PortSetId)>;

/// Of a ruleset that opens something else to most pods than to anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fallback {
    /// What is open to a pod for which there is no decision.
    pub(super) pods: PortSetId,
    /// What is open to anyone, as the decision says for pods to which no more is.
    pub(super) anyone: PortSetId,
}

/// What is open to most of these pods, if that is not what is open to anyone; `opened` says what is open to whom, where it is
/// something else than to anyone.
pub(super) fn most(opened: &[(ClassId, PortSetId)], pods: &[ClassId]) -> Option<PortSetId> {
    // Most rulesets concern few pods, and need not be looked through for it.
    if opened.len() <= pods.len() / 2 {
        return None;
    }
    let mut counts: BTreeMap<PortSetId, usize> = BTreeMap::new();
    let mut left = pods;
    let mut others = pods.len();
    for (class, set) in opened {
        left = &left[left.partition_point(|pod| pod < class)..];
        if left.first() == Some(class) {
            *counts.entry(*set).or_default() += 1;
            others -= 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.filter(|(_, count)| *count > others).map(|(set, _)| set)
}

impl Fallback {
    /// The decisions that there have to be, of what is open to whom where it is something else than to anyone.
    pub(super) fn decisions(self, opened: Opened, pods: &[ClassId]) -> Opened {
        let mut opened = opened.into_iter().peekable();
        let mut decisions = Vec::new();
        for pod in pods {
            while let Some(of_others) = opened.next_if(|(class, _)| class < pod) {
                decisions.push(of_others);
            }
            match opened.next_if(|(class, _)| class == pod) {
                Some((_, set)) if set == self.pods => {}
                Some(decision) => decisions.push(decision),
                None => decisions.push((*pod, self.anyone)),
            }
        }
        decisions.extend(opened);
        decisions
    }
}

/// Those of all rulesets that have one.
#[derive(Debug, Default)]
pub(super) struct Fallbacks(BTreeMap<RulesetId, Fallback>);

impl Fallbacks {
    pub(super) fn get(&self, ruleset: RulesetId) -> Option<Fallback> {
        self.0.get(&ruleset).copied()
    }

    pub(super) fn insert(&mut self, ruleset: RulesetId, fallback: Fallback) {
        self.0.insert(ruleset, fallback);
    }

    pub(super) fn remove(&mut self, ruleset: RulesetId) -> Option<Fallback> {
        self.0.remove(&ruleset)
    }

    /// The decisions of such rulesets for a class of pods, of what they open to it beyond what they open to anyone, by ruleset; sorted.
    pub(super) fn decisions(
        &self,
        opened: Vec<(RulesetId, PortSetId)>,
        of: impl Fn(RulesetId) -> bool,
    ) -> Vec<(RulesetId, PortSetId)> {
        if self.0.is_empty() {
            return opened;
        }
        let opens = |ruleset: &RulesetId| {
            opened
                .binary_search_by_key(ruleset, |(ruleset, _)| *ruleset)
                .is_ok()
        };
        let others = self
            .0
            .iter()
            .filter(|(ruleset, _)| of(**ruleset) && !opens(ruleset));
        let others: Vec<_> = others
            .map(|(ruleset, fallback)| (*ruleset, fallback.anyone))
            .collect();
        let differs = |(ruleset, set): &(RulesetId, PortSetId)| {
            self.get(*ruleset).is_none_or(|fallback| fallback.pods != *set)
        };
        let mut decisions: Vec<_> = opened.into_iter().filter(differs).chain(others).collect();
        decisions.sort_unstable();
        decisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_pods_have_needs_no_decisions() {
        let pods = [2, 3, 4, 6];
        let opened = vec![(2, 70), (3, 70), (4, 70), (5, 70)];
        assert_eq!(most(&opened, &pods), Some(70));
        let fallback = Fallback { pods: 70, anyone: 80 };
        assert_eq!(fallback.decisions(opened, &pods), [(5, 70), (6, 80)]);
    }

    #[test]
    fn what_few_pods_have_is_no_fallback() {
        assert_eq!(most(&[(2, 70), (3, 71)], &[2, 3, 4, 6]), None);
        assert_eq!(most(&[(2, 70), (5, 70), (7, 70)], &[2, 4]), None);
        assert_eq!(most(&[], &[]), None);
    }

    #[test]
    fn a_class_has_decisions_where_it_is_not_as_most_pods() {
        let mut fallbacks = Fallbacks::default();
        assert_eq!(fallbacks.decisions(vec![(1, 70)], |_| true), [(1, 70)]);
        for ruleset in [1, 2, 3, 5] {
            fallbacks.insert(ruleset, Fallback { pods: 70, anyone: 80 });
        }
        let decisions = fallbacks.decisions(vec![(1, 70), (2, 71), (4, 70)], |ruleset| ruleset != 5);
        assert_eq!(decisions, [(2, 71), (3, 80), (4, 70)]);
    }
}
