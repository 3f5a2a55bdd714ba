//! What is decided, as tables of requests.

use super::testing::{body, cluster};
use super::*;
use crate::answer::answer;
use crate::envelope::open;
use proptest::prelude::*;
use ringfence_netpol::lint::{Level, Severities};

const TO_DNS_BY_NAME: &str = "
    metadata: {name: web}
    spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}";
const GOOD: &str = "
    metadata: {name: web}
    spec: {podSelector: {matchLabels: {app: not-yet}}, ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]}";
const ELSEWHERE: &str = "
    metadata: {name: web}
    spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: prometheus}}}]}]}";

fn decide(resource: &str, object: &str, old: Option<&str>) -> Decision {
    let request = open(&body(resource, object, old)).unwrap();
    review(&request, &Review::default(), Some(&cluster()))
}

/// `+` taken, `-` refused; the codes of what was found, `!` where refused for it.
fn verdict(decision: &Decision) -> String {
    let mut text = if decision.allowed() { "+" } else { "-" }.to_owned();
    for finding in &decision.findings {
        let mark = if finding.severity == Severity::Deny {
            "!"
        } else {
            ""
        };
        text.push_str(&format!(" {}{mark}", finding.code));
    }
    text
}

#[test]
fn policies_are_refused_warned_of_or_taken() {
    let table = [
        (TO_DNS_BY_NAME, "- NP002!"),
        (GOOD, "+"),
        (ELSEWHERE, "+ NP004"),
        (
            "{metadata: {name: web}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: later}}}]}]}}",
            "+ NP003",
        ),
        (
            "{metadata: {name: web}, spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}}",
            "- NP001!",
        ),
        ("{metadata: {name: web}}", "+"),
        ("{metadata: {name: web}, spec: {}}", "+ NP014"),
    ];
    for (object, expected) in table {
        assert_eq!(
            verdict(&decide("networkpolicies", object, None)),
            expected,
            "{object}"
        );
    }
}

#[test]
fn namespaces_are_held_to_the_standard() {
    let table = [
        ("{metadata: {name: new}}", None, "- LB001!"),
        ("{metadata: {name: new, labels: {tier: gold}}}", None, "+"),
        ("{metadata: {name: new, labels: {tier: tin}}}", None, "- LB002!"),
        ("{metadata: {name: kube-system}}", None, "+"),
        (
            "{metadata: {name: old, annotations: {a: b}}}",
            Some("{metadata: {name: old}}"),
            "+ LB001",
        ),
        (
            "{metadata: {name: old}}",
            Some("{metadata: {name: old, labels: {tier: gold}}}"),
            "- LB001!",
        ),
        (
            "{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z'}}",
            Some("{metadata: {name: old, labels: {tier: gold}}}"),
            "+ LB001",
        ),
    ];
    for (object, old, expected) in table {
        assert_eq!(
            verdict(&decide("namespaces", object, old)),
            expected,
            "{object} after {old:?}"
        );
    }
}

#[test]
fn a_standard_that_cannot_be_understood_is_refused() {
    let bad = "{metadata: {name: s}, spec: {labels: [{key: team, pattern: '('}]}}";
    let good = "{metadata: {name: s}, spec: {labels: [{key: team, pattern: '[a-z]+'}]}}";
    assert_eq!(verdict(&decide("labelstandards", bad, None)), "- LS001!");
    assert_eq!(verdict(&decide("labelstandards", good, None)), "+");
}

#[test]
fn who_does_not_touch_the_specification_is_not_stopped_by_it() {
    let annotated = TO_DNS_BY_NAME.replace("{name: web}", "{name: web, annotations: {a: b}}");
    assert_eq!(
        verdict(&decide("networkpolicies", &annotated, Some(TO_DNS_BY_NAME))),
        "+ NP002"
    );
    assert_eq!(
        verdict(&decide("networkpolicies", TO_DNS_BY_NAME, Some(GOOD))),
        "- NP002!"
    );
    let going = TO_DNS_BY_NAME.replace(
        "{name: web}",
        "{name: web, deletionTimestamp: '2026-01-01T00:00:00Z'}",
    );
    assert_eq!(verdict(&decide("networkpolicies", &going, Some(GOOD))), "+ NP002");
}

#[test]
fn without_a_view_the_rules_that_need_none_judge_and_the_answer_says_so() {
    let without = |resource: &str, object: &str| {
        let request = open(&body(resource, object, None)).unwrap();
        review(&request, &Review::default(), None)
    };
    let decision = without("networkpolicies", TO_DNS_BY_NAME);
    assert_eq!(
        (verdict(&decision).as_str(), decision.notes.as_slice()),
        ("+", [NO_VIEW].as_slice())
    );
    let broken = "{metadata: {name: web}, spec: {podSelector: {}, ingress: [{from: [{}]}]}}";
    assert_eq!(verdict(&without("networkpolicies", broken)), "- NP001!");
    let decision = without("namespaces", "{metadata: {name: new}}");
    assert_eq!(
        (verdict(&decision).as_str(), decision.notes.as_slice()),
        ("+", [NO_VIEW].as_slice())
    );
}

#[test]
fn excluded_namespaces_other_kinds_and_deletions_are_not_judged() {
    let mut request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    let settings = Review {
        excluded_namespaces: vec!["shop".to_owned()],
        ..Review::default()
    };
    assert!(review(&request, &settings, Some(&cluster())).findings.is_empty());
    request.operation = Operation::Delete;
    assert!(
        review(&request, &Review::default(), Some(&cluster()))
            .findings
            .is_empty()
    );
    let other = decide("configmaps", "{metadata: {name: x}}", None);
    assert_eq!(
        (other.allowed(), other.notes.as_slice()),
        (true, [NOT_JUDGED].as_slice())
    );
}

#[test]
fn severities_are_the_platform_teams() {
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    for (level, expected) in [(Level::Warn, "+ NP002"), (Level::Off, "+")] {
        let settings = Review {
            severities: Severities::default().with("NP002", level),
            ..Review::default()
        };
        assert_eq!(verdict(&review(&request, &settings, Some(&cluster()))), expected);
    }
}

#[test]
fn an_object_that_is_not_what_its_kind_says_is_refused_and_never_a_crash() {
    for object in [
        "{metadata: {name: web}, spec: 7}",
        "{metadata: {name: web}, spec: {podSelector: [], ingress: {}}}",
        "{metadata: {name: web}, spec: {ingress: [{from: [{podSelector: {matchLabels: {a: 1}}}]}]}}",
        "{metadata: {name: web}, spec: {ingress: [{ports: [{port: 9999999999999}]}]}}",
    ] {
        let decision = decide("networkpolicies", object, None);
        assert!(!decision.allowed(), "{object}");
        assert!(decision.unreadable.unwrap().contains("NetworkPolicy"), "{object}");
    }
}

#[test]
fn only_a_refusal_by_comparison_with_the_cluster_rests_on_the_view() {
    assert!(decide("networkpolicies", TO_DNS_BY_NAME, None).rests_on_view());
    assert!(!decide("networkpolicies", GOOD, None).rests_on_view());
    assert!(!decide("networkpolicies", "{metadata: {name: web}, spec: 7}", None).rests_on_view());
    assert!(!decide("namespaces", "{metadata: {name: new}}", None).rests_on_view());
}

/// JSON that looks like a policy in places: known keys, and values of any type under them.
fn hostile() -> impl Strategy<Value = serde_json::Value> {
    let key = prop::sample::select(vec![
        "podSelector",
        "namespaceSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "policyTypes",
        "name",
        "app",
    ]);
    let text = prop::sample::select(vec![
        "",
        "In",
        "NotIn",
        "Exists",
        "Egress",
        "TCP",
        "kube-system",
        "frontnd",
        "10.0.0.0/8",
        "::/0",
        "\u{0}\n",
        "ä".repeat(300).leak(),
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::sample::select(vec![0, 53, 80, 65_536, -1]).prop_map(Into::into),
        text.prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_an_object_holds_it_is_answered_by_its_uid_and_in_words_that_travel(spec in hostile(), labels in hostile()) {
        let object = serde_json::json!({"metadata": {"name": "web", "labels": labels}, "spec": spec}).to_string();
        for resource in ["networkpolicies", "namespaces", "labelstandards"] {
            let Ok(request) = open(&body(resource, &object, None)) else {
                continue; // metadata that is none
            };
            let response = answer(&request, &review(&request, &Review::default(), Some(&cluster())));
            prop_assert_eq!(response.uid, "uid-1");
            prop_assert!(response.allowed || !response.result.message.is_empty());
            for warning in response.warnings.iter().flatten() {
                prop_assert!(!warning.chars().any(char::is_control), "{}", warning);
            }
        }
    }
}
