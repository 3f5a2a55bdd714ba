//! What is decided, as tables of requests.

mod effects;
mod guard;
mod hostile;
mod labels;
mod weights;

use ringfence_netpol::lint::{Level, Severities};

use super::testing::{Ask, body, cluster};
use super::*;
use crate::answer::answer;
use crate::envelope::open;

/// 2027-01-15, noon.
const NOW: i64 = 1_800_014_400;

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
    review(&request, &Review::default(), Some(&Seen::of(&cluster())), NOW)
}

/// `+` taken, `-` refused; the codes of what was found, `!` where refused for it.
fn verdict(decision: &Decision) -> String {
    let mut text = if decision.allowed() { "+" } else { "-" }.to_owned();
    // What a change does to the cluster has its own tests.
    for finding in decision
        .findings
        .iter()
        .filter(|finding| !finding.code.starts_with("SM"))
    {
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
fn a_baseline_that_cannot_be_understood_is_warned_of() {
    let with = |fact: &str| {
        format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: b}}, spec: {{namespaceSelector: {{}}, policies: [
            {{name: p, spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{fact: {fact}}}]}}}}]}}}}"
        )
    };
    assert_eq!(
        verdict(&decide("namespacebaselines", &with("dsn"), None)),
        "+ BG010"
    );
    assert_eq!(verdict(&decide("namespacebaselines", &with("dns"), None)), "+");
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
    assert_eq!(
        verdict(&decide("networkpolicies", &going, Some(TO_DNS_BY_NAME))),
        "+ NP002",
        "it is only let go"
    );
    assert_eq!(
        verdict(&decide("networkpolicies", &going, Some(GOOD))),
        "- NP002!",
        "until it is gone it is enforced"
    );
    let odd = "{metadata: {name: s}, spec: {labels: [{key: team, pattern: '('}]}}";
    assert_eq!(verdict(&decide("labelstandards", odd, Some(odd))), "+ LS001");
}

#[test]
fn without_a_view_the_rules_that_need_none_judge_and_the_answer_says_so() {
    let without = |resource: &str, object: &str| {
        let request = open(&body(resource, object, None)).unwrap();
        review(&request, &Review::default(), None, NOW)
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
fn excluded_namespaces_and_other_kinds_are_not_judged() {
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    let settings = Review {
        excluded_namespaces: vec!["shop".to_owned()],
        ..Review::default()
    };
    assert!(
        review(&request, &settings, Some(&Seen::of(&cluster())), NOW)
            .findings
            .is_empty()
    );
    let other = decide("configmaps", "{metadata: {name: x}}", None);
    assert_eq!(
        (other.allowed(), other.notes.as_slice()),
        (true, [NOT_JUDGED].as_slice())
    );
    let gone = Ask {
        resource: "configmaps",
        ..Ask::default()
    };
    let gone = review(&open(&gone.body()).unwrap(), &Review::default(), None, NOW);
    assert_eq!((gone.allowed(), gone.notes.len()), (true, 0));
}

#[test]
fn only_a_refusal_by_comparison_with_the_cluster_rests_on_the_view() {
    assert!(decide("networkpolicies", TO_DNS_BY_NAME, None).rests_on_view());
    assert!(!decide("networkpolicies", GOOD, None).rests_on_view());
    assert!(!decide("networkpolicies", "{metadata: {name: web}, spec: 7}", None).rests_on_view());
    assert!(!decide("namespaces", "{metadata: {name: new}}", None).rests_on_view());
}

/// A cluster in which `shop` has what the generator made, `app: api` is protected, and `team` has a default.
fn guarded() -> Cluster {
    let mut cluster = cluster();
    let baseline: serde_json::Value = serde_yaml_ng::from_str(
        "{namespaceSelector: {}, policies: [{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}]}",
    )
    .unwrap();
    cluster.baselines.apply(
        Key::cluster("starter"),
        api::NamespaceBaseline::new("starter", serde_json::from_value(baseline).unwrap()),
    );
    let standard = "{kinds: [Pod], labels: [{key: app, required: false, protected: {values: [api], users: [root]}}, \
                    {key: team, default: none}]}";
    cluster.standards.reset([(
        Key::cluster("pods"),
        LabelStandard::new("pods", serde_yaml_ng::from_str(standard).unwrap()),
    )]);
    let deny = "{metadata: {name: default-deny, namespace: shop}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
    cluster.apply::<NetworkPolicy>(&serde_yaml_ng::from_str(deny).unwrap());
    cluster
}

const GENERATED: &str = "
    metadata: {name: default-deny, labels: {app.kubernetes.io/managed-by: ringfence, ringfence.dev/baseline: starter}}
    spec: {podSelector: {}, policyTypes: [Ingress, Egress]}";

fn asked(ask: Ask<'_>, settings: &Review) -> Decision {
    review(
        &open(&ask.body()).unwrap(),
        settings,
        Some(&Seen::of(&guarded())),
        NOW,
    )
}

fn answered(ask: Ask<'_>) -> String {
    verdict(&asked(ask, &Review::default()))
}

#[test]
fn what_the_api_server_dropped_is_seen_where_kubectl_left_it() {
    let applied = |spec: &str| {
        let text = format!(
            r#"{{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{{"name":"own"}},"spec":{spec}}}"#
        );
        serde_json::json!({
            "metadata": {"name": "own", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}},
            "spec": {"podSelector": {"matchLabels": {"app": "not-yet"}}, "ingress": [{"from": [{"podSelector": {}}]}]},
        })
        .to_string()
    };
    let misplaced = applied(r#"{"podSelector":{},"ingress":[{"to":[{"podSelector":{}}]}]}"#);
    let right = applied(r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}]}"#);
    let codes = |object: &str, old: Option<&str>| verdict(&decide("networkpolicies", object, old));
    assert!(
        codes(&misplaced, None).contains("NP008!"),
        "{}",
        codes(&misplaced, None)
    );
    assert!(!codes(&right, None).contains("NP008"));
    // An annotation that another client left standing says nothing about what this one sent.
    let changed = misplaced.replace("not-yet", "later");
    assert!(!codes(&changed, Some(&misplaced)).contains("NP008"));
    assert!(!codes(&applied("no json"), None).contains("NP008"));
}
