//! Changes in a small cluster, as they are told.

use serde_json::json;

use super::*;
use crate::cluster::{ContainerPort, Owner, Phase, Pod, Service, ServicePort, TargetPort};
use crate::port::Protocol;
use crate::selector::Selector;

/// `shop` with a frontend of two pods and an API, `bank` with a ledger, and the cluster's DNS.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let labels = |pairs: &[(&str, &str)]| -> crate::selector::Labels {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        pairs.collect()
    };
    for (namespace, name, app, set) in [
        ("shop", "frontend-7-a", "frontend", "frontend-7"),
        ("shop", "frontend-7-b", "frontend", "frontend-7"),
        ("shop", "api-1-a", "api", "api-1"),
        ("bank", "ledger-1-a", "ledger", "ledger-1"),
        ("kube-system", "coredns-1-a", "kube-dns", "coredns-1"),
    ] {
        let key = Key::cluster(namespace);
        let namespace_labels = labels(&[("kubernetes.io/metadata.name", namespace)]);
        cluster.namespaces.apply(
            key,
            crate::cluster::Namespace {
                labels: namespace_labels,
                ..Default::default()
            },
        );
        let hash = set.rsplit('-').next().unwrap();
        let pod = Pod {
            labels: labels(&[("app", app), ("k8s-app", app), ("pod-template-hash", hash)]).into(),
            owner: Some(Owner {
                name: set.to_owned(),
                kind: "ReplicaSet".to_owned(),
            }),
            addresses: vec!["10.0.0.9".parse().unwrap()],
            phase: Phase::Running,
            ports: vec![ContainerPort {
                name: Some("main".to_owned()),
                protocol: Protocol::Tcp,
                number: 8080,
            }],
            ..Pod::default()
        };
        cluster.pods.apply(Key::new(namespace, name), pod);
    }
    let port = |protocol| ServicePort {
        name: None,
        protocol,
        port: 53,
        target: TargetPort::Number(5353),
    };
    cluster.services.apply(
        Key::new("kube-system", "kube-dns"),
        Service {
            selector: Some(Selector::label("k8s-app", "kube-dns")),
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![port(Protocol::Udp), port(Protocol::Tcp)],
            ..Service::default()
        },
    );
    cluster
}

fn policy(name: &str, spec: &str) -> Policy {
    let spec: serde_json::Value = serde_yaml_ng::from_str(spec).unwrap();
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Policy::parse(&serde_json::from_value(object).unwrap())
}

fn with(policies: &[(&str, &str)]) -> Cluster {
    let mut cluster = cluster();
    for (name, spec) in policies {
        cluster
            .policies
            .apply(Key::new("shop", *name), policy(name, spec));
    }
    cluster
}

/// What is told of a policy that becomes so (or goes), in a cluster with others.
fn told(cluster: &Cluster, name: &str, spec: Option<&str>) -> String {
    told_within(cluster, name, spec, Bounds::default())
}

fn told_within(cluster: &Cluster, name: &str, spec: Option<&str>, bounds: Bounds) -> String {
    told_knowing(&Outline::of(cluster), cluster, name, spec, bounds)
}

fn told_knowing(
    outline: &Outline,
    cluster: &Cluster,
    name: &str,
    spec: Option<&str>,
    bounds: Bounds,
) -> String {
    let key = Key::new("shop", name);
    let after = spec.map(|spec| policy(name, spec));
    let change = Change {
        key: &key,
        before: cluster.policies.get(&key),
        after: after.as_ref(),
    };
    let effect = simulate(cluster, outline, change, bounds);
    let lines: Vec<String> = findings(change, &effect)
        .iter()
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect();
    lines.join("\n")
}

const DENY: (&str, &str) = ("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");

#[test]
fn the_first_policy_cuts_what_it_does_not_name() {
    insta::assert_snapshot!(
        told(&cluster(), "api", Some("{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{port: main}]}]}")),
        @"SM002: cuts 3 connections: shop/frontend[Deployment] → shop/api[Deployment] (everything but TCP/8080), bank/ledger[Deployment] → shop/api[Deployment] (everything), kube-system/coredns[Deployment] → shop/api[Deployment] (everything)"
    );
}

#[test]
fn a_rule_opens_only_what_the_other_end_lets_through_too() {
    let allow = "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}";
    let closed = with(&[DENY]);
    assert_eq!(told(&closed, "api", Some(allow)), "");
    let out = (
        "out",
        "{podSelector: {matchLabels: {app: frontend}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]}",
    );
    assert_eq!(
        told(&with(&[DENY, out]), "api", Some(allow)),
        "SM001: opens 1 connection: shop/frontend[Deployment] → shop/api[Deployment] (TCP/80)"
    );
}

#[test]
fn both_ends_of_one_policy_change_together() {
    let both =
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}";
    insta::assert_snapshot!(
        told(&with(&[DENY]), "both", Some(both)),
        @"SM001: opens 3 connections: shop/frontend[Deployment] → shop/api[Deployment] (everything), shop/api[Deployment] → shop/frontend[Deployment] (everything), shop/frontend[Deployment] → shop/frontend[Deployment] (everything)"
    );
}

#[test]
fn to_delete_what_closes_a_namespace_opens_it_also_for_pods_to_come() {
    insta::assert_snapshot!(told(&with(&[DENY]), "deny", None), @"
    SM001: opens 11 connections: shop/frontend[Deployment] → shop/api[Deployment] (everything), bank/ledger[Deployment] → shop/api[Deployment] (everything), kube-system/coredns[Deployment] → shop/api[Deployment] (everything) and 8 more
    SM004: after this every pod to come, shop/api[Deployment], shop/frontend[Deployment] can be reached from any address
    SM005: after this every pod to come, shop/api[Deployment], shop/frontend[Deployment] may open connections to any address
    ");
    let mut empty = with(&[DENY]);
    empty.pods.reset([]);
    insta::assert_snapshot!(told(&empty, "deny", None), @"
    SM004: after this every pod to come can be reached from any address
    SM005: after this every pod to come may open connections to any address
    ");
}

#[test]
fn dns_is_cut_by_what_it_is_really_reached_by() {
    let out = |port: u16| {
        format!(
            "{{podSelector: {{matchLabels: {{app: api}}}}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{}}}}], \
             ports: [{{port: {port}, protocol: UDP}}]}}]}}"
        )
    };
    assert!(
        told(&cluster(), "api", Some(&out(53))).contains("SM003: after this shop/api[Deployment] cannot")
    );
    assert!(!told(&cluster(), "api", Some(&out(5353))).contains("SM003"));
    let anywhere =
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}";
    assert!(!told(&cluster(), "api", Some(anywhere)).contains("SM003"));
    let none = with(&[("api", &out(53))]);
    assert!(
        !told(&none, "api", Some(&out(54))).contains("SM003"),
        "it was cut before"
    );
}

#[test]
fn dns_that_moves_is_followed() {
    let mut cluster = cluster();
    let mut outline = Outline::of(&cluster);
    let out = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 5353, protocol: UDP}]}]}";
    let told = |outline: &Outline, cluster: &Cluster| {
        told_knowing(outline, cluster, "out", Some(out), Bounds::default())
    };
    assert!(!told(&outline, &cluster).contains("SM003"));
    let key = Key::new("kube-system", "kube-dns");
    let mut service = cluster.services.get(&key).unwrap().clone();
    for port in &mut service.ports {
        port.target = TargetPort::Number(1053);
    }
    cluster.services.apply(key, service);
    assert!(!outline.holds(&cluster));
    outline.follow(&cluster);
    assert!(outline.holds(&cluster) && told(&outline, &cluster).contains("SM003"));
}

#[test]
fn a_policy_that_opens_to_the_world_is_told_however_it_says_so() {
    let from = |cidrs: &str| {
        let spec = format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{cidrs}]}}]}}");
        told(&with(&[DENY]), "world", Some(&spec)).contains("SM004")
    };
    assert!(from("{ipBlock: {cidr: 0.0.0.0/0}}"));
    assert!(from(
        "{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}"
    ));
    assert!(!from("{ipBlock: {cidr: 203.0.113.0/24}}"));
    assert!(told(&with(&[DENY]), "any", Some("{podSelector: {}, ingress: [{}]}")).contains("SM004"));
}

#[test]
fn a_change_that_changes_nothing_is_not_told() {
    let cluster = with(&[DENY]);
    assert_eq!(told(&cluster, DENY.0, Some(DENY.1)), "");
    assert_eq!(told(&cluster, "other", Some(DENY.1)), "");
    assert_eq!(told(&cluster, "absent", None), "");
}

#[test]
fn what_is_beyond_the_bounds_is_said_to_be_there() {
    let bounds = Bounds {
        pairs: 2,
        ..Bounds::default()
    };
    let text = told_within(&cluster(), DENY.0, Some(DENY.1), bounds);
    assert!(text.contains("cuts at least 2 connections"), "{text}");
    let bounds = Bounds {
        counted: 1,
        ..Bounds::default()
    };
    let text = told_within(&cluster(), DENY.0, Some(DENY.1), bounds);
    assert!(text.contains("cuts at least 1 connection:"), "{text}");
    let bounds = Bounds {
        pods: 1,
        ..Bounds::default()
    };
    let text = told_within(&cluster(), DENY.0, Some(DENY.1), bounds);
    assert!(text.contains("at least"), "{text}");
}

#[test]
fn what_is_closed_to_a_change_takes_no_look_at_pairs() {
    let mut cluster = with(&[DENY]);
    let out = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 81}]}]}";
    for namespace in ["bank", "kube-system"] {
        for (name, spec) in [DENY, ("out", out)] {
            cluster
                .policies
                .apply(Key::new(namespace, name), policy(name, spec));
        }
    }
    let effect_on = |port: u16| {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: api}}}}, ingress: [{{from: [{{namespaceSelector: {{}}}}], ports: [{{port: {port}}}]}}]}}"
        );
        let (key, after) = (Key::new("shop", "api"), policy("api", &spec));
        let change = Change {
            key: &key,
            before: None,
            after: Some(&after),
        };
        let bounds = Bounds {
            pairs: 1,
            ..Bounds::default()
        };
        simulate(&cluster, &Outline::of(&cluster), change, bounds)
    };
    assert_eq!(effect_on(80), Effect::default());
    let opened = effect_on(81);
    assert!(opened.opened.count == 1 && opened.incomplete, "{opened:?}");
}

#[test]
fn a_policy_that_is_there_before_its_pods_is_judged_for_those_that_come() {
    let later = |rest: &str| format!("{{podSelector: {{matchLabels: {{app: later}}}}, {rest}}}");
    let world = later("policyTypes: [Ingress], ingress: [{}]");
    assert_eq!(
        told(&with(&[DENY]), "later", Some(&world)),
        "SM004: after this every pod to come with app=later can be reached from any address"
    );
    let closed = later("policyTypes: [Egress]");
    assert_eq!(
        told(&cluster(), "later", Some(&closed)),
        "SM003: after this every pod to come with app=later cannot reach the cluster's DNS"
    );
    let known = "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{}]}";
    assert!(!told(&with(&[DENY]), "known", Some(known)).contains("to come"));
}

#[test]
fn pods_with_early_names_hide_no_others_and_connections_hide_no_opening() {
    let mut cluster = with(&[DENY]);
    for index in 0..600 {
        let pod = Pod {
            labels: crate::selector::Labels::from([("n".to_owned(), index.to_string())]).into(),
            ..Pod::default()
        };
        cluster.pods.apply(Key::new("shop", format!("a-{index}")), pod);
    }
    let bounds = Bounds {
        pairs: 512,
        ..Bounds::default()
    };
    let world = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}";
    let text = told_within(&cluster, DENY.0, Some(world), bounds);
    assert!(text.contains("SM004") && text.contains("and 598 more"), "{text}");
    let spec = "{podSelector: {matchExpressions: [{key: app, operator: Exists}]}, ingress: [{}]}";
    let text = told_within(&cluster, "opens", Some(spec), bounds);
    assert!(text.contains("shop/api[Deployment]"), "{text}");
}

#[test]
fn dns_that_is_pinned_in_a_baseline_is_where_names_are_resolved() {
    let mut cluster = cluster();
    let spec = "{namespaceSelector: {}, policies: [], facts: {dns: {rules: [{peers: [{ipBlock: {cidr: 192.0.2.53/32}}], \
                ports: [{port: 53, protocol: UDP}]}]}}}";
    let baseline = crate::api::NamespaceBaseline::new("b", serde_yaml_ng::from_str(spec).unwrap());
    cluster.baselines.apply(Key::cluster("b"), baseline);
    let out = |cidr: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}], \
             ports: [{{port: 53, protocol: UDP}}]}}]}}"
        )
    };
    assert!(!told(&cluster, "out", Some(&out("192.0.2.53/32"))).contains("SM003"));
    assert!(told(&cluster, "out", Some(&out("10.0.0.9/32"))).contains("SM003"));
}

#[test]
#[allow(clippy::disallowed_methods)] // how long it takes is what is tested
fn a_change_of_the_largest_size_is_worked_out_as_far_as_there_is_time() {
    let mut cluster = with(&[DENY]);
    for index in 0..500 {
        let name = format!("n-{index}");
        let labels = crate::selector::Labels::from([("app".to_owned(), name.clone())]);
        let namespace = crate::cluster::Namespace {
            labels: labels.clone(),
            ..Default::default()
        };
        cluster.namespaces.apply(Key::cluster(&name), namespace);
        let pod = Pod {
            labels: labels.into(),
            ..Pod::default()
        };
        cluster.pods.apply(Key::new(&name, "pod"), pod.clone());
        cluster.pods.apply(Key::new("shop", &name), pod);
    }
    let peer = |index: usize| {
        format!("{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: n-{index}}}}}}}")
    };
    let peers: Vec<String> = (0..20_000).map(peer).collect();
    let spec = format!(
        "{{podSelector: {{}}, ingress: [{{from: [{}]}}]}}",
        peers.join(", ")
    );
    let (key, after) = (Key::new("shop", "large"), policy("large", &spec));
    let change = Change {
        key: &key,
        before: None,
        after: Some(&after),
    };
    let start = std::time::Instant::now();
    let effect = simulate(&cluster, &Outline::of(&cluster), change, Bounds::default());
    assert!(
        start.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(effect.incomplete);
}

#[test]
fn every_code_finds_something_in_its_bad_example_and_nothing_in_its_good_one() {
    for entry in CATALOGUE {
        let before = if matches!(entry.code, CUTS | CUTS_DNS) {
            cluster()
        } else {
            with(&[DENY])
        };
        let mut open = before;
        if entry.code == OPENS {
            // The other end must let it through.
            open.policies.apply(
                Key::new("shop", "deny"),
                policy("deny", "{podSelector: {}, policyTypes: [Ingress]}"),
            );
        }
        let bad = told(&open, "example", Some(entry.bad));
        assert!(bad.contains(entry.code), "{}: {bad}", entry.code);
    }
}
