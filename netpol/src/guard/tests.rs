//! Every way around the guard that is known, and every way that must stay open.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::*;
use crate::api::LabelStandard;
use crate::api::NamespaceBaseline;
use crate::baseline::object::{BASELINE, OPTED_IN};
use crate::cluster::{Cluster, Key, Namespace};
use crate::selector::Labels;

fn who(name: &str) -> Requester {
    Requester {
        username: name.to_owned(),
        groups: Vec::new(),
    }
}

fn generator() -> Requester {
    who("system:serviceaccount:ringfence-system:ringfence-generator")
}

/// A policy as the generator makes it, with changes.
fn generated(change: impl FnOnce(&mut Value)) -> NetworkPolicy {
    let mut policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "default-deny",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "ringfence", "ringfence.dev/baseline": "starter"},
            "annotations": {"ringfence.dev/hash": "1", "ringfence.dev/baseline-generation": "1"},
            "managedFields": [{"manager": "ringfence-generator", "operation": "Apply"}],
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    change(&mut policy);
    serde_json::from_value(policy).unwrap()
}

fn foreign(change: impl FnOnce(&mut Value)) -> NetworkPolicy {
    generated(|policy| {
        policy["metadata"] = json!({"name": "own", "namespace": "shop"});
        change(policy);
    })
}

fn starter(existing: &str) -> NamespaceBaseline {
    let spec = format!(
        "{{namespaceSelector: {{matchLabels: {{tenant: 'yes'}}}}, existingNamespaces: {existing}, \
         policies: [{{name: default-deny, spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}}]}}"
    );
    NamespaceBaseline::new("starter", serde_yaml_ng::from_str(&spec).unwrap())
}

fn namespace(pairs: &[(&str, &str)]) -> Namespace {
    let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Namespace {
        labels: pairs.collect::<Labels>(),
        ..Namespace::default()
    }
}

fn with<const N: usize>(baselines: [NamespaceBaseline; N]) -> Cluster {
    let mut cluster = Cluster::default();
    for baseline in baselines {
        let name = baseline.metadata.name.clone().unwrap();
        cluster.baselines.apply(Key::cluster(name), baseline);
    }
    cluster
}

fn of_policy(attempt: Attempt<'_>, requester: &Requester) -> Vec<String> {
    in_namespace(attempt, requester, Some(&namespace(&[("tenant", "yes")])))
}

fn in_namespace(attempt: Attempt<'_>, requester: &Requester, namespace: Option<&Namespace>) -> Vec<String> {
    let object = attempt.before().or(attempt.after()).unwrap();
    let key = Key::new("shop", object.metadata.name.clone().unwrap_or_default());
    let baseline = starter("Include");
    let found = judge_policy(
        attempt,
        &key,
        requester,
        namespace,
        std::iter::once(&baseline),
        &Guard::default(),
    );
    found
        .into_iter()
        .map(|finding| format!("{} {}", finding.code, finding.field))
        .collect()
}

fn changed_to(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let (before, after) = (generated(|_| {}), generated(change));
    let attempt = Attempt::Update {
        before: &before,
        after: &after,
    };
    assert!(of_policy(attempt, &generator()).is_empty(), "the generator may");
    of_policy(attempt, &who("alice"))
}

#[test]
fn what_the_generator_owns_is_deleted_by_nobody_else_while_its_namespace_stays() {
    let (policy, stripped) = (
        generated(|_| {}),
        generated(|policy| policy["metadata"]["labels"] = Value::Null),
    );
    for name in [
        "alice",
        "system:serviceaccount:shop:ringfence-generator",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "",
    ] {
        for policy in [&policy, &stripped] {
            assert_eq!(
                of_policy(Attempt::Delete(policy), &who(name)),
                ["BG001 metadata.name"],
                "{name}"
            );
        }
    }
    assert!(of_policy(Attempt::Delete(&policy), &generator()).is_empty());
    assert!(of_policy(Attempt::Delete(&foreign(|_| {})), &who("alice")).is_empty());
}

#[test]
fn a_namespace_that_goes_takes_its_policies_with_it() {
    let policy = generated(|_| {});
    let going = Namespace {
        terminating: true,
        ..Namespace::default()
    };
    for namespace in [Some(&going), None] {
        for name in ["namespace-controller", "generic-garbage-collector"] {
            let controller = who(&format!("system:serviceaccount:kube-system:{name}"));
            assert!(in_namespace(Attempt::Delete(&policy), &controller, namespace).is_empty());
        }
        assert_eq!(
            in_namespace(Attempt::Delete(&policy), &who("alice"), namespace),
            ["BG001 metadata.name"]
        );
    }
}

#[test]
fn what_the_generator_owns_keeps_what_it_says_and_what_marks_it() {
    assert_eq!(
        changed_to(|policy| policy["spec"]["ingress"] = json!([{}])),
        ["BG002 spec"]
    );
    assert_eq!(
        changed_to(|policy| policy["spec"]["podSelector"] = json!({"matchLabels": {"app": "none"}})),
        ["BG002 spec"]
    );
    assert_eq!(changed_to(|policy| policy["spec"] = Value::Null), ["BG002 spec"]);
    assert_eq!(
        changed_to(|policy| policy["metadata"]["labels"] = Value::Null),
        [
            "BG003 metadata.labels[app.kubernetes.io/managed-by]",
            "BG003 metadata.labels[ringfence.dev/baseline]"
        ]
    );
    assert_eq!(
        changed_to(|policy| policy["metadata"]["labels"]["ringfence.dev/stage"] = json!("audit")),
        ["BG003 metadata.labels[ringfence.dev/stage]"]
    );
    assert_eq!(
        changed_to(|policy| policy["metadata"]["annotations"] = json!({"ringfence.dev/hash": "1"})),
        ["BG003 metadata.annotations[ringfence.dev/baseline-generation]"]
    );
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}]);
    assert_eq!(
        changed_to(|policy| policy["metadata"]["ownerReferences"] = owner),
        ["BG003 metadata.ownerReferences"]
    );
    assert_eq!(
        changed_to(|policy| policy["metadata"]["finalizers"] = json!(["example.com/mine"])),
        ["BG003 metadata.finalizers"]
    );
}

#[test]
fn labels_and_annotations_of_ones_own_are_free_and_so_is_the_same_again_in_other_words() {
    assert!(changed_to(|policy| policy["metadata"]["labels"]["seen-by"] = json!("alice")).is_empty());
    assert!(changed_to(|policy| policy["metadata"]["annotations"]["note"] = json!("x")).is_empty());
    assert!(changed_to(|policy| policy["metadata"]["managedFields"] = json!([])).is_empty());
    assert!(changed_to(|policy| policy["spec"]["ingress"] = json!([])).is_empty());
}

#[test]
fn nothing_is_laundered_in_two_steps() {
    // First the field manager's entry goes, which marks nothing as long as the labels are there; then the labels.
    let without_manager = generated(|policy| policy["metadata"]["managedFields"] = json!([]));
    let bare = generated(|policy| {
        policy["metadata"]["managedFields"] = json!([]);
        policy["metadata"]["labels"] = Value::Null;
        policy["spec"]["ingress"] = json!([{}]);
    });
    let attempt = Attempt::Update {
        before: &without_manager,
        after: &bare,
    };
    let codes: Vec<String> = of_policy(attempt, &who("alice"));
    assert!(
        codes.contains(&"BG002 spec".to_owned()) && codes.len() == 3,
        "{codes:?}"
    );
}

#[test]
fn nobody_marks_a_policy_as_the_generators_or_takes_the_name_that_it_needs() {
    let labels = json!({"app.kubernetes.io/managed-by": "ringfence", "ringfence.dev/baseline": "starter"});
    let labelled = foreign(|policy| policy["metadata"]["labels"] = labels);
    let managed = foreign(|policy| {
        policy["metadata"]["managedFields"] =
            json!([{"manager": "ringfence-generator", "operation": "Apply"}]);
    });
    let own = foreign(|_| {});
    for (forged, field) in [
        (&labelled, "BG004 metadata.labels[ringfence.dev/baseline]"),
        (&managed, "BG004 metadata.managedFields"),
    ] {
        let update = Attempt::Update {
            before: &own,
            after: forged,
        };
        for attempt in [Attempt::Create(forged), update] {
            assert_eq!(of_policy(attempt, &who("alice")), [field]);
            assert!(of_policy(attempt, &generator()).is_empty());
        }
    }
    let early = foreign(|policy| policy["metadata"]["name"] = json!("default-deny"));
    let create = Attempt::Create(&early);
    assert_eq!(of_policy(create, &who("alice")), ["BG005 metadata.name"]);
    assert!(of_policy(Attempt::Create(&own), &who("alice")).is_empty());
    let elsewhere = namespace(&[]);
    assert!(in_namespace(create, &who("alice"), Some(&elsewhere)).is_empty());
    assert_eq!(
        in_namespace(create, &who("alice"), None),
        ["BG005 metadata.name"],
        "a namespace that is not known yet may be one of the baseline's"
    );
    assert!(in_namespace(Attempt::Create(&own), &who("alice"), None).is_empty());
    assert!(
        of_policy(
            Attempt::Update {
                before: &early,
                after: &early
            },
            &who("alice")
        )
        .is_empty(),
        "what was there before the baseline can be worked on"
    );
}

#[test]
fn a_name_that_a_policy_for_some_service_may_come_to_have_is_taken() {
    let mut baseline = starter("Include");
    let routed =
        "{name: allow-routed, forEach: RoutedService, spec: {podSelector: {}, policyTypes: [Ingress]}}";
    baseline
        .spec
        .policies
        .push(serde_yaml_ng::from_str(routed).unwrap());
    let codes = |name: &str| -> Vec<&str> {
        let policy = foreign(|policy| policy["metadata"]["name"] = json!(name));
        let found = judge_policy(
            Attempt::Create(&policy),
            &Key::new("shop", name),
            &who("alice"),
            Some(&namespace(&[("tenant", "yes")])),
            std::iter::once(&baseline),
            &Guard::default(),
        );
        found.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes("allow-routed-web"), ["BG005"]);
    assert_eq!(codes("default-deny"), ["BG005"]);
    for free in ["allow-routed", "allow-routedweb", "default-deny-too"] {
        assert_eq!(codes(free), [""; 0], "{free}");
    }
}

fn of_namespace(
    before: Option<&Namespace>,
    after: &Namespace,
    requester: &Requester,
    existing: &str,
) -> Vec<String> {
    let cluster = with([starter(existing)]);
    let found = judge_namespace(
        "shop",
        before,
        after,
        requester,
        Some(&cluster),
        &Guard::default(),
    );
    found
        .into_iter()
        .map(|finding| format!("{} {}", finding.code, finding.field))
        .collect()
}

#[test]
fn tenants_may_opt_in_and_raise_the_mode_and_not_the_reverse() {
    let out = namespace(&[("tenant", "yes")]);
    let opted_in = namespace(&[("tenant", "yes"), (BASELINE, OPTED_IN)]);
    let audited = namespace(&[("tenant", "yes"), (MODE_LABEL, AUDIT)]);
    let moved = namespace(&[("tenant", "no")]);
    let disabled = namespace(&[("tenant", "yes"), (BASELINE, "disabled")]);
    let table: [(Option<&Namespace>, &Namespace, &[&str]); 11] = [
        (Some(&out), &opted_in, &[]),
        (
            Some(&opted_in),
            &out,
            &["BG006 metadata.labels[ringfence.dev/baseline]"],
        ),
        (
            Some(&opted_in),
            &disabled,
            &["BG006 metadata.labels[ringfence.dev/baseline]"],
        ),
        (Some(&out), &moved, &["BG006 metadata.labels"]),
        (Some(&moved), &out, &[]),
        (
            Some(&out),
            &audited,
            &["BG007 metadata.labels[ringfence.dev/mode]"],
        ),
        (None, &audited, &["BG007 metadata.labels[ringfence.dev/mode]"]),
        (Some(&audited), &audited, &[]),
        (Some(&audited), &out, &[]),
        (None, &opted_in, &[]),
        (None, &moved, &[]),
    ];
    let master = Requester {
        username: "root".to_owned(),
        groups: vec!["system:masters".to_owned()],
    };
    for (before, after, expected) in table {
        assert_eq!(
            of_namespace(before, after, &who("alice"), "Include"),
            expected,
            "{before:?} to {after:?}"
        );
        assert!(of_namespace(before, after, &master, "Include").is_empty());
    }
}

#[test]
fn an_older_namespace_that_opted_in_does_not_leave_by_other_labels_either() {
    let mut baseline = starter("OptIn");
    baseline.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-02T00:00:00Z")).unwrap();
    let older = |pairs| Namespace {
        created: Some(0),
        ..namespace(pairs)
    };
    let (before, after) = (
        older(&[("tenant", "yes"), (BASELINE, OPTED_IN)]),
        older(&[("tenant", "no"), (BASELINE, OPTED_IN)]),
    );
    let found = judge_namespace(
        "shop",
        Some(&before),
        &after,
        &who("alice"),
        Some(&with([baseline])),
        &Guard::default(),
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, LEAVES);
}

/// What is said to alice who changes the labels of `shop` from these to those.
fn relabelled(cluster: Option<&Cluster>, before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
    let (before, after) = (namespace(before), namespace(after));
    let (alice, guard) = (who("alice"), Guard::default());
    let found = judge_namespace("shop", Some(&before), &after, &alice, cluster, &guard);
    let shown = found
        .into_iter()
        .map(|finding| format!("{} {}", finding.code, finding.message));
    shown.collect()
}

#[test]
fn a_namespace_joins_no_baseline_that_closes_less_in_the_place_of_its_own() {
    const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
    let tier = |name: &str, priority: i32, policies: &str| {
        let spec = format!(
            "{{namespaceSelector: {{matchLabels: {{tier: {name}}}}}, existingNamespaces: Include, priority: {priority}, policies: [{policies}]}}"
        );
        NamespaceBaseline::new(name, serde_yaml_ng::from_str(&spec).unwrap())
    };
    let half = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress]}}";
    let few =
        "{name: default-deny, spec: {podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress, Egress]}}";
    let holed = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{anyone: {}}]}}";
    let more = format!(
        "{DENY}, {{name: own, spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{}}}}]}}]}}}}"
    );
    let cluster = with([
        starter("Include"),
        tier("half", 10, half),
        tier("few", 10, few),
        tier("holed", 10, holed),
        tier("low", -1, half),
        tier("web", 10, &more),
    ]);
    for (joined, refused) in [
        ("half", true),
        ("few", true),
        ("holed", true),
        ("low", false),
        ("web", false),
        ("none", false),
    ] {
        let before = [("tenant", "yes")];
        let found = relabelled(Some(&cluster), &before, &[("tenant", "yes"), ("tier", joined)]);
        let expected = format!(
            "BG006 with these labels the baseline {joined} makes default-deny in place of starter, and closes less"
        );
        assert_eq!(found, if refused { vec![expected] } else { Vec::new() });
        let found = relabelled(Some(&cluster), &[], &[("tier", joined)]);
        assert_eq!(found, [""; 0], "there is nothing that it takes the place of");
    }
}

#[test]
fn a_namespace_does_not_walk_out_of_what_its_pods_are_held_to() {
    let standard = |kinds: &str, enforcement: &str| {
        let spec = format!(
            "{{kinds: [{kinds}], enforcement: {enforcement}, namespaceSelector: {{matchLabels: {{tier: gold}}}}, \
             labels: [{{key: zone, required: false, protected: {{values: [pci], users: [root]}}}}]}}"
        );
        let mut cluster = Cluster::default();
        let standard = LabelStandard::new("zones", serde_yaml_ng::from_str(&spec).unwrap());
        cluster.standards.apply(Key::cluster("zones"), standard);
        cluster
    };
    let leave = |cluster: &Cluster| relabelled(Some(cluster), &[("tier", "gold")], &[]);
    assert_eq!(
        leave(&standard("Pod", "deny")),
        ["BG006 with these labels the namespace is no longer held to the label standard zones"]
    );
    assert_eq!(leave(&standard("Pod", "warn")), [""; 0]);
    assert_eq!(leave(&standard("Namespace", "deny")), [""; 0]);
    let pods = standard("Pod", "deny");
    assert_eq!(relabelled(Some(&pods), &[], &[("tier", "gold")]), [""; 0]);
    let noted = [("tier", "gold"), ("note", "x")];
    assert_eq!(relabelled(Some(&pods), &[("tier", "gold")], &noted), [""; 0]);
}

#[test]
fn while_the_cluster_is_not_in_view_labels_stay_as_they_are() {
    assert_eq!(relabelled(None, &[("tenant", "yes")], &[]).len(), 1);
    assert_eq!(
        relabelled(None, &[("tenant", "yes")], &[("tenant", "yes")]),
        [""; 0]
    );
    let (alice, guard) = (who("alice"), Guard::default());
    let new = namespace(&[("tenant", "yes")]);
    assert!(judge_namespace("shop", None, &new, &alice, None, &guard).is_empty());
}

#[test]
fn how_objects_of_a_namespace_are_judged_is_the_platform_teams_to_say() {
    let plain = namespace(&[]);
    for (key, text) in [
        (SEVERITIES, "NP001=off"),
        (EXEMPTIONS, "NP001 until 2030-01-01: x"),
    ] {
        let mut annotated = plain.clone();
        annotated.annotations.insert(key.to_owned(), text.to_owned());
        let expected = [format!("BG008 metadata.annotations[{key}]")];
        for (before, after) in [
            (Some(&plain), &annotated),
            (Some(&annotated), &plain),
            (None, &annotated),
        ] {
            assert_eq!(of_namespace(before, after, &who("alice"), "Include"), expected);
        }
        assert!(of_namespace(Some(&annotated), &annotated, &who("alice"), "Include").is_empty());
    }
    let mut noted = plain.clone();
    noted.annotations.insert("note".to_owned(), "x".to_owned());
    assert!(of_namespace(Some(&plain), &noted, &who("alice"), "Include").is_empty());
}

#[test]
fn what_says_nothing_is_refused_whoever_writes_it() {
    let plain = namespace(&[]);
    let mut annotated = plain.clone();
    annotated
        .annotations
        .insert(SEVERITIES.to_owned(), "NP001: off".to_owned());
    let master = Requester {
        username: "root".to_owned(),
        groups: vec!["system:masters".to_owned()],
    };
    let found = judge_annotations("shop", Some(&plain), &annotated);
    assert_eq!(
        (found.len(), found[0].code, found[0].field.as_str()),
        (1, UNREADABLE, "metadata.annotations[ringfence.dev/severities]")
    );
    assert!(judge_annotations("shop", Some(&annotated), &annotated).is_empty());
    assert!(
        of_namespace(Some(&plain), &annotated, &master, "Include").is_empty(),
        "whose it is to say"
    );
}

#[test]
fn a_refusal_says_what_would_happen_and_whom_to_ask() {
    let policy = generated(|_| {});
    let found = judge_policy(
        Attempt::Delete(&policy),
        &Key::new("shop", "default-deny"),
        &who("alice"),
        None,
        std::iter::empty(),
        &Guard::default(),
    );
    insta::assert_snapshot!(found[0], @"
    BG001 metadata.name
      found:       alice deletes what the baseline starter has here
      consequence: its namespace would be open until the generator brings it back
      mend:        leave it, and have the platform team change the NamespaceBaseline starter; a policy of your own can allow more
    ");
}

#[test]
fn who_applies_a_baseline_is_told_what_of_it_cannot_be_understood() {
    let told = |baseline: &NamespaceBaseline| -> Vec<String> {
        let found = judge_baseline(baseline);
        assert!(found.iter().all(|finding| finding.severity == Severity::Warn));
        found
            .into_iter()
            .map(|finding| format!("{} {}", finding.code, finding.field))
            .collect()
    };
    let mut baseline = starter("Include");
    assert_eq!(told(&baseline), [""; 0]);
    let misspelt = "{name: dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dsn}]}}";
    baseline
        .spec
        .policies
        .push(serde_yaml_ng::from_str(misspelt).unwrap());
    assert_eq!(told(&baseline), ["BG010 spec.policies[1].spec.egress[0].fact"]);
}
