use super::super::Baselines;
use super::super::plan::Cause;
use super::super::testing::baseline;
use super::*;
use crate::cluster::Cluster;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;

const GOOD: &str = "{namespaceSelector: {}, policies: [
    {name: deny, spec: {podSelector: {}, policyTypes: [Ingress]}},
    {name: in, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}]}";

fn read(spec: &str) -> Baseline {
    let mut cluster = Cluster::default();
    cluster.apply(&baseline("b", spec));
    Baselines::read(&cluster, &BTreeMap::new())
        .get("b")
        .unwrap()
        .clone()
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn tally(outcomes: &[(&str, Outcome)]) -> Tally {
    let mut tally = Tally::default();
    for (namespace, outcome) in outcomes {
        tally.add(namespace, outcome);
    }
    tally
}

fn ready() -> Outcome {
    Outcome {
        ready: true,
        ..Outcome::default()
    }
}

fn foreign() -> Outcome {
    let problem = Problem {
        baseline: "b".to_owned(),
        policy: "deny".to_owned(),
        cause: Cause::Foreign,
    };
    Outcome {
        problems: vec![problem],
        ..Outcome::default()
    }
}

/// The condition as `Ready=False Conflicting: …`.
fn said(status: &NamespaceBaselineStatus, kind: &str) -> String {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .unwrap();
    format!(
        "{}={} {}: {}",
        condition.type_, condition.status, condition.reason, condition.message
    )
}

#[test]
fn an_invalid_baseline_says_what_is_wrong_and_what_follows() {
    let bad = read(
        "{namespaceSelector: {}, policies: [{name: p, spec: {podSelector: {}, policyTypes: [Egress],
        egress: [{fact: dsn}, {fact: nds}]}}]}",
    );
    let status = status(&bad, &Tally::default(), None, &at(1));
    assert_eq!(
        said(&status, "Ready"),
        "Ready=False Invalid: spec.policies[0].spec.egress[0].fact: unknown fact \"dsn\"; did you mean dns? A fact of \
         your own is defined in spec.facts; and 1 more (nothing is rendered from it, and what was rendered before stays)"
    );
    assert!(said(&status, "Valid").contains("\"nds\""), "the other one too");
}

#[test]
fn ready_says_how_many_and_which_fact_is_missing() {
    let status = status(
        &read(GOOD),
        &tally(&[("a", ready()), ("b", ready())]),
        None,
        &at(1),
    );
    assert_eq!(
        said(&status, "Ready"),
        "Ready=True Holding: 2 of 2 namespaces have what they must; ingressControllers stands for nothing"
    );
    assert_eq!(
        said(&status, "FactsResolved"),
        "FactsResolved=False Unresolved: ingressControllers: the cluster has no IngressClass and no GatewayClass (the rules that use it are left out)"
    );
    assert_eq!(
        (
            status.namespaces.matched,
            status.namespaces.ready,
            status.namespaces.conflicting
        ),
        (2, 2, 0)
    );
}

#[test]
fn conflicts_and_failures_are_named_but_not_all_of_many() {
    let many: Vec<_> = (0..5).map(|n| format!("ns-{n}")).collect();
    let outcomes: Vec<_> = many.iter().map(|name| (name.as_str(), foreign())).collect();
    let conflicting = status(&read(GOOD), &tally(&outcomes), None, &at(1));
    let said_now = said(&conflicting, "Ready");
    assert!(
        said_now.starts_with("Ready=False Conflicting: ns-0/deny: there is a NetworkPolicy of that name"),
        "{said_now}"
    );
    assert!(said_now.contains("; and 2 more"), "{said_now}");
    let failing = Outcome {
        failure: Some("refused".to_owned()),
        ..Outcome::default()
    };
    let failing = status(
        &read(GOOD),
        &tally(&[("a", failing), ("b", foreign())]),
        None,
        &at(1),
    );
    assert!(said(&failing, "Ready").starts_with("Ready=False Failing: a: refused"));
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_transition() {
    let baseline = read(GOOD);
    let time = |status: &NamespaceBaselineStatus, kind: &str| {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        condition.last_transition_time.0.as_second()
    };
    let first = status(&baseline, &tally(&[("a", ready())]), None, &at(1));
    let second = status(&baseline, &tally(&[("a", ready())]), Some(&first), &at(2));
    assert_eq!(first, second, "nothing changed, so there is nothing to write");
    let third = status(&baseline, &tally(&[("a", foreign())]), Some(&second), &at(3));
    assert_eq!((time(&third, "Valid"), time(&third, "Ready")), (1, 3));
}

#[test]
fn what_is_matched_conflicting_and_degraded_is_said_each_for_itself() {
    let failing = Outcome {
        failure: Some("refused".to_owned()),
        ..Outcome::default()
    };
    let outcomes = [("a", failing), ("b", foreign()), ("c", ready())];
    let now = status(&read(GOOD), &tally(&outcomes), None, &at(1));
    assert_eq!(
        said(&now, "Matched"),
        "Matched=True Selected: 3 namespaces are selected"
    );
    assert!(said(&now, "Conflicting").starts_with("Conflicting=True NameTaken: b/deny: "));
    assert_eq!(
        said(&now, "Degraded"),
        "Degraded=True Failing: a: refused; ingressControllers stands for nothing"
    );
    let nowhere = status(&read(GOOD), &tally(&[]), None, &at(1));
    assert!(said(&nowhere, "Matched").starts_with("Matched=False NoNamespace"));
    assert!(said(&nowhere, "Conflicting").starts_with("Conflicting=False"));
}

#[test]
fn a_suspended_baseline_is_not_ready_and_says_why() {
    let suspended = read(&GOOD.replace("{namespaceSelector", "{suspend: true, namespaceSelector"));
    let status = status(&suspended, &tally(&[("a", ready())]), None, &at(1));
    assert!(
        said(&status, "Ready")
            .starts_with("Ready=False Suspended: spec.suspend is true: 1 namespaces are left as they are"),
        "{}",
        said(&status, "Ready")
    );
}
