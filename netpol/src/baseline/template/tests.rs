use super::super::testing::baseline;
use super::*;

fn defects(spec: &str) -> Vec<String> {
    match Template::parse(&baseline("b", spec)) {
        Ok(_) => Vec::new(),
        Err(defects) => defects.iter().map(ToString::to_string).collect(),
    }
}

/// The defects of a baseline with one policy of this specification.
fn of_policy(spec: &str) -> Vec<String> {
    defects(&format!(
        "{{namespaceSelector: {{}}, policies: [{{name: p, spec: {spec}}}]}}"
    ))
}

#[test]
fn an_unknown_fact_is_named_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        of_policy("{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}, {fact: dsn}]}"),
        [
            "spec.policies[0].spec.egress[1].fact: unknown fact \"dsn\"; did you mean dns? A fact of your own is defined in spec.facts"
        ]
    );
}

#[test]
fn an_unknown_variable_is_named_with_its_place_wherever_it_stands() {
    let unknown = "unknown variable ${namespace.nmae}; did you mean ${namespace.name}?";
    for (spec, place) in [
        (
            "{podSelector: {matchLabels: {a: '${namespace.nmae}'}}, policyTypes: [Ingress]}",
            "podSelector.matchLabels[a]",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In, values: [x, '${namespace.nmae}']}]}, policyTypes: [Ingress]}",
            "podSelector.matchExpressions[0].values[1]",
        ),
        (
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {a: '${namespace.nmae}'}}}]}]}",
            "ingress[0].from[0].namespaceSelector.matchLabels[a]",
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: '${namespace.nmae}'}}]}]}",
            "egress[0].to[0].ipBlock.cidr",
        ),
    ] {
        assert_eq!(
            of_policy(spec),
            [format!("spec.policies[0].spec.{place}: {unknown}")]
        );
    }
}

#[test]
fn variables_stand_in_values_only() {
    let nowhere = "variables can stand only in the values of labels and in ipBlock";
    assert_eq!(
        of_policy("{podSelector: {matchLabels: {'${namespace.name}': a}}, policyTypes: [Ingress]}"),
        [format!(
            "spec.policies[0].spec.podSelector.matchLabels[${{namespace.name}}]: {nowhere}"
        )]
    );
    assert_eq!(
        of_policy(
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{anyone: {}, ports: [{port: '${namespace.name}'}]}]}"
        ),
        [
            format!("spec.policies[0].spec.ingress[0].ports[0].port: {nowhere}"),
            "spec.policies[0].spec.ingress[0].ports[0].port: \"${namespace.name}\" is no port name; \
             at most 15 of a-z, 0-9 and '-', with a letter"
                .to_owned(),
        ]
    );
}

#[test]
fn a_rule_cannot_come_to_allow_everyone_unless_it_says_so() {
    let form = "a rule has exactly one of fact, to and anyone; without a peer it would allow everyone";
    for rule in ["{}", "{ports: [{port: 443}]}", "{fact: dns, anyone: {}}"] {
        let spec = format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{rule}]}}");
        assert_eq!(
            of_policy(&spec),
            [format!("spec.policies[0].spec.egress[0]: {form}")],
            "{rule}"
        );
    }
    assert_eq!(
        of_policy("{podSelector: {}, policyTypes: [Egress], egress: [{to: []}]}"),
        [
            "spec.policies[0].spec.egress[0].to: a list of peers that is empty would allow everyone; if that is meant, write anyone: {}"
        ]
    );
    assert_eq!(
        of_policy("{podSelector: {}, policyTypes: [Egress], egress: [{anyone: {}}]}"),
        [""; 0]
    );
}

#[test]
fn what_is_wrong_with_it_as_a_network_policy_is_told_by_the_one_parser() {
    for (spec, expected) in [
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Like}]}, policyTypes: [Ingress]}",
            "spec.policies[0].spec.podSelector.matchExpressions[0].operator: unknown operator \"Like\"",
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}, {to: [{ipBlock: {cidr: 10.0.0.0}}]}]}",
            "spec.policies[0].spec.egress[1].to[0].ipBlock.cidr: \"10.0.0.0\" is no CIDR",
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns, ports: [{port: 0}]}]}",
            "spec.policies[0].spec.egress[0].ports[0].port: port 0 is not",
        ),
        (
            "{podSelector: {matchLabels: {a: 'b c'}}, policyTypes: [Egress]}",
            "spec.policies[0].spec.podSelector.matchLabels[a]: \"b c\" is no label value",
        ),
    ] {
        let found = of_policy(spec);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{found:?}\n{expected}"
        );
    }
}

#[test]
fn rules_of_a_direction_that_is_not_isolated_are_a_mistake() {
    assert_eq!(
        of_policy("{podSelector: {}, policyTypes: [Ingress], egress: [{fact: dns}]}"),
        ["spec.policies[0].spec.egress: egress rules need Egress in policyTypes"]
    );
    assert_eq!(
        of_policy("{podSelector: {}, policyTypes: []}"),
        ["spec.policies[0].spec.policyTypes: policyTypes is empty; write which directions are isolated"]
    );
}

#[test]
fn a_pinned_fact_that_is_misspelt_is_not_overlooked() {
    let spec = "{namespaceSelector: {}, facts: {dsn: {services: [{namespace: a, name: b}]}},
        policies: [{name: p, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}]}";
    assert_eq!(
        defects(spec),
        ["spec.facts.dsn: no rule uses the fact \"dsn\"; did you mean dns?"]
    );
}

#[test]
fn a_fact_of_one_s_own_must_say_where_its_peers_are() {
    let of = |source: &str| {
        defects(&format!(
            "{{namespaceSelector: {{}}, facts: {{registry: {source}}},
              policies: [{{name: p, spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{fact: registry}}]}}}}]}}"
        ))
    };
    assert_eq!(
        of("{rules: [{peers: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}"),
        [""; 0]
    );
    assert_eq!(
        of("{}"),
        ["spec.facts.registry: a fact has either services or rules"]
    );
    assert_eq!(
        of("{rules: [{peers: [{podSelector: {}}]}]}"),
        [
            "spec.facts.registry.rules[0].peers[0]: a peer of a fact needs namespaceSelector or ipBlock: a bare podSelector would look in each policy's own namespace"
        ]
    );
    assert_eq!(
        of("{rules: [{peers: []}]}"),
        [
            "spec.facts.registry.rules[0].peers: a list of peers that is empty would allow everyone; if that is meant, write anyone: {}"
        ]
    );
}

#[test]
fn names_are_unique_and_can_be_names() {
    let policy =
        |name: &str| format!("{{name: {name}, spec: {{podSelector: {{}}, policyTypes: [Ingress]}}}}");
    let of = |names: &[&str]| {
        let policies: Vec<_> = names.iter().map(|name| policy(name)).collect();
        defects(&format!(
            "{{namespaceSelector: {{}}, policies: [{}]}}",
            policies.join(", ")
        ))
    };
    assert_eq!(
        of(&["a", "b.c", "a"]),
        ["spec.policies[2].name: there are two policies named \"a\""]
    );
    assert_eq!(
        of(&["Deny_All"]),
        [
            "spec.policies[0].name: \"Deny_All\" cannot name an object; use lower-case letters, digits, '-' and '.'"
        ]
    );
    assert_eq!(of(&[]), ["spec.policies: a baseline needs at least one policy"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let spec = "{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}, policies: [
        {name: a, spec: {podSelector: {matchLabels: {x: '${name}'}}, policyTypes: [Egress], egress: [{fact: nds}, {}]}}]}";
    assert_eq!(defects(spec).len(), 4, "{:?}", defects(spec));
}

#[test]
fn the_name_of_a_baseline_can_label_what_it_makes() {
    let spec =
        "{namespaceSelector: {}, policies: [{name: p, spec: {podSelector: {}, policyTypes: [Ingress]}}]}";
    let defects = Template::parse(&baseline(&"x".repeat(64), spec)).unwrap_err();
    assert_eq!(defects[0].field, "metadata.name");
}

#[test]
fn a_policy_for_each_routed_service_isolates_for_ingress_and_selects_nothing_itself() {
    let of = |name: &str, spec: &str| {
        defects(&format!(
            "{{namespaceSelector: {{}}, policies: [{{name: {name}, forEach: RoutedService, spec: {spec}}}]}}"
        ))
    };
    assert_eq!(
        of(
            "p",
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}"
        ),
        [""; 0]
    );
    assert_eq!(
        of("p", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        ["spec.policies[0].spec.policyTypes: a policy for each routed Service isolates for Ingress only"]
    );
    assert_eq!(
        of(
            "p",
            "{podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress]}"
        ),
        [
            "spec.policies[0].spec.podSelector: a policy for each routed Service selects the Service's pods; write podSelector: {}"
        ]
    );
    let long = of(&"p".repeat(190), "{podSelector: {}, policyTypes: [Ingress]}");
    assert!(long[0].contains("more than 189 characters"), "{long:?}");
}

#[test]
fn no_service_can_have_a_name_that_makes_it_another_policy() {
    let routed = "{name: allow, forEach: RoutedService, spec: {podSelector: {}, policyTypes: [Ingress]}}";
    let with = |other: &str| {
        defects(&format!(
            "{{namespaceSelector: {{}}, policies: [{routed}, {{name: {other}, spec: {{podSelector: {{}}, policyTypes: [Ingress]}}}}]}}"
        ))
    };
    assert_eq!(
        with("allow-web"),
        [
            "spec.policies[0].name: a Service named \"web\" would make \"allow-web\", which is the name of another policy; choose another beginning"
        ]
    );
    assert_eq!(with("allowed"), [""; 0]);
}
