//! NP008: a field that the API server does not know, and drops.

use serde_json::{Map, Value};

use crate::finding::{Fix, Mend, Severity};
use crate::lint::{Found, Needs, Rule, Subject};

pub(super) const RULE: Rule = Rule {
    code: "NP008",
    name: "field-dropped",
    finds: "a field that no NetworkPolicy has at that place",
    why: "The API server drops what it does not know, and says so only to clients that ask. What remains may mean the opposite: \
          of a rule under `ingress` whose peers stand under `to`, a rule is left that lets everyone in. In a request it can no longer be seen, but \
          where `kubectl apply` leaves what it was given it can, and in files.",
    severity: Severity::Deny,
    needs: Needs::Nothing,
    bad: "\
podSelector: {}
ingress:
- to:
  - podSelector: {matchLabels: {app: frontend}}
",
    beside: "",
    good: "\
podSelector: {}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
",
    check,
};

/// A part of the specification: the fields that it has, each with the part that stands under it.
struct Part(&'static [(&'static str, Option<&'static Part>)]);

const SELECTOR: Part = Part(&[("matchLabels", None), ("matchExpressions", Some(&EXPRESSION))]);
const EXPRESSION: Part = Part(&[("key", None), ("operator", None), ("values", None)]);
const BLOCK: Part = Part(&[("cidr", None), ("except", None)]);
const PEER: Part = Part(&[
    ("podSelector", Some(&SELECTOR)),
    ("namespaceSelector", Some(&SELECTOR)),
    ("ipBlock", Some(&BLOCK)),
]);
const PORT: Part = Part(&[("port", None), ("protocol", None), ("endPort", None)]);
const INGRESS: Part = Part(&[("from", Some(&PEER)), ("ports", Some(&PORT))]);
const EGRESS: Part = Part(&[("to", Some(&PEER)), ("ports", Some(&PORT))]);
const SPEC: Part = Part(&[
    ("podSelector", Some(&SELECTOR)),
    ("policyTypes", None),
    ("ingress", Some(&INGRESS)),
    ("egress", Some(&EGRESS)),
]);
const POLICY: Part = Part(&[
    ("apiVersion", None),
    ("kind", None),
    ("metadata", None),
    ("spec", Some(&SPEC)),
    ("status", None),
]);

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(written) = subject.written {
        walk(written, &POLICY, "", &mut found);
    }
    found
}

fn walk(value: &Value, part: &Part, path: &str, found: &mut Vec<Found>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, part, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let field = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match part.0.iter().find(|(known, _)| known == key) {
                    Some((_, Some(below))) => walk(value, below, &field, found),
                    Some((_, None)) => {}
                    None => found.push(dropped(key, part, path, field, fields)),
                }
            }
        }
        _ => {}
    }
}

fn dropped(key: &str, part: &Part, path: &str, field: String, beside: &Map<String, Value>) -> Found {
    let known: Vec<&str> = part.0.iter().map(|(known, _)| *known).collect();
    let turned = match (key, known.first()) {
        ("to", Some(&"from")) => Some("from"),
        ("from", Some(&"to")) => Some("to"),
        _ => None,
    };
    let near = || {
        let similar = |known: &&&str| strsim::osa_distance(&known.to_lowercase(), &key.to_lowercase()) <= 2;
        known.iter().find(similar).copied()
    };
    let consequence = match turned {
        Some(right) => format!("the API server drops it, and a rule without `{right}` is open to anyone"),
        None => "the API server drops it, and the policy means what is left".to_owned(),
    };
    let mend = match (turned, near()) {
        (Some(right), _) => Mend::text(format!(
            "write `{right}`, or move the rule to `{}`",
            if right == "from" { "egress" } else { "ingress" }
        )),
        // A key that is there already leaves open which of the two was meant.
        (None, Some(near)) if beside.contains_key(near) => {
            Mend::text(format!("remove it: `{near}` is there already"))
        }
        // Two letters of a short word make another word.
        (None, Some(near)) if strsim::osa_distance(near, key) * 3 <= key.len() => {
            Mend::text(format!("write `{near}`")).sure([Fix::Rename {
                field: field.clone(),
                key: near.to_owned(),
            }])
        }
        (None, Some(near)) => Mend::text(format!("write `{near}`")),
        (None, None) => Mend::text(format!("remove it, or write one of {}", known.join(", "))),
    };
    Found {
        field,
        message: match path {
            "" => format!("a NetworkPolicy has no `{key}`"),
            path => format!("`{path}` has no `{key}`"),
        },
        consequence,
        mend: Some(mend),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn unknown_and_misplaced_fields_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {matchLabel: {app: api}}
            ingress:
            - to: [{podSelector: {}}]
              ports: [{port: 80, portocol: UDP}]
            egres: []
        "
        ));
    }

    #[test]
    fn a_policy_with_every_field_is_not_found() {
        good(
            &RULE,
            &Live::default(),
            "{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}, policyTypes: [Ingress, Egress],
              ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}}], ports: [{port: 1, endPort: 2, protocol: TCP}]}],
              egress: [{to: [{namespaceSelector: {matchLabels: {to: x}}}]}]}",
        );
    }
}
