//! The patterns of standards, read once for all objects that are asked. To read one takes as long as all else that a label is asked.

use std::collections::BTreeMap;

use regex::Regex;

use super::defect::whole;
use crate::api::LabelStandard;
use crate::cluster::Store;

/// What the standards of one store ask values to match, for as long as they [hold](Self::holds).
#[derive(Debug, Default)]
pub struct Patterns {
    revision: u64,
    /// `None`: it cannot be understood.
    read: BTreeMap<String, Option<Regex>>,
}

impl Patterns {
    pub fn of(standards: &Store<LabelStandard>) -> Self {
        let asked = standards.values().flat_map(|standard| &standard.spec.labels);
        let patterns = asked.filter_map(|asked| asked.pattern.as_ref());
        Self {
            revision: standards.revision(),
            read: patterns
                .map(|pattern| (pattern.clone(), whole(pattern).ok()))
                .collect(),
        }
    }

    /// Whether they are still those of the standards. The store must be the one that they are of.
    pub fn holds(&self, standards: &Store<LabelStandard>) -> bool {
        self.revision == standards.revision()
    }

    /// Whether a value is as a pattern asks. One that cannot be understood asks for nothing.
    pub(super) fn allow(&self, pattern: &str, value: &str) -> bool {
        let matches = |read: &Regex| read.is_match(value);
        match self.read.get(pattern) {
            Some(read) => read.as_ref().is_none_or(matches),
            None => whole(pattern).ok().as_ref().is_none_or(matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Key;

    #[test]
    fn patterns_hold_until_the_standards_change_and_mean_the_same_without() {
        let mut standards = Store::default();
        assert!(Patterns::default().holds(&standards));
        let spec = "{kinds: [Pod], labels: [{key: a, pattern: 'r[0-9]'}, {key: b, pattern: '('}]}";
        let standard = LabelStandard::new("s", serde_yaml_ng::from_str(spec).unwrap());
        standards.apply(Key::cluster("s"), standard);
        let read = Patterns::of(&standards);
        assert!(read.holds(&standards) && !Patterns::default().holds(&standards));
        for patterns in [&read, &Patterns::default()] {
            assert!(patterns.allow("r[0-9]", "r1") && !patterns.allow("r[0-9]", "r12"));
            assert!(
                patterns.allow("(", "anything"),
                "what cannot be understood asks for nothing"
            );
        }
    }
}
