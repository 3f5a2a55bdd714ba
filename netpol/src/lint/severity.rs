//! What the platform team says a rule weighs.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Rule, rules};
use crate::finding::Severity;

/// What a rule weighs, or that it is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Off,
    Warn,
    Deny,
}

/// `off` without quotes is the boolean false to a YAML 1.1 reader such as Helm's; it means the same here.
impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            Flag(bool),
        }
        match Written::deserialize(deserializer)? {
            Written::Flag(false) => Ok(Self::Off),
            Written::Word(word) if word == "off" => Ok(Self::Off),
            Written::Word(word) if word == "warn" => Ok(Self::Warn),
            Written::Word(word) if word == "deny" => Ok(Self::Deny),
            Written::Word(_) | Written::Flag(true) => {
                Err(serde::de::Error::custom("a severity is one of deny, warn, off"))
            }
        }
    }
}

/// Severities that differ from the rules' own, by code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Severities {
    levels: BTreeMap<String, Level>,
}

/// A severity for a rule that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule has the code {code:?}; the codes are {known}")]
pub struct UnknownCode {
    pub code: String,
    pub known: String,
}

impl Severities {
    /// Sets what a rule weighs.
    #[must_use]
    pub fn with(mut self, code: &str, level: Level) -> Self {
        self.levels.insert(code.to_owned(), level);
        self
    }

    /// What is said of a code; `None` if nothing is.
    pub fn level(&self, code: &str) -> Option<Level> {
        self.levels.get(code).copied()
    }

    /// The codes that something is said of.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.levels.keys().map(String::as_str)
    }

    /// These, with others laid over them.
    #[must_use]
    pub fn overlaid(&self, others: &Self) -> Self {
        let mut levels = self.levels.clone();
        levels.extend(others.levels.iter().map(|(code, level)| (code.clone(), *level)));
        Self { levels }
    }

    /// What a rule weighs; `None` if it is off.
    pub fn of(&self, rule: &Rule) -> Option<Severity> {
        match self.levels.get(rule.code) {
            None => Some(rule.severity),
            Some(Level::Off) => None,
            Some(Level::Warn) => Some(Severity::Warn),
            Some(Level::Deny) => Some(Severity::Deny),
        }
    }

    /// # Errors
    /// The first code that no rule has: it would have no effect, in silence.
    pub fn validate(&self) -> Result<(), UnknownCode> {
        let known = || rules::ALL.iter().map(|rule| rule.code);
        match self
            .levels
            .keys()
            .find(|code| known().all(|known| known != *code))
        {
            None => Ok(()),
            Some(code) => Err(UnknownCode {
                code: code.clone(),
                known: known().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_read_by_code_and_an_unknown_one_is_named() {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Severities>(yaml);
        let set = read("{NP001: warn, NP002: off, NP003: false, NP004: deny}").unwrap();
        let of = |code: &str| set.of(rules::ALL.iter().find(|rule| rule.code == code).unwrap());
        assert_eq!(
            ["NP001", "NP002", "NP003", "NP004"].map(of),
            [Some(Severity::Warn), None, None, Some(Severity::Deny)]
        );
        assert_eq!(set.validate(), Ok(()));
        let error = read("{NP999: warn}").unwrap().validate().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no rule has the code \"NP999\"; the codes are NP001, ")
        );
        for bad in ["{NP001: loud}", "{NP001: true}"] {
            assert!(
                read(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("one of deny, warn, off")
            );
        }
    }
}
