//! What is decided, as tables of requests.

use super::testing::{Ask, body, cluster};
use super::*;
use crate::answer::answer;
use crate::envelope::open;
use proptest::prelude::*;
use ringfence_netpol::lint::{Level, Severities};

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
            Some("{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {tier: gold}}}"),
            "- LB001!",
        ),
        (
            "{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {a: b}}}",
            Some("{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z'}}"),
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
fn severities_are_the_platform_teams() {
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    for (level, expected) in [(Level::Warn, "+ NP002"), (Level::Off, "+")] {
        let settings = Review {
            severities: Severities::default().with("NP002", level),
            ..Review::default()
        };
        assert_eq!(
            verdict(&review(&request, &settings, Some(&Seen::of(&cluster())), NOW)),
            expected
        );
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
        for resource in ["networkpolicies", "namespaces", "labelstandards", "pods", "deployments", "bindings"] {
            let request = open(&body(resource, &object, None)).unwrap();
            let _ = fill_in(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW);
            let response = answer(&request, &review(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW));
            prop_assert_eq!(response.uid, "uid-1");
            prop_assert!(response.allowed || !response.result.message.is_empty());
            for warning in response.warnings.iter().flatten() {
                prop_assert!(!warning.chars().any(char::is_control), "{}", warning);
            }
        }
    }
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
fn what_the_generator_owns_stays_by_every_way_there_is_to_write() {
    let opened = GENERATED.replace("podSelector: {}", "podSelector: {matchLabels: {none: 'yes'}}");
    let stripped =
        "{metadata: {name: default-deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
    let audited = GENERATED.replace("labels: {", "labels: {ringfence.dev/stage: audit, ");
    let policies = Ask {
        resource: "networkpolicies",
        old: Some(GENERATED),
        ..Ask::default()
    };
    let table = [
        (None, "- BG001!"),
        (Some(opened.as_str()), "- BG002! NP003"),
        (Some(stripped), "- BG003! BG003!"),
        (Some(audited.as_str()), "- BG003!"),
        (Some(GENERATED), "+"),
    ];
    for (object, expected) in table {
        for sub_resource in [None, Some("status")] {
            let ask = Ask {
                object,
                sub_resource,
                ..policies
            };
            let found = answered(ask);
            // Rules may have more to say of the policy itself.
            let guard = |text: &str| {
                text.split(' ')
                    .filter(|code| !code.starts_with("NP"))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            assert_eq!(guard(&found), guard(expected), "{object:?}");
        }
    }
    let early = Ask {
        resource: "networkpolicies",
        object: Some(stripped),
        ..Ask::default()
    };
    assert!(answered(early).contains("BG005!"));
    let nothing = Ask {
        resource: "networkpolicies",
        ..Ask::default()
    };
    assert!(
        !asked(nothing, &Review::default()).allowed(),
        "neither object nor old object"
    );
}

#[test]
fn a_namespace_that_goes_takes_its_policies_along_and_one_that_stays_does_not() {
    let mut cluster = guarded();
    let by_controller = Ask {
        resource: "networkpolicies",
        old: Some(GENERATED),
        user: "system:serviceaccount:kube-system:namespace-controller",
        ..Ask::default()
    };
    let request = open(&by_controller.body()).unwrap();
    let stays = review(&request, &Review::default(), Some(&Seen::of(&cluster)), NOW);
    assert!(!stays.allowed());
    assert!(stays.rests_on_view(), "the controller may be ahead of the view");
    let key = Key::cluster("shop");
    let going = cluster::Namespace {
        terminating: true,
        ..cluster.namespaces.get(&key).unwrap().clone()
    };
    cluster.namespaces.apply(key, going);
    assert!(review(&request, &Review::default(), Some(&Seen::of(&cluster)), NOW).allowed());
}

#[test]
fn breaking_the_glass_lets_pass_tells_and_keeps_the_reason() {
    let settings = |reason_required| {
        let guard = format!("{{breakGlass: {{groups: [oncall]}}, reasonRequired: {reason_required}}}");
        Review {
            guard: serde_yaml_ng::from_str(&guard).unwrap(),
            ..Review::default()
        }
    };
    let delete = Ask {
        resource: "networkpolicies",
        old: Some(GENERATED),
        group: "oncall",
        ..Ask::default()
    };
    let decision = asked(delete, &settings(false));
    assert!(decision.allowed());
    assert!(decision.notes.contains(&GLASS_BROKEN));
    let broken = decision.glass_broken.clone().unwrap();
    assert_eq!((broken.codes, broken.reason), (vec!["BG001"], None));
    assert!(!asked(delete, &settings(true)).allowed(), "it takes a reason");
    let explained = GENERATED.replace("{name:", "{annotations: {ringfence.dev/reason: outage 7}, name:");
    let with_reason = Ask {
        old: Some(&explained),
        ..delete
    };
    let decision = asked(with_reason, &settings(true));
    let answer = answer(&open(&with_reason.body()).unwrap(), &decision);
    assert!(answer.allowed);
    assert_eq!(answer.audit_annotations["glass-broken"], "BG001");
    assert_eq!(answer.audit_annotations["reason"], "outage 7");
    let tenant = Ask { group: "", ..delete };
    assert!(!asked(tenant, &settings(false)).allowed());
    let good = Ask {
        resource: "networkpolicies",
        object: Some(GOOD),
        group: "oncall",
        ..Ask::default()
    };
    assert_eq!(asked(good, &settings(false)).glass_broken, None);
}

#[test]
fn tenants_do_not_take_a_namespace_out_of_what_holds_it() {
    let held = |ask: Ask<'_>| {
        let request = open(&ask.body()).unwrap();
        verdict(&hold(
            &request,
            &Review::default(),
            Some(&Seen::of(&guarded())),
            NOW,
        ))
    };
    let namespaces = Ask {
        resource: "namespaces",
        ..Ask::default()
    };
    let plain = "{metadata: {name: shop}}";
    for (object, old, expected) in [
        (
            "{metadata: {name: shop, labels: {ringfence.dev/mode: audit}}}",
            plain,
            "- BG007!",
        ),
        (
            plain,
            "{metadata: {name: shop, labels: {ringfence.dev/baseline: enabled}}}",
            "- BG006!",
        ),
        (
            "{metadata: {name: shop, annotations: {ringfence.dev/severities: 'BG008=off'}}}",
            plain,
            "- BG008!",
        ),
    ] {
        for sub_resource in [None, Some("status"), Some("finalize")] {
            let ask = Ask {
                object: Some(object),
                old: Some(old),
                sub_resource,
                ..namespaces
            };
            assert_eq!(held(ask), expected, "{object}");
            let platform = Ask {
                group: "system:masters",
                ..ask
            };
            assert_eq!(held(platform), "+", "{object}");
            let other = ["BG006", "BG007", "BG008"].map(|code| answered(ask).contains(code));
            assert_eq!(other, [false; 3], "that is the other hook's");
        }
    }
}

#[test]
fn without_a_view_a_namespace_keeps_the_labels_that_may_hold_it_and_the_answer_says_why() {
    let relabelled = Ask {
        resource: "namespaces",
        object: Some("{metadata: {name: shop, labels: {note: x}}}"),
        old: Some("{metadata: {name: shop}}"),
        ..Ask::default()
    };
    let request = open(&relabelled.body()).unwrap();
    let decision = hold(&request, &Review::default(), None, NOW);
    assert_eq!(
        (verdict(&decision).as_str(), decision.notes.as_slice()),
        ("- BG006!", [NO_VIEW].as_slice())
    );
    assert!(decision.rests_on_view(), "it may come in a moment");
    let new = Ask {
        old: None,
        ..relabelled
    };
    let request = open(&new.body()).unwrap();
    assert!(hold(&request, &Review::default(), None, NOW).allowed());
}

#[test]
fn a_name_that_baselines_have_is_not_taken_before_the_namespace_is_in_view() {
    let mut cluster = guarded();
    cluster.namespaces.delete(&Key::cluster("shop"));
    let named = "{metadata: {name: default-deny}, spec: {podSelector: {matchLabels: {no: body}}}}";
    let request = open(&body("networkpolicies", named, None)).unwrap();
    let decision = review(&request, &Review::default(), Some(&Seen::of(&cluster)), NOW);
    assert!(verdict(&decision).contains("BG005!"), "{}", verdict(&decision));
    assert!(decision.rests_on_view(), "in a moment it may be known");
}

#[test]
fn what_is_being_deleted_is_held_like_what_stays() {
    const GOING: &str = "deletionTimestamp: '2026-01-01T00:00:00Z'";
    let pod = |labels: &str| format!("{{metadata: {{name: p, {GOING}, labels: {labels}}}}}");
    let protected = Ask {
        resource: "pods",
        object: Some(&pod("{app: api, team: x}")),
        old: Some(&pod("{app: web, team: x}")),
        ..Ask::default()
    };
    assert_eq!(answered(protected), "- LB006!");
    let namespace = |labels: &str| format!("{{metadata: {{name: shop, {GOING}, labels: {labels}}}}}");
    let audited = Ask {
        resource: "namespaces",
        object: Some(&namespace("{ringfence.dev/mode: audit}")),
        old: Some(&namespace("{}")),
        ..Ask::default()
    };
    let request = open(&audited.body()).unwrap();
    let held = hold(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW);
    assert_eq!(verdict(&held), "- BG007!");
}

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
fn what_the_platform_team_says_of_a_namespace_must_be_understood() {
    let ask = Ask {
        resource: "namespaces",
        object: Some("{metadata: {name: shop, annotations: {ringfence.dev/severities: 'NP002: off'}}}"),
        old: Some("{metadata: {name: shop}}"),
        group: "system:masters",
        ..Ask::default()
    };
    let settings = Review {
        guard: serde_yaml_ng::from_str("{breakGlass: {groups: []}}").unwrap(),
        ..Review::default()
    };
    assert_eq!(verdict(&asked(ask, &settings)), "- BG009!");
}

#[test]
fn a_protected_label_is_judged_as_whoever_writes_it_wherever_it_is_written() {
    const API: &str = "{app: api, team: x}";
    let pod = format!("{{metadata: {{name: p, labels: {API}}}}}");
    let owned = format!(
        "{{metadata: {{name: p, labels: {API}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u, controller: true}}]}}}}"
    );
    let template = format!("{{metadata: {{name: d}}, spec: {{template: {{metadata: {{labels: {API}}}}}}}}}");
    let cron = format!(
        "{{metadata: {{name: c}}, spec: {{jobTemplate: {{spec: {{template: {{metadata: {{labels: {API}}}}}}}}}}}}}"
    );
    let web = "{metadata: {name: p, labels: {app: web, team: x}}}";
    let binding = "{metadata: {name: pod, labels: {app: api}}, target: {name: node}}";
    let controller = "system:serviceaccount:kube-system:replicaset-controller";
    let table = [
        ("pods", pod.as_str(), None, "alice", "- LB006!"),
        ("pods", &owned, None, "alice", "- LB006!"),
        ("pods", &owned, None, controller, "+ LB006"),
        ("pods", &pod, None, controller, "- LB006!"),
        (
            "pods",
            &owned,
            None,
            "system:serviceaccount:rollouts:controller",
            "- LB006!",
        ),
        ("pods", &pod, Some(web), "alice", "- LB006!"),
        ("pods", web, Some(pod.as_str()), "alice", "- LB006!"),
        ("pods", &pod, Some(pod.as_str()), "alice", "+"),
        ("pods", web, None, "alice", "+"),
        ("pods", &pod, None, "root", "+"),
        ("deployments", &template, None, "alice", "- LB006!"),
        ("deployments", &template, None, "root", "+"),
        ("replicasets", &template, None, "alice", "- LB006!"),
        ("cronjobs", &cron, None, "alice", "- LB006!"),
        ("bindings", binding, None, "alice", "- LB006!"),
    ];
    for (resource, object, old, user, expected) in table {
        let ask = Ask {
            resource,
            object: Some(object),
            old,
            user,
            ..Ask::default()
        };
        // The pod that the binding is for has no team, as before.
        let found = answered(ask).replace(" LB001", "");
        assert_eq!(found, expected, "{resource} by {user}: {object}");
    }
}

#[test]
fn defaults_are_filled_in_once_and_the_patch_is_one_that_the_object_takes() {
    let filled = |resource: &str, object: &str, old: Option<&str>| {
        let request = open(&body(resource, object, old)).unwrap();
        let decision = fill_in(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW);
        decision.patch.map(|patch| {
            let mut object: serde_json::Value = serde_yaml_ng::from_str(object).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
            serde_json::to_string(&object).unwrap()
        })
    };
    let pod = filled("pods", "{metadata: {name: p}}", None).unwrap();
    assert_eq!(pod, r#"{"metadata":{"labels":{"team":"none"},"name":"p"}}"#);
    assert_eq!(
        filled("pods", &pod, None),
        None,
        "the second time there is nothing to do"
    );
    let deployment = filled("deployments", "{spec: {template: {spec: {}}}}", None).unwrap();
    assert_eq!(
        deployment,
        r#"{"spec":{"template":{"metadata":{"labels":{"team":"none"}},"spec":{}}}}"#
    );
    assert_eq!(filled("deployments", &deployment, Some(&deployment)), None);
    assert_eq!(
        filled("pods", "{metadata: {name: p}}", Some("{metadata: {name: p}}")),
        None
    );
    assert_eq!(filled("configmaps", "{metadata: {name: c}}", None), None);
    let broken = open(&body("pods", "{metadata: 7}", None)).unwrap();
    assert_eq!(
        fill_in(&broken, &Review::default(), Some(&Seen::of(&guarded())), NOW).patch,
        None
    );
    assert_eq!(
        fill_in(
            &open(&body("pods", "{}", None)).unwrap(),
            &Review::default(),
            None,
            NOW
        )
        .patch,
        None
    );
    let request = open(&body("pods", "{metadata: {name: p}}", None)).unwrap();
    let response = answer(
        &request,
        &fill_in(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW),
    );
    let review = serde_json::to_value(response.into_review()).unwrap();
    assert_eq!(review["response"]["patchType"], "JSONPatch");
    assert_eq!(review["response"]["allowed"], true);
    assert_eq!(review["response"]["uid"], "uid-1");
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

#[test]
fn modes_and_exemptions_lower_what_is_found_and_the_rest_is_kept_account_of() {
    let with = |yaml: &str| serde_yaml_ng::from_str::<Review>(yaml).unwrap();
    let of = |settings: &Review| {
        let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
        let decision = review(&request, settings, Some(&Seen::of(&cluster())), NOW);
        let silent: Vec<&str> = decision.silent.iter().map(|silent| silent.finding.code).collect();
        (verdict(&decision), silent.contains(&"NP002"))
    };
    assert_eq!(of(&with("{mode: warn}")), ("+ NP002".to_owned(), false));
    assert_eq!(of(&with("{mode: audit}")), ("+".to_owned(), true));
    assert_eq!(of(&with("{modes: {NP002: audit}}")), ("+".to_owned(), true));
    assert_eq!(
        of(&with(
            "{exemptions: [{rules: [NP002], until: 2027-01-15, reason: x}]}"
        )),
        ("+".to_owned(), true)
    );
    assert_eq!(
        of(&with(
            "{exemptions: [{rules: [NP002], until: 2027-01-14, reason: x}]}"
        )),
        ("- NP002!".to_owned(), false)
    );
    let broken = open(&body("networkpolicies", "{metadata: {name: web}, spec: 7}", None)).unwrap();
    assert!(review(&broken, &with("{mode: audit}"), None, NOW).allowed());
}

#[test]
fn the_platform_team_says_in_an_annotation_what_rules_weigh_in_a_namespace() {
    let mut cluster = cluster();
    let key = Key::cluster("shop");
    let mut namespace = cluster.namespaces.get(&key).unwrap().clone();
    let severities = "NP002=warn".to_owned();
    namespace
        .annotations
        .insert("ringfence.dev/severities".to_owned(), severities);
    cluster.namespaces.apply(key, namespace);
    let request = open(&body("networkpolicies", TO_DNS_BY_NAME, None)).unwrap();
    let decision = review(&request, &Review::default(), Some(&Seen::of(&cluster)), NOW);
    assert_eq!(verdict(&decision), "+ NP002");
}

#[test]
fn what_is_asked_of_a_namespace_that_is_not_in_view_yet_may_be_asked_again_in_a_moment() {
    let mut cluster = guarded();
    cluster.namespaces.delete(&Key::cluster("shop"));
    let ask = body("pods", "{metadata: {name: p, labels: {app: api, team: x}}}", None);
    let decision = review(
        &open(&ask).unwrap(),
        &Review::default(),
        Some(&Seen::of(&cluster)),
        NOW,
    );
    assert!(!decision.allowed() && decision.rests_on_view());
}
