//! What cannot be understood in a standard, and what contradicts itself.

use std::collections::BTreeSet;

use regex::Regex;

use super::judge::is_met;
use super::{CONTRADICTION, UNREADABLE};
use crate::api::{LabelRequirement, LabelStandard, LabelStandardSpec};
use crate::cluster::Key;
use crate::finding::{Finding, Mend, Object, Severity};
use crate::selector::{Labels, Selector};
use crate::syntax::is_label_value;

const VALUE_MEND: &str =
    "use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";

/// Why a part of a standard cannot be as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Defect {
    /// `LS001` for what cannot be understood (it then asks for nothing), `LS002` for what contradicts itself.
    pub code: &'static str,
    /// As `spec.labels[0].pattern`.
    pub field: String,
    pub reason: String,
    pub mend: String,
}

/// What is wrong with a standard, beyond what its schema checks.
pub fn defects(spec: &LabelStandardSpec) -> Vec<Defect> {
    let mut found = Vec::new();
    if let Some(Err(error)) = spec.namespace_selector.as_ref().map(Selector::parse) {
        found.push(Defect {
            code: UNREADABLE,
            field: "spec.namespaceSelector".to_owned(),
            reason: error.to_string(),
            mend: "correct the selector".to_owned(),
        });
    }
    let mut seen = BTreeSet::new();
    for (index, asked) in spec.labels.iter().enumerate() {
        let field = format!("spec.labels[{index}]");
        let mut defect = |code, part: &str, reason: String, mend: &str| {
            found.push(Defect {
                code,
                field: format!("{field}{part}"),
                reason,
                mend: mend.to_owned(),
            });
        };
        if !seen.insert(&asked.key) {
            let reason = format!("{} is listed before", asked.key);
            defect(UNREADABLE, ".key", reason, "list each key once");
        }
        if let Some(Err(error)) = asked.pattern.as_deref().map(whole) {
            let reason = error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .to_owned();
            defect(
                UNREADABLE,
                ".pattern",
                reason,
                "write a regular expression in the syntax of RE2",
            );
        }
        let allowed = asked.allowed_values.iter().flatten();
        let protected = asked.protected.iter().flat_map(|protection| &protection.values);
        let values = allowed
            .enumerate()
            .map(|(at, value)| (format!(".allowedValues[{at}]"), value))
            .chain(
                protected
                    .enumerate()
                    .map(|(at, value)| (format!(".protected.values[{at}]"), value)),
            )
            .chain(asked.default.iter().map(|value| (".default".to_owned(), value)));
        for (part, value) in values.filter(|(_, value)| !is_label_value(value)) {
            defect(
                UNREADABLE,
                &part,
                format!("{value:?} can never be the value of a label"),
                VALUE_MEND,
            );
        }
        for (part, reason, mend) in contradictions(asked) {
            defect(CONTRADICTION, part, reason, mend);
        }
    }
    found
}

fn contradictions(asked: &LabelRequirement) -> Vec<(&'static str, String, &'static str)> {
    let key = &asked.key;
    let mut found = Vec::new();
    if asked.forbidden {
        let contrary = [
            (asked.required == Some(true), ".required"),
            (asked.allowed_values.is_some(), ".allowedValues"),
            (asked.pattern.is_some(), ".pattern"),
            (asked.immutable, ".immutable"),
            (asked.protected.is_some(), ".protected"),
            (asked.default.is_some(), ".default"),
        ];
        for (_, part) in contrary.into_iter().filter(|(there, _)| *there) {
            found.push((
                part,
                format!("{key} is forbidden, and nothing else can be asked of it"),
                "leave it out, or do not forbid the label",
            ));
        }
        return found;
    }
    if let Some(default) = &asked.default {
        let filled_in = Labels::from([(key.clone(), default.clone())]);
        if !is_met(asked, &filled_in) {
            found.push((
                ".default",
                format!("{default:?} does not meet what the standard itself asks of {key}"),
                "choose a default that the standard allows",
            ));
        }
    }
    if let Some(protection) = &asked.protected {
        let never = |value: &&String| {
            let one = Labels::from([(key.clone(), (*value).clone())]);
            !is_met(asked, &one)
        };
        if let Some(value) = protection.values.iter().find(never) {
            found.push((
                ".protected.values",
                format!("{value:?} is protected, but {key} may never have it"),
                "protect values that the label may have",
            ));
        }
        if protection.users.is_empty()
            && protection.groups.is_empty()
            && protection.service_accounts.is_empty()
        {
            found.push((
                ".protected",
                format!("nobody is named who may set {key}"),
                "name at least one user, group or service account",
            ));
        }
    }
    found
}

/// The findings for a standard that is about to be stored.
pub fn judge_standard(standard: &LabelStandard) -> Vec<Finding> {
    let name = standard.metadata.name.as_deref().unwrap_or_default();
    let object = Object::new("LabelStandard", &Key::cluster(name));
    let finding = |defect: Defect| Finding {
        code: defect.code,
        severity: Severity::Deny,
        object: object.clone(),
        field: defect.field,
        message: defect.reason,
        consequence: "this part would ask for nothing, or for what nobody can meet".to_owned(),
        mend: Some(Mend::text(defect.mend)),
    };
    defects(&standard.spec).into_iter().map(finding).collect()
}

/// The pattern for whole values: a part that matches is not enough.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(1 << 18)
        .build()
}
