use super::super::testing::{namespace, template};
use super::*;
use crate::api::baseline::{Fact, FactState};

fn fact(name: &str, rules: &str) -> (String, Fact) {
    let fact = Fact {
        name: name.to_owned(),
        state: FactState::Resolved,
        message: String::new(),
        rules: serde_yaml_ng::from_str(rules).unwrap(),
    };
    (name.to_owned(), fact)
}

const TWO_DNS: &str = "
- {origin: one, peers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}
- {origin: two, peers: [{ipBlock: {cidr: 169.254.20.10/32}}], ports: [{port: 5353, protocol: UDP}]}
";

/// The only policy of a baseline with this one specification, in the namespace shop.
fn rendered(spec: &str, facts: &[(&str, &str)]) -> Result<Rendered, Error> {
    let template = template(
        "starter",
        &format!("{{namespaceSelector: {{}}, facts: {{own: {{rules: [{{peers: [{{ipBlock: {{cidr: 192.0.2.0/24}}}}]}}]}}}}, policies: [
            {{name: uses-own, spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{fact: own}}]}}}},
            {{name: p, description: Says why., spec: {spec}}}]}}"),
    );
    let facts: Facts = facts.iter().map(|(name, rules)| fact(name, rules)).collect();
    let mut shop = namespace(&[("team", "red")]);
    shop.annotations
        .insert("office".to_owned(), "198.51.100.0/24".to_owned());
    shop.annotations
        .insert("prose".to_owned(), "not a label value".to_owned());
    let place = Place::of("shop", &shop);
    render(&template, &facts, place).remove(1).1
}

fn spec(spec: &str, facts: &[(&str, &str)]) -> NetworkPolicySpec {
    rendered(spec, facts).unwrap().policy.spec.unwrap()
}

#[test]
fn the_default_deny_is_closed_in_every_field_so_that_all_of_them_are_owned() {
    let rendered = rendered("{podSelector: {}, policyTypes: [Egress, Ingress]}", &[]).unwrap();
    assert_eq!(rendered.closes, Closes::Everything);
    insta::assert_yaml_snapshot!(rendered.policy);
}

#[test]
fn a_fact_becomes_one_rule_for_each_of_its_groups() {
    let policy = "{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}";
    insta::assert_yaml_snapshot!(spec(policy, &[("dns", TWO_DNS)]));
}

#[test]
fn the_ports_of_a_rule_take_the_place_of_the_fact_s() {
    let policy = "{podSelector: {}, policyTypes: [Ingress], ingress: [{fact: own, ports: [{port: 8080}]}]}";
    let spec = spec(
        policy,
        &[(
            "own",
            "[{peers: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 1}]}]",
        )],
    );
    let rules = spec.ingress.unwrap();
    assert_eq!(
        serde_json::to_value(&rules[0].ports).unwrap(),
        serde_json::json!([{"port": 8080}])
    );
}

#[test]
fn a_fact_that_stands_for_nothing_leaves_its_rule_out_and_the_policy_closed() {
    for facts in [&[][..], &[("dns", "[]")]] {
        let rendered = rendered(
            "{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}",
            facts,
        )
        .unwrap();
        let policy = Policy::parse(&rendered.policy);
        assert_eq!(
            (policy.egress, policy.ingress, rendered.closes),
            (Some(vec![]), None, Closes::Something)
        );
    }
}

#[test]
fn variables_become_values_of_one_field() {
    let policy =
        "{podSelector: {matchLabels: {team: '${namespace.labels.team}'}}, policyTypes: [Ingress], ingress: [
        {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: '${namespace.name}-tools'}}},
                {ipBlock: {cidr: '${namespace.annotations.office}'}}]}]}";
    insta::assert_yaml_snapshot!(spec(policy, &[]));
}

#[test]
fn a_variable_without_a_value_or_with_one_that_does_not_fit_is_an_error_and_no_rule() {
    let selecting = |variable: &str| {
        let policy =
            format!("{{podSelector: {{matchLabels: {{a: '${{{variable}}}'}}}}, policyTypes: [Ingress]}}");
        rendered(&policy, &[]).unwrap_err().to_string()
    };
    assert_eq!(
        selecting("namespace.labels.tier"),
        "spec.podSelector.matchLabels[a]: the namespace has no label tier"
    );
    assert_eq!(
        selecting("namespace.annotations.prose"),
        "spec.podSelector.matchLabels[a]: \"not a label value\" is no label value: at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"
    );
    let block = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: '${namespace.annotations.prose}'}}]}]}";
    let error = rendered(block, &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("spec.egress[0].to[0].ipBlock.cidr: \"not a label value\" is no CIDR"),
        "{error}"
    );
}

#[test]
fn everyone_is_allowed_only_where_the_template_says_anyone() {
    let spec = spec(
        "{podSelector: {}, policyTypes: [Egress], egress: [{anyone: {}, ports: [{port: 443}]}]}",
        &[],
    );
    let rule = &spec.egress.unwrap()[0];
    assert_eq!((&rule.to, rule.ports.as_ref().map(Vec::len)), (&None, Some(1)));
}

#[test]
fn a_policy_for_each_routed_service_opens_its_pods_and_ports_and_no_others() {
    let template = template(
        "web",
        "{namespaceSelector: {}, policies: [{name: allow-ingress, forEach: RoutedService,
            spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}]}",
    );
    let peer = "[{peers: [{ipBlock: {cidr: 192.0.2.7/32}}]}]";
    let facts = [fact("ingressControllers", peer)].into();
    let routes = [RoutedService {
        name: "web".to_owned(),
        pods: [("app".to_owned(), "web".to_owned())].into(),
        ports: [
            (crate::port::Protocol::Tcp, TargetPort::Number(8080)),
            (crate::port::Protocol::Tcp, TargetPort::Name("admin".to_owned())),
        ]
        .into(),
    }];
    let shop = namespace(&[]);
    let of = |routes| {
        let place = Place {
            routes,
            ..Place::of("shop", &shop)
        };
        render(&template, &facts, place)
    };
    let (name, rendered) = of(&routes).remove(0);
    assert_eq!(name, "allow-ingress-web");
    let policy = rendered.unwrap().policy;
    assert_eq!(policy.metadata.name.as_deref(), Some("allow-ingress-web"));
    insta::assert_yaml_snapshot!(policy.spec.unwrap());
    assert!(of(&[]).is_empty(), "where nothing is routed nothing is opened");
}

#[test]
fn a_policy_says_where_it_comes_from_and_whom_to_ask() {
    let mut baseline = super::super::testing::baseline(
        "starter",
        "{namespaceSelector: {}, contact: '#platform', policies: [{name: p, spec: {podSelector: {}, policyTypes: [Ingress]}}]}",
    );
    baseline.metadata.annotations = Some([(REVISION.to_owned(), "4f2c9d1".to_owned())].into());
    let template = Template::parse(&baseline).unwrap();
    let shop = namespace(&[]);
    let place = Place::of("shop", &shop);
    let rendered = render(&template, &Facts::new(), place).remove(0).1.unwrap();
    let annotations = rendered.policy.metadata.annotations.as_ref().unwrap();
    assert!(
        annotations[DESCRIPTION].ends_with("ask #platform."),
        "{}",
        annotations[DESCRIPTION]
    );
    assert_eq!(
        (annotations[REVISION].as_str(), annotations[GENERATION].as_str()),
        ("4f2c9d1", "1")
    );
    let later = Template {
        revision: Some("other".to_owned()),
        ..template
    };
    let later = render(&later, &Facts::new(), place).remove(0).1.unwrap();
    assert_eq!(
        later.digest, rendered.digest,
        "a commit that changes nothing writes nothing"
    );
}

#[test]
fn the_starter_closes_a_namespace_but_for_dns() {
    let starter = include_str!("../../../../policies/baselines/starter.yaml");
    let baseline: crate::api::NamespaceBaseline = serde_yaml_ng::from_str(starter).unwrap();
    let template = Template::parse(&baseline).unwrap();
    let facts = [fact("dns", TWO_DNS), fact("ingressControllers", "[]")].into();
    let shop = namespace(&[]);
    let place = Place::of("shop", &shop);
    let policies = render(&template, &facts, place);
    let policies: Vec<_> = policies
        .into_iter()
        .map(|(name, rendered)| (name, rendered.unwrap().policy.spec))
        .collect();
    insta::assert_yaml_snapshot!(policies);
}

#[test]
fn a_fact_without_peers_lets_nobody_in() {
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}";
    let rendered = rendered(spec, &[("dns", "[{origin: one, peers: []}]")]).unwrap();
    assert_eq!(rendered.policy.spec.unwrap().egress, Some(vec![]));
}

#[test]
fn a_variable_does_not_become_everyone() {
    let with = |cidr: &str, office: &str| {
        let spec = format!(
            "{{namespaceSelector: {{}}, policies: [{{name: p, spec: {{podSelector: {{}}, policyTypes: [Egress],
             egress: [{{to: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]}}}}]}}"
        );
        let mut shop = namespace(&[]);
        shop.annotations.insert("office".to_owned(), office.to_owned());
        let rendered = render(&template("b", &spec), &Facts::new(), Place::of("shop", &shop))
            .remove(0)
            .1;
        rendered.map(drop).map_err(|error| error.to_string())
    };
    let variable = "${namespace.annotations.office}";
    for wide in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "2000::/3"] {
        let error = with(variable, wide).unwrap_err();
        assert!(error.contains("must not stand for everyone"), "{wide}: {error}");
    }
    for narrow in ["10.0.0.0/8", "fc00::/7", "192.0.2.1/32"] {
        assert_eq!(with(variable, narrow), Ok(()), "{narrow}");
    }
    assert_eq!(with("0.0.0.0/0", ""), Ok(()), "the template's author may");
}
