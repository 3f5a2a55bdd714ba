//! Reasons in words, and mends that do what they say.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;

use super::*;
use crate::cluster::Assembly;
use crate::evaluate::evaluate;
use crate::port::Protocol;

fn object<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml_ng::from_str(yaml).unwrap()
}

fn cluster(spec: &str) -> (Cluster, NetworkPolicy) {
    let policy: NetworkPolicy = object(&format!(
        "{{metadata: {{name: p, namespace: shop}}, spec: {spec}}}"
    ));
    let mut assembly = Assembly::default();
    for pod in [
        "{metadata: {name: web, namespace: shop, labels: {app: web, pod-template-hash: x}}, status: {podIP: 10.0.0.1}}",
        "{metadata: {name: api, namespace: shop, labels: {app: api}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}",
        "{metadata: {name: tool, namespace: ops, labels: {app: tool}}}",
    ] {
        assembly.apply(&object::<core::Pod>(pod));
    }
    assembly.apply(&policy);
    (assembly.finish(), policy)
}

fn reasons(spec: &str, from: &str) -> Vec<String> {
    let (cluster, _) = cluster(spec);
    let (from, to) = (key(from), key("shop/api"));
    let end = |key| Endpoint::of(&cluster, key).unwrap();
    let side = explain(&cluster, end(&from), end(&to), Transport::Port(Protocol::Tcp, 80)).ingress;
    assert!(!side.allowed());
    let nearest = &side.missed[0];
    nearest
        .peer
        .iter()
        .chain(&nearest.port)
        .map(ToString::to_string)
        .collect()
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key::new(namespace, name)
}

#[test]
fn the_nearest_rule_says_why_it_missed() {
    let table = [
        (
            "{ingress: [{from: [{podSelector: {matchLabels: {app: tool}}}]}]}",
            "ops/tool",
            "a podSelector alone looks in the policy's own namespace shop only, and the other end is in ops",
        ),
        (
            "{ingress: [{from: [{namespaceSelector: {matchLabels: {name: ops}}}]}]}",
            "ops/tool",
            "namespace ops has no label name; the rule wants name=ops",
        ),
        (
            "{ingress: [{from: [{podSelector: {matchLabels: {app: wbe}}}]}]}",
            "shop/web",
            "pod shop/web has app=web; the rule wants app=wbe",
        ),
        (
            "{ingress: [{from: [{podSelector: {}}], ports: [{port: http}, {port: 80, protocol: UDP}, {port: nope}]}]}",
            "shop/web",
            "the rule is for TCP/http (8080 there), UDP/80, TCP/nope (a name that no port there has); TCP/80 is wanted",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/24]}}]}]}",
            "shop/web",
            "10.0.0.1 is in 10.0.0.0/24, which the rule excepts",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
            "ops/tool",
            "the rule is for 10.0.0.0/8, and the address of pod ops/tool is not known",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}, {ports: [{port: 81}]}]}",
            "ops/tool",
            "the rule is for TCP/81; TCP/80 is wanted",
        ),
    ];
    for (spec, from, expected) in table {
        assert_eq!(reasons(spec, from), [expected], "{spec}");
    }
}

#[test]
fn a_mend_allows_the_connection_and_keeps_the_rest_of_the_policy() {
    for spec in [
        "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: tool}}}], ports: [{port: 80}]}]}",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 443}]}]}",
    ] {
        let (mut cluster, policy) = cluster(spec);
        let (from, to) = (key("ops/tool"), key("shop/api"));
        let transport = Transport::Port(Protocol::Tcp, 80);
        let mended = {
            let end = |key| Endpoint::of(&cluster, key).unwrap();
            let explanation = explain(&cluster, end(&from), end(&to), transport);
            let mut mends = mends(&cluster, &explanation, (end(&from), end(&to)), transport, |_| {
                Some(policy.clone())
            });
            assert_eq!(mends.len(), 1);
            mends.remove(0)
        };
        insta::with_settings!({ description => spec, omit_expression => true }, { insta::assert_yaml_snapshot!(mended) });
        cluster.apply(&mended);
        let end = |key| Endpoint::of(&cluster, key).unwrap();
        assert!(evaluate(&cluster, end(&from), end(&to), transport).allowed());
    }
}

#[test]
fn where_no_rule_is_near_a_policy_of_its_own_allows_just_this() {
    let (mut cluster, _) = cluster("{podSelector: {}, policyTypes: [Ingress]}");
    let (from, to) = (key("shop/web"), key("shop/api"));
    let transport = Transport::Port(Protocol::Udp, 53);
    let added = {
        let end = |key| Endpoint::of(&cluster, key).unwrap();
        let explanation = explain(&cluster, end(&from), end(&to), transport);
        assert!(explanation.ingress.missed.is_empty());
        mends(&cluster, &explanation, (end(&from), end(&to)), transport, |_| {
            None
        })
        .remove(0)
    };
    insta::assert_yaml_snapshot!(added);
    cluster.apply(&added);
    let end = |key| Endpoint::of(&cluster, key).unwrap();
    assert!(evaluate(&cluster, end(&from), end(&to), transport).allowed());
}
