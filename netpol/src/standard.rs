//! Label standards: what they ask of an object, and whether they can be understood themselves.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::api::{Enforcement, Kind, LabelRequirement, LabelStandard, LabelStandardSpec};
use crate::cluster::{Cluster, Key, Store};
use crate::finding::{Finding, Mend, Object, Severity};
use crate::selector::{Labels, Selector};
use crate::syntax::is_label_value;

/// Namespaces that no standard and no baseline ever touches: Kubernetes's own, which nobody labels, and ours.
pub const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "ringfence-system",
];

/// A required label is missing.
pub const MISSING: &str = "LB001";
/// A label has a value that is not among the allowed ones.
pub const NOT_ALLOWED: &str = "LB002";
/// A label has a value that does not match the pattern.
pub const NO_MATCH: &str = "LB003";
/// A standard cannot be understood.
pub const UNREADABLE: &str = "LS001";

/// Every code that this module gives, for those who count them.
pub const CODES: [&str; 4] = [MISSING, NOT_ALLOWED, NO_MATCH, UNREADABLE];

/// Why a part of a standard cannot be understood; that part then asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Defect {
    /// As `spec.labels[0].pattern`.
    pub field: String,
    pub reason: String,
    pub mend: String,
}

/// What the cluster's standards ask of a namespace with these labels.
pub fn judge_namespace(name: &str, labels: &Labels, standards: &Store<LabelStandard>) -> Vec<Finding> {
    if SYSTEM_NAMESPACES.contains(&name) {
        return Vec::new();
    }
    let object = Object::new("Namespace", &Key::cluster(name));
    let mut findings = Vec::new();
    for (key, standard) in standards.iter() {
        let spec = &standard.spec;
        if !spec.kinds.contains(&Kind::Namespace) || !holds(spec, name, labels) {
            continue;
        }
        let asked = spec.labels.iter();
        findings.extend(asked.filter_map(|asked| judge(&key.name, spec.enforcement, asked, labels, &object)));
    }
    findings
}

/// Whether a namespace is held to a standard. A selector that cannot be understood holds nobody: it was
/// refused at admission, and to hold everybody would stop the cluster.
fn holds(spec: &LabelStandardSpec, name: &str, labels: &Labels) -> bool {
    let selected = match &spec.namespace_selector {
        None => true,
        Some(selector) => Selector::parse(selector).is_ok_and(|selector| selector.matches(labels)),
    };
    selected && !spec.excluded_namespaces.iter().any(|excluded| excluded == name)
}

fn judge(
    standard: &str,
    enforcement: Enforcement,
    asked: &LabelRequirement,
    labels: &Labels,
    object: &Object,
) -> Option<Finding> {
    let LabelRequirement { key, .. } = asked;
    let example = asked.allowed_values.as_ref().and_then(|values| values.first());
    let (code, message) = match labels.get(key) {
        None if asked.required => (MISSING, format!("the label {key} is missing")),
        None => return None,
        Some(value) => {
            let allowed = asked.allowed_values.as_ref();
            if allowed.is_some_and(|allowed| !allowed.contains(value)) {
                (
                    NOT_ALLOWED,
                    format!("{value:?} is no allowed value of the label {key}"),
                )
            } else {
                let pattern = asked.pattern.as_deref()?;
                let whole = whole(pattern).ok()?; // one that cannot be understood asks for nothing
                if whole.is_match(value) {
                    return None;
                }
                (
                    NO_MATCH,
                    format!("{value:?}, the value of the label {key}, does not match {pattern}"),
                )
            }
        }
    };
    let why = asked.description.as_ref().map(|text| format!(" ({text:?})"));
    Some(Finding {
        code,
        severity: match enforcement {
            Enforcement::Deny => Severity::Deny,
            Enforcement::Warn => Severity::Warn,
        },
        object: object.clone(),
        field: format!("metadata.labels[{key}]"),
        message,
        consequence: format!(
            "the label standard {standard}{} is not met, and policies that select by {key} miss this namespace",
            why.unwrap_or_default()
        ),
        mend: Some(mend(asked, example)),
    })
}

fn mend(asked: &LabelRequirement, example: Option<&String>) -> Mend {
    let key = &asked.key;
    match (&asked.allowed_values, &asked.pattern, example) {
        (Some(values), _, Some(example)) => Mend::yaml(
            format!("set {key} to one of {}, for example", values.join(", ")),
            json!({"metadata": {"labels": Map::from_iter([(key.clone(), Value::from(example.as_str()))])}}),
        ),
        (_, Some(pattern), _) => Mend::text(format!("set {key} to a value that matches {pattern}")),
        _ => Mend::text(format!("set {key}")),
    }
}

/// The pattern for whole values: a part that matches is not enough.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(1 << 18)
        .build()
}

/// What cannot be understood in a standard, beyond what its schema checks.
pub fn defects(spec: &LabelStandardSpec) -> Vec<Defect> {
    let mut found = Vec::new();
    if let Some(Err(error)) = spec.namespace_selector.as_ref().map(Selector::parse) {
        found.push(Defect {
            field: "spec.namespaceSelector".to_owned(),
            reason: error.to_string(),
            mend: "correct the selector".to_owned(),
        });
    }
    let mut seen = BTreeSet::new();
    for (index, asked) in spec.labels.iter().enumerate() {
        let field = format!("spec.labels[{index}]");
        let mut defect = |part: &str, reason: String, mend: &str| {
            found.push(Defect {
                field: format!("{field}{part}"),
                reason,
                mend: mend.to_owned(),
            });
        };
        if !seen.insert(&asked.key) {
            defect(
                ".key",
                format!("{} is listed before", asked.key),
                "list each key once",
            );
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
                ".pattern",
                reason,
                "write a regular expression in the syntax of RE2",
            );
        }
        for (at, value) in asked.allowed_values.iter().flatten().enumerate() {
            if !is_label_value(value) {
                defect(
                    &format!(".allowedValues[{at}]"),
                    format!("{value:?} can never be the value of a label"),
                    "use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
                );
            }
        }
    }
    found
}

/// The findings for a standard that is about to be stored.
pub fn judge_standard(standard: &LabelStandard) -> Vec<Finding> {
    let name = standard.metadata.name.as_deref().unwrap_or_default();
    let object = Object::new("LabelStandard", &Key::cluster(name));
    let finding = |defect: Defect| Finding {
        code: UNREADABLE,
        severity: Severity::Deny,
        object: object.clone(),
        field: defect.field,
        message: defect.reason,
        consequence: "this part would ask for nothing, or for what nobody can meet".to_owned(),
        mend: Some(Mend::text(defect.mend)),
    };
    defects(&standard.spec).into_iter().map(finding).collect()
}

/// The findings for a namespace that is about to be stored. What the stored one has already is only warned of:
/// a standard that comes later must not stop others from working on what was there before.
pub fn judge_change(name: &str, labels: &Labels, before: Option<&Labels>, cluster: &Cluster) -> Vec<Finding> {
    let known = before.map(|before| judge_namespace(name, before, &cluster.standards));
    let known = known.unwrap_or_default();
    let mut findings = judge_namespace(name, labels, &cluster.standards);
    for finding in &mut findings {
        if known.contains(finding) {
            finding.severity = Severity::Warn;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: &str = "
        labels:
        - {key: tier, allowedValues: [gold, silver], description: ask the platform team}
        - {key: team, pattern: '[a-z]+'}
        - {key: ringfence.dev/mode, required: false, allowedValues: [enforce, audit]}
    ";

    fn standards(specs: &[&str]) -> Store<LabelStandard> {
        let mut store = Store::default();
        for (index, spec) in specs.iter().enumerate() {
            let name = format!("standard-{index}");
            let standard = LabelStandard::new(&name, serde_yaml_ng::from_str(spec).unwrap());
            store.apply(Key::cluster(name), standard);
        }
        store
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn codes(specs: &[&str], name: &str, pairs: &[(&str, &str)]) -> Vec<&'static str> {
        let findings = judge_namespace(name, &labels(pairs), &standards(specs));
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn required_keys_allowed_values_and_patterns_are_held() {
        type Pairs = &'static [(&'static str, &'static str)];
        let table: &[(Pairs, &[&str])] = &[
            (&[("tier", "gold"), ("team", "web")], &[]),
            (&[("tier", "gold"), ("team", "web"), ("more", "x")], &[]),
            (&[("tier", "gold")], &[MISSING]),
            (&[], &[MISSING, MISSING]),
            (&[("tier", "tin"), ("team", "web")], &[NOT_ALLOWED]),
            (&[("tier", "gold"), ("team", "web7")], &[NO_MATCH]),
            (
                &[("tier", "gold"), ("team", "web"), ("ringfence.dev/mode", "audit")],
                &[],
            ),
            (
                &[("tier", "gold"), ("team", "web"), ("ringfence.dev/mode", "audti")],
                &[NOT_ALLOWED],
            ),
        ];
        for (pairs, expected) in table {
            assert_eq!(codes(&[STANDARD], "shop", pairs), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn system_and_excluded_namespaces_and_those_not_selected_are_left_alone() {
        for name in SYSTEM_NAMESPACES {
            assert!(codes(&[STANDARD], name, &[]).is_empty(), "{name}");
        }
        let excluded = "{excludedNamespaces: [shop], labels: [{key: team}]}";
        assert!(codes(&[excluded], "shop", &[]).is_empty());
        assert_eq!(codes(&[excluded], "shop-2", &[]), [MISSING]);
        let selected = "{namespaceSelector: {matchLabels: {tenant: 'yes'}}, labels: [{key: team}]}";
        assert!(codes(&[selected], "shop", &[]).is_empty());
        assert_eq!(codes(&[selected], "shop", &[("tenant", "yes")]), [MISSING]);
    }

    #[test]
    fn what_was_so_before_is_only_warned_of_and_what_is_new_is_refused() {
        let cluster = Cluster {
            standards: standards(&[STANDARD]),
            ..Cluster::default()
        };
        let severities = |before: Option<&[(&str, &str)]>, after: &[(&str, &str)]| {
            let before = before.map(labels);
            let findings = judge_change("shop", &labels(after), before.as_ref(), &cluster);
            findings
                .iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>()
        };
        use Severity::{Deny, Warn};
        assert_eq!(severities(None, &[]), [Deny, Deny]);
        assert_eq!(severities(Some(&[]), &[("note", "x")]), [Warn, Warn]);
        assert_eq!(severities(Some(&[("tier", "gold")]), &[]), [Deny, Warn]);
        assert_eq!(
            severities(Some(&[("tier", "tin")]), &[("tier", "zinc")]),
            [Deny, Warn]
        );
    }

    #[test]
    fn a_finding_names_the_standard_the_values_and_the_reason() {
        let findings = judge_namespace("shop", &labels(&[("team", "web")]), &standards(&[STANDARD]));
        insta::assert_snapshot!(findings[0], @r#"
        LB001 metadata.labels[tier]
          found:       the label tier is missing
          consequence: the label standard standard-0 ("ask the platform team") is not met, and policies that select by tier miss this namespace
          mend:        set tier to one of gold, silver, for example
            metadata:
              labels:
                tier: gold
        "#);
    }

    #[test]
    fn a_standard_warns_if_it_says_so() {
        let findings = judge_namespace(
            "shop",
            &Labels::new(),
            &standards(&["{enforcement: warn, labels: [{key: team}]}"]),
        );
        assert_eq!(findings[0].severity, Severity::Warn);
    }

    #[test]
    fn what_cannot_be_understood_in_a_standard_is_named() {
        let table = [
            ("{labels: [{key: a, pattern: '('}]}", "spec.labels[0].pattern"),
            (
                "{labels: [{key: a, pattern: '(a{1000}){1000}'}]}",
                "spec.labels[0].pattern",
            ),
            ("{labels: [{key: a}, {key: a}]}", "spec.labels[1].key"),
            (
                "{labels: [{key: a, allowedValues: [ok, 'not ok']}]}",
                "spec.labels[0].allowedValues[1]",
            ),
            (
                "{namespaceSelector: {matchExpressions: [{key: a, operator: Like}]}, labels: [{key: a}]}",
                "spec.namespaceSelector",
            ),
        ];
        for (spec, field) in table {
            let spec: LabelStandardSpec = serde_yaml_ng::from_str(spec).unwrap();
            let found: Vec<String> = defects(&spec).into_iter().map(|defect| defect.field).collect();
            assert_eq!(found, [field], "{spec:?}");
        }
        let good: LabelStandardSpec = serde_yaml_ng::from_str(STANDARD).unwrap();
        assert_eq!(defects(&good), []);
    }

    #[test]
    fn a_pattern_must_match_the_whole_value() {
        let spec = "{labels: [{key: team, pattern: 'a|b'}]}";
        assert!(codes(&[spec], "shop", &[("team", "b")]).is_empty());
        for value in ["ab", "xa", "bx"] {
            assert_eq!(codes(&[spec], "shop", &[("team", value)]), [NO_MATCH], "{value}");
        }
    }
}
