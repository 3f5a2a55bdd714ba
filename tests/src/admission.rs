//! What an API server accepts, refuses and drops: `corpus/admission`, whose README.md says what is there.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::command::{Ringfence, folder};

/// A specification, and what an API server makes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    pub name: String,
    pub spec: Value,
    /// The field that is refused or dropped.
    #[serde(default)]
    pub field: Option<String>,
    /// The version of the API server from which on it is refused.
    #[serde(default)]
    pub since: Option<String>,
    /// What is stored of one that is accepted.
    #[serde(default)]
    pub policy_types: Option<Vec<String>>,
}

/// The three lists.
#[derive(Debug)]
pub struct Cases {
    pub accepted: Vec<Case>,
    pub refused: Vec<Case>,
    pub dropped: Vec<Case>,
}

/// What is found that an API server refuses: what cannot be read, and blocks that newer ones refuse.
pub const REFUSED: [&str; 2] = ["NP001", "NP009"];
/// What is found that it drops.
pub const DROPPED: &str = "NP008";

impl Cases {
    /// Reads them.
    ///
    /// # Errors
    /// If a file is not there, or is none.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| -> anyhow::Result<Vec<Case>> {
            let text = std::fs::read_to_string(folder.join(name)).context(name.to_owned())?;
            let cases: Vec<Case> = serde_yaml_ng::from_str(&text).context(name.to_owned())?;
            ensure!(!cases.is_empty(), "{name} holds no case");
            Ok(cases)
        };
        Ok(Self {
            accepted: read("accepted.yaml")?,
            refused: read("refused.yaml")?,
            dropped: read("dropped.yaml")?,
        })
    }

    /// Asks `ringfence lint` about each; returns how many were asked about, and what it said that was not expected.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn judge(&self, ringfence: &Ringfence) -> anyhow::Result<(usize, Vec<String>)> {
        let all: Vec<&Case> = self
            .accepted
            .iter()
            .chain(&self.refused)
            .chain(&self.dropped)
            .collect();
        let specs: Vec<&Value> = all.iter().map(|case| &case.spec).collect();
        let mut wrong = Vec::new();
        for (case, found) in all.iter().zip(lint(ringfence, &specs)?) {
            let is_in = |list: &[Case]| list.iter().any(|other| other.name == case.name);
            let named = |codes: &[&str]| -> Vec<&str> {
                let of = found.iter().filter(|(code, _)| codes.contains(&code.as_str()));
                of.map(|(_, field)| field.as_str()).collect()
            };
            let expected: Vec<&str> = case.field.iter().map(String::as_str).collect();
            let (refused, dropped) = (named(&REFUSED), named(&[DROPPED]));
            let holds = if is_in(&self.refused) {
                let one = if case.since.is_some() { "NP009" } else { "NP001" };
                agree(&refused, &expected) && !named(&[one]).is_empty()
            } else if is_in(&self.dropped) {
                refused.is_empty() && dropped == expected
            } else {
                refused.is_empty() && dropped.is_empty()
            };
            if !holds {
                wrong.push(format!("{}: must name {expected:?}, is {found:?}", case.name));
            }
        }
        Ok((all.len(), wrong))
    }
}

/// Whether both name something, or neither, and every field of the first is one of the second or a part of it.
pub fn agree(ours: &[&str], theirs: &[&str]) -> bool {
    let is_part = |field: &str, whole: &str| {
        let rest = field.strip_prefix(whole);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    ours.is_empty() == theirs.is_empty()
        && ours
            .iter()
            .all(|field| theirs.iter().any(|whole| is_part(field, whole)))
}

/// A policy of that specification, as a manifest.
pub fn manifest(name: &str, namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

/// Code and field of what `ringfence lint` finds in each specification, all of them asked about at once.
///
/// # Errors
/// If it cannot be asked, or reads one of them as no policy.
pub fn lint(ringfence: &Ringfence, specs: &[&Value]) -> anyhow::Result<Vec<Vec<(String, String)>>> {
    let named = specs.iter().enumerate();
    let manifests: Vec<Value> = named
        .map(|(index, spec)| manifest(&format!("p{index}"), "x", spec))
        .collect();
    let folder = folder(&manifests)?;
    let ran = ringfence.run(&["lint", &folder.path().to_string_lossy(), "-o", "json"])?;
    ensure!(ran.code < 2, "lint ended with {}: {}", ran.code, ran.err);
    let findings: Vec<Value> = serde_json::from_str(&ran.out)?;
    let mut found = vec![Vec::new(); specs.len()];
    for finding in findings {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&finding["object"]["name"]);
        let index = name
            .strip_prefix('p')
            .and_then(|index| index.parse::<usize>().ok());
        let place = index
            .and_then(|index| found.get_mut(index))
            .context("a finding of no policy")?;
        place.push((text(&finding["code"]), text(&finding["field"])));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::repository;

    #[test]
    fn lint_finds_what_an_api_server_refuses_or_drops_and_nothing_else() {
        let cases = Cases::read(&repository().join("tests/corpus/admission")).unwrap();
        let (count, wrong) = cases.judge(&Ringfence::Here).unwrap();
        assert!(count > 90 && wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
