use k8s_openapi::api::networking::v1 as k8s;

use super::*;

fn parse(yaml: &str) -> Policy {
    let spec = serde_yaml_ng::from_str(yaml).unwrap();
    let mut object = k8s::NetworkPolicy {
        spec: Some(spec),
        ..Default::default()
    };
    object.metadata.name = Some("p".to_owned());
    object.metadata.namespace = Some("ns".to_owned());
    Policy::parse(&object)
}

fn defects(yaml: &str) -> Vec<String> {
    parse(yaml).defects.iter().map(ToString::to_string).collect()
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_only_with_egress_rules() {
    let table = [
        ("{podSelector: {}}", (true, false)),
        ("{podSelector: {}, egress: []}", (true, false)),
        ("{podSelector: {}, egress: [{}]}", (true, true)),
        ("{podSelector: {}, policyTypes: []}", (true, false)),
        ("{podSelector: {}, policyTypes: [Egress]}", (false, true)),
        (
            "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}",
            (true, false),
        ),
        ("{podSelector: {}, policyTypes: [Ingress, Egress]}", (true, true)),
    ];
    for (yaml, expected) in table {
        let policy = parse(yaml);
        assert_eq!(
            (policy.ingress.is_some(), policy.egress.is_some()),
            expected,
            "{yaml}"
        );
    }
}

#[test]
fn absent_and_empty_peers_and_ports_mean_any() {
    for rule in ["{}", "{from: [], ports: []}"] {
        let policy = parse(&format!("{{podSelector: {{}}, ingress: [{rule}]}}"));
        assert_eq!(
            policy.ingress.unwrap(),
            [Rule {
                peers: Peers::Any,
                ports: Ports::Any
            }]
        );
    }
}

#[test]
fn a_bare_pod_selector_looks_in_the_policys_own_namespace() {
    let policy = parse("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
    let expected = Peer::Pods {
        namespaces: Namespaces::Own("ns".to_owned()),
        pods: Selector::everything(),
    };
    assert_eq!(policy.ingress.unwrap()[0].peers, Peers::Of(vec![expected]));
}

#[test]
fn an_unreadable_pod_selector_isolates_the_namespace() {
    let policy = parse(
        "{podSelector: {matchExpressions: [{key: a, operator: Like}]}, policyTypes: [Egress], egress: [{}]}",
    );
    assert!(policy.pods.is_everything());
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), Some(vec![])));
    assert_eq!(policy.defects.len(), 1);
}

#[test]
fn what_is_wrong_is_named_also_where_it_has_no_effect() {
    let spec = "podSelector: {matchLabels: {a: -}}, policyTypes: [Ingress], ingress: [{ports: [{port: 0}]}], egress: [{ports: [{port: 0}]}]";
    let fields: Vec<String> = parse(&format!("{{{spec}}}"))
        .defects
        .into_iter()
        .map(|defect| defect.field)
        .collect();
    assert_eq!(
        fields,
        [
            "spec.podSelector.matchLabels.a",
            "spec.ingress[0].ports[0].port",
            "spec.egress[0].ports[0].port"
        ]
    );
    assert!(
        parse("{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 0}]}]}")
            .egress
            .is_none()
    );
}

#[test]
fn an_unreadable_part_matches_nothing_and_is_named() {
    let table = [
        (
            "from: [{ipBlock: {cidr: 10.0.0.0}}]",
            "spec.ingress[0].from[0].ipBlock.cidr: ",
        ),
        (
            "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]",
            "spec.ingress[0].from[0].ipBlock.except[0]: ",
        ),
        (
            "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]",
            "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/16 is not inside of 10.0.0.0/8",
        ),
        ("from: [{}]", "spec.ingress[0].from[0]: "),
        (
            "from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]",
            "spec.ingress[0].from[0]: ipBlock stands",
        ),
        (
            "from: [{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}]",
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values: In needs",
        ),
        (
            "from: [{podSelector: {matchLabels: {a b: x}}}]",
            "spec.ingress[0].from[0].podSelector.matchLabels: \"a b\" is no label key",
        ),
        (
            "from: [{podSelector: {matchExpressions: [{key: a, operator: In, values: [b, -c]}]}}]",
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].values[1]: \"-c\" is no label value",
        ),
        (
            "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]",
            "spec.ingress[0].from[0].ipBlock.except[0]: 10.0.0.0/8 is the whole block",
        ),
        (
            "ports: [{port: a_b}]",
            "spec.ingress[0].ports[0].port: \"a_b\" is no port name",
        ),
        (
            "ports: [{port: 0}]",
            "spec.ingress[0].ports[0].port: port 0 is not",
        ),
        (
            "ports: [{port: 80, endPort: 70}]",
            "spec.ingress[0].ports[0].endPort: endPort 70 is below",
        ),
        (
            "ports: [{port: http, endPort: 70}]",
            "spec.ingress[0].ports[0].endPort: endPort needs",
        ),
        (
            "ports: [{endPort: 70}]",
            "spec.ingress[0].ports[0].endPort: endPort needs",
        ),
        (
            "ports: [{protocol: ICMP}]",
            "spec.ingress[0].ports[0].protocol: unknown protocol",
        ),
    ];
    for (rule, expected) in table {
        let yaml = format!("{{podSelector: {{}}, ingress: [{{{rule}}}]}}");
        let found = defects(&yaml);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{rule}: {found:?}"
        );
        let rule = &parse(&yaml).ingress.unwrap()[0];
        assert!(
            rule.peers == Peers::Of(vec![]) || rule.ports == Ports::Of(vec![]),
            "what cannot be understood opens nothing: {rule:?}"
        );
    }
}

#[test]
fn an_unknown_policy_type_closes_both_directions() {
    let policy = parse("{podSelector: {}, policyTypes: [Sideways]}");
    assert!(policy.ingress.is_some() && policy.egress.is_some());
}

#[test]
fn host_bits_are_cleared() {
    let policy = parse("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}");
    let block = IpBlock {
        cidr: "10.0.0.0/8".parse().unwrap(),
        except: vec![],
    };
    assert_eq!(
        policy.ingress.unwrap()[0].peers,
        Peers::Of(vec![Peer::Block(block)])
    );
}
