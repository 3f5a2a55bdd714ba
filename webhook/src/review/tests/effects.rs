//! What a change does to the cluster.

use super::*;

#[test]
fn what_a_change_does_is_worked_out_in_a_namespace_that_goes_too() {
    const DENY: &str =
        "{metadata: {name: default-deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
    let mut cluster = guarded();
    let key = Key::cluster("shop");
    let going = cluster::Namespace {
        terminating: true,
        ..cluster.namespaces.get(&key).unwrap().clone()
    };
    cluster.namespaces.apply(key, going);
    let settings = Review {
        severities: Severities::default().with("SM004", Level::Deny),
        ..Review::default()
    };
    let allowed = |object: Option<&str>| {
        let ask = Ask {
            resource: "networkpolicies",
            object,
            old: Some(DENY),
            ..Ask::default()
        };
        let seen = Seen::of(&cluster);
        review(&open(&ask.body()).unwrap(), &settings, Some(&seen), NOW).allowed()
    };
    let opened = "{metadata: {name: default-deny, deletionTimestamp: '2026-01-01T00:00:00Z'},                   spec: {podSelector: {}, ingress: [{}]}}";
    assert!(!allowed(Some(opened)), "pods may run on there for long");
    assert!(allowed(None), "whoever empties it must not be stopped");
}

#[test]
fn what_a_change_does_to_the_cluster_is_told_and_refused_if_the_platform_team_says_so() {
    let codes = |ask: Ask<'_>, settings: &Review, cluster: &Cluster| {
        let decision = review(
            &open(&ask.body()).unwrap(),
            settings,
            Some(&Seen::of(cluster)),
            NOW,
        );
        let about = decision
            .findings
            .iter()
            .filter(|finding| finding.code.starts_with("SM"));
        let codes: Vec<&str> = about.map(|finding| finding.code).collect();
        (decision.allowed(), codes.join(" "))
    };
    let isolate = Ask {
        resource: "networkpolicies",
        object: Some("{metadata: {name: own}, spec: {podSelector: {}, policyTypes: [Ingress]}}"),
        ..Ask::default()
    };
    let told = Review::default();
    assert_eq!(codes(isolate, &told, &cluster()), (true, "SM002".to_owned()));
    assert_eq!(codes(isolate, &told, &guarded()), (true, String::new()));
    let open_up = Ask {
        resource: "networkpolicies",
        object: None,
        old: Some(
            "{metadata: {name: default-deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}",
        ),
        ..Ask::default()
    };
    assert_eq!(
        codes(open_up, &told, &guarded()),
        (true, "SM001 SM004 SM005".to_owned()),
        "a deletion is judged too"
    );
    let refused = Review {
        severities: Severities::default().with("SM004", Level::Deny),
        ..Review::default()
    };
    assert!(!codes(open_up, &refused, &guarded()).0);
    let mut off = Review::default();
    off.simulation.enabled = false;
    assert_eq!(codes(open_up, &off, &guarded()), (true, String::new()));
}
