//! Objects that are not what they say.

use proptest::prelude::*;

use super::*;

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
