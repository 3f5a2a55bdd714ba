//! What the generator owns, the namespaces that hold it, and who may break the glass.

use super::*;

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
