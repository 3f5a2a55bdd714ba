//! What is let pass for a time, and for a reason.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff::civil;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::finding::Finding;

const DAY: i64 = 86_400;

/// A day, which ends at midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(civil::Date);

/// Findings that are let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exemption {
    /// Codes of rules.
    pub rules: Vec<String>,
    /// Where; everywhere, if it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Which objects, by name; all, if it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The last day.
    pub until: Date,
    pub reason: String,
}

impl Date {
    /// The first second of the Unix time in which it is over.
    fn end(self) -> i64 {
        let days = (self.0 - civil::Date::constant(1970, 1, 1)).get_days();
        (i64::from(days) + 1) * DAY
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is no date; write year, month and day, as 2027-01-31"))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Exemption {
    /// Whether a finding in a namespace is let pass, at a time in seconds of the Unix time.
    pub fn covers(&self, finding: &Finding, namespace: &str, now: i64) -> bool {
        let among = |list: &[String], one: &str| list.is_empty() || list.iter().any(|item| item == one);
        now < self.until.end()
            && self.rules.iter().any(|code| code == finding.code)
            && among(&self.namespaces, namespace)
            && among(&self.names, &finding.object.name)
    }

    /// # Errors
    /// If it says no rule, one that is not there, or no reason.
    pub fn validate<'a>(&self, mut known: impl Iterator<Item = &'a str>) -> Result<(), String> {
        if self.rules.is_empty() {
            return Err("an exemption names at least one rule".to_owned());
        }
        let known: Vec<&str> = known.by_ref().collect();
        if let Some(code) = self.rules.iter().find(|code| !known.contains(&code.as_str())) {
            return Err(format!("no rule has the code {code:?}"));
        }
        if self.reason.trim().is_empty() {
            return Err("an exemption has a reason".to_owned());
        }
        Ok(())
    }
}
