//! The labels of one object against every standard that is for it.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::patterns::Patterns;
use super::{
    FORBIDDEN, IMMUTABLE, MISSING, NO_MATCH, NOT_ALLOWED, PROTECTED, SYSTEM_NAMESPACES, defect::whole,
};
use crate::api::{Enforcement, Kind, LabelRequirement, LabelStandard, LabelStandardSpec};
use crate::cluster::Store;
use crate::finding::{Finding, Mend, Object, Severity};
use crate::requester::Requester;
use crate::selector::{Labels, Selector};

/// An object that is about to be stored, as far as standards go.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub kind: Kind,
    pub object: Object,
    /// The namespace that it is in; of a namespace, its own name.
    pub namespace: &'a str,
    /// The labels of that namespace; of a namespace, those that it is to have. `None`: not known, and then it may be held to
    /// any standard.
    pub namespace_labels: Option<&'a Labels>,
    /// The labels that policies will see.
    pub labels: &'a Labels,
    /// `None` if it is new.
    pub before: Option<Before<'a>>,
    pub requester: &'a Requester,
    /// Whether a controller made it by a template that was judged: see [`super::controller`].
    pub by_controller: bool,
}

/// The object as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    pub labels: &'a Labels,
}

/// What a requirement says of an object, still without standard and severity.
struct Found {
    code: &'static str,
    message: String,
    mend: Mend,
}

/// What the cluster's standards say of an object. What the stored one has already is only warned of: a standard that comes
/// later must not stop others from working on what was there before.
pub fn judge(subject: &Subject<'_>, standards: &Store<LabelStandard>) -> Vec<Finding> {
    judge_by(subject, standards, &Patterns::default())
}

/// The same for one of many objects, with the patterns of these standards as they were read already.
pub fn judge_by(
    subject: &Subject<'_>,
    standards: &Store<LabelStandard>,
    patterns: &Patterns,
) -> Vec<Finding> {
    if SYSTEM_NAMESPACES.contains(&subject.namespace) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (key, standard) in standards.iter() {
        let spec = &standard.spec;
        if !subject.kind.is_among(&spec.kinds) {
            continue;
        }
        let held = holds(spec, subject.namespace, subject.namespace_labels);
        // A namespace does not get out of a standard by the very change that the standard is about.
        let was_held = match (subject.kind, subject.before) {
            (Kind::Namespace, Some(before)) => holds(spec, subject.namespace, Some(before.labels)),
            _ => held,
        };
        for asked in &spec.labels {
            let weigh =
                |found: Found, severity: Severity| finding(&key.name, asked, subject, found, severity);
            let severity = match spec.enforcement {
                Enforcement::Deny if !subject.by_controller => Severity::Deny,
                Enforcement::Deny | Enforcement::Warn => Severity::Warn,
            };
            if held && let Some(found) = state(asked, subject.labels, patterns) {
                let known = subject.before.is_some_and(|before| {
                    state(asked, before.labels, patterns)
                        .is_some_and(|before| before.message == found.message)
                });
                findings.push(weigh(found, if known { Severity::Warn } else { severity }));
            }
            if held || was_held {
                let changes = change(asked, subject).into_iter();
                findings.extend(changes.map(|found| weigh(found, severity)));
            }
        }
    }
    findings
}

/// A standard that pods of a namespace are held to with its labels as they were, and are not with these. One that only warns is nothing to get
/// out of.
pub fn released<'a>(
    name: &str,
    before: &Labels,
    after: &Labels,
    standards: &'a Store<LabelStandard>,
) -> Option<&'a str> {
    let of_pods = |spec: &LabelStandardSpec| spec.kinds.iter().any(|kind| *kind != Kind::Namespace);
    let mut all = standards.iter();
    all.find(|(_, LabelStandard { spec, .. })| {
        of_pods(spec)
            && matches!(spec.enforcement, Enforcement::Deny)
            && holds(spec, name, Some(before))
            && !holds(spec, name, Some(after))
    })
    .map(|(key, _)| key.name.as_str())
}

/// Whether a namespace is held to a standard. A selector that cannot be understood holds nobody: it was refused at admission, and
/// to hold everybody would stop the cluster.
pub(super) fn holds(spec: &LabelStandardSpec, name: &str, labels: Option<&Labels>) -> bool {
    if SYSTEM_NAMESPACES.contains(&name) || spec.excluded_namespaces.iter().any(|excluded| excluded == name) {
        return false;
    }
    match (&spec.namespace_selector, labels) {
        (None, _) => true,
        (Some(selector), Some(labels)) => {
            Selector::parse(selector).is_ok_and(|selector| selector.matches(labels))
        }
        (Some(selector), None) => Selector::parse(selector).is_ok(),
    }
}

/// What is wrong with labels as they are, whoever set them.
fn state(asked: &LabelRequirement, labels: &Labels, patterns: &Patterns) -> Option<Found> {
    state_by(asked, labels, |pattern, value| patterns.allow(pattern, value))
}

fn state_by(
    asked: &LabelRequirement,
    labels: &Labels,
    allow: impl FnOnce(&str, &str) -> bool,
) -> Option<Found> {
    let LabelRequirement { key, .. } = asked;
    let found = |code, message, mend| Some(Found { code, message, mend });
    let Some(value) = labels.get(key) else {
        if !asked.is_required() {
            return None;
        }
        return found(MISSING, format!("the label {key} is missing"), set(asked));
    };
    if asked.forbidden {
        return found(
            FORBIDDEN,
            format!("the label {key} is forbidden"),
            Mend::text(format!("take {key} away")),
        );
    }
    let allowed = asked.allowed_values.as_ref();
    if allowed.is_some_and(|allowed| !allowed.contains(value)) {
        return found(
            NOT_ALLOWED,
            format!("{value:?} is no allowed value of the label {key}"),
            set(asked),
        );
    }
    let pattern = asked.pattern.as_deref()?;
    if allow(pattern, value) {
        return None;
    }
    found(
        NO_MATCH,
        format!("{value:?}, the value of the label {key}, does not match {pattern}"),
        set(asked),
    )
}

/// Whether a requirement is met, whoever set the labels.
pub(super) fn is_met(asked: &LabelRequirement, labels: &Labels) -> bool {
    state(asked, labels, &Patterns::default()).is_none()
}

/// A requirement that many objects are asked: its pattern is read once.
pub(super) struct Asked<'a> {
    requirement: &'a LabelRequirement,
    whole: Option<Regex>,
}

impl<'a> Asked<'a> {
    pub fn new(requirement: &'a LabelRequirement) -> Self {
        let pattern = requirement.pattern.as_deref();
        Self {
            requirement,
            whole: pattern.and_then(|pattern| whole(pattern).ok()),
        }
    }

    pub fn is_met(&self, labels: &Labels) -> bool {
        // A pattern that cannot be understood asks for nothing.
        let allow = |_: &str, value: &str| self.whole.as_ref().is_none_or(|whole| whole.is_match(value));
        state_by(self.requirement, labels, allow).is_none()
    }
}

/// What is wrong with how a label changes.
fn change(asked: &LabelRequirement, subject: &Subject<'_>) -> Vec<Found> {
    let LabelRequirement { key, .. } = asked;
    let new = subject.labels.get(key);
    let old = subject.before.and_then(|before| before.labels.get(key));
    if old == new {
        return Vec::new();
    }
    let what = match (old, new) {
        (None, Some(new)) => format!("the label {key} is set to {new:?}"),
        (Some(old), Some(new)) => format!("the label {key} is changed from {old:?} to {new:?}"),
        (old, None) => format!(
            "the label {key}, {:?}, is taken away",
            old.map_or("", String::as_str)
        ),
    };
    let back = match old {
        Some(old) => one_label(format!("leave {key} as it is"), subject.kind, key, old),
        None => Mend::text(format!("leave {key} out")),
    };
    let mut found = Vec::new();
    if asked.immutable && old.is_some() {
        found.push(Found {
            code: IMMUTABLE,
            message: format!("{what}, which may not change once it is set"),
            mend: back.clone(),
        });
    }
    if let Some(protection) = &asked.protected {
        let touched = protection.covers(old) || protection.covers(new);
        // What is filled in for everybody is nobody's claim.
        let filled_in = old.is_none() && new == asked.default.as_ref();
        if touched && !filled_in && !protection.named().includes(subject.requester) {
            let named = protection.named();
            found.push(Found {
                code: PROTECTED,
                message: format!(
                    "{what} by {}, which only {named} may do",
                    subject.requester.shown()
                ),
                mend: Mend {
                    text: format!("{}, or ask {named}", back.text),
                    ..back
                },
            });
        }
    }
    found
}

fn set(asked: &LabelRequirement) -> Mend {
    let key = &asked.key;
    let example = asked.allowed_values.as_ref().and_then(|values| values.first());
    match (&asked.allowed_values, &asked.pattern, example) {
        (Some(values), _, Some(example)) => Mend::yaml(
            format!("set {key} to one of {}, for example", values.join(", ")),
            json!({"metadata": {"labels": Map::from_iter([(key.clone(), Value::from(example.as_str()))])}}),
        ),
        (_, Some(pattern), _) => Mend::text(format!("set {key} to a value that matches {pattern}")),
        _ => Mend::text(format!("set {key}")),
    }
}

/// A mend that shows a label where it stands in the object.
fn one_label(text: String, kind: Kind, key: &str, value: &str) -> Mend {
    let label = json!(Map::from_iter([(key.to_owned(), Value::from(value))]));
    let yaml = kind.labels_at().iter().rev().fold(label, |below, token| {
        json!(Map::from_iter([((*token).to_owned(), below)]))
    });
    Mend::yaml(text, yaml)
}

fn finding(
    standard: &str,
    asked: &LabelRequirement,
    subject: &Subject<'_>,
    found: Found,
    severity: Severity,
) -> Finding {
    let key = &asked.key;
    let why = asked.description.as_ref().map(|text| format!(" ({text:?})"));
    let effect = match (found.code, subject.kind) {
        (MISSING | NOT_ALLOWED | NO_MATCH, Kind::Namespace) => {
            format!("policies that select by {key} miss this namespace")
        }
        (MISSING | NOT_ALLOWED | NO_MATCH, Kind::Pod) => {
            format!("policies that select by {key} miss this pod")
        }
        (MISSING | NOT_ALLOWED | NO_MATCH, _) => format!("policies that select by {key} miss these pods"),
        (_, Kind::Namespace) => format!("who changes {key} changes which policies mean this namespace"),
        (_, _) => format!("who changes {key} changes whom these pods may reach"),
    };
    Finding {
        code: found.code,
        severity,
        object: subject.object.clone(),
        field: format!("{}[{key}]", subject.kind.field()),
        message: found.message,
        consequence: format!(
            "the label standard {standard}{} is not met, and {effect}",
            why.unwrap_or_default()
        ),
        mend: Some(found.mend),
    }
}
