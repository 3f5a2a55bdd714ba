//! Answers, as they are shown.

use clap::Parser;

use super::*;
use crate::read::{self, read_texts};

const SHOP: &str = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {selector: {}, template: {metadata: {labels: {app: web}}, spec: {containers: []}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: api, namespace: shop}, spec: {selector: {}, template: {metadata: {labels: {app: api}},
  spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: backend, namespace: shop}, spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: ops, labels: {app: probe}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: web}}
    ports:
    - port: http
  - from:
    - podSelector: {matchLabels: {app: probe}}
    ports:
    - port: 8080
";

#[derive(clap::Parser)]
struct Only {
    #[command(flatten)]
    args: Args,
}

fn ask(format: Format, from: &str, to: &str, port: &str) -> Result<(bool, String), String> {
    let reading = read_texts([("shop.yaml", SHOP)], &read::Options::default());
    assert_eq!(reading.problems, []);
    let args = Only::parse_from(["check", "x", "--from", from, "--to", to, "--port", port]).args;
    let answer = answer(&args, &reading.cluster, &reading.policies).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    match format {
        Format::Text => report::text(&answer, &reading.policies, &mut out).unwrap(),
        Format::Json => report::json(&answer, &reading.policies, &mut out).unwrap(),
    }
    let plain = anstream::adapter::strip_bytes(&out).into_vec();
    Ok((answer.explanation.allowed(), String::from_utf8(plain).unwrap()))
}

#[test]
fn what_is_allowed_names_the_rule_and_its_line() {
    let (allowed, text) = ask(Format::Text, "shop/web", "shop/api", "8080").unwrap();
    assert!(allowed);
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_denied_names_the_nearest_rule_and_a_change_to_apply() {
    let (allowed, text) = ask(Format::Text, "ops/probe", "shop/api", "8080").unwrap();
    assert!(!allowed);
    insta::assert_snapshot!(text);
}

#[test]
fn the_answer_as_json_reads_back() {
    let (_, text) = ask(Format::Json, "203.0.113.7", "shop/api", "8080").unwrap();
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&text).unwrap());
}

#[test]
fn a_service_is_judged_at_its_pods_and_their_port() {
    for name in ["shop/backend", "shop/svc/backend"] {
        let (allowed, text) = ask(Format::Text, "shop/web", name, "80").unwrap();
        assert!(
            allowed && text.starts_with("shop/web[Deployment] -> shop/api[Deployment] TCP/8080: allowed"),
            "{text}"
        );
    }
}

#[test]
fn a_pod_of_two_families_is_known_by_either_address() {
    const TWO: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}, spec: {nodeName: node1, containers: []},
  status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {nodeName: node1, containers: []},
  status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: api, namespace: shop},
  spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: 'fd00::2/128'}}]}]}}
";
    let allowed = |from: &str, to: &str| {
        let mut reading = read_texts([("shop.yaml", TWO)], &read::Options::default());
        assert_eq!(reading.problems, []);
        let args = Only::parse_from(["check", "x", "--from", from, "--to", to, "--port", "1"]).args;
        end::look_at_family(&mut reading.cluster, [from, to]);
        let answer = answer(&args, &reading.cluster, &reading.policies).unwrap();
        answer.explanation.allowed()
    };
    assert!(!allowed("fd00::9", "fd00::1"), "isolated by either address");
    assert!(
        allowed("shop/web", "fd00::1"),
        "both ends are of the family that was asked about"
    );
    assert!(!allowed("shop/web", "10.0.0.1") && !allowed("shop/web", "shop/api"));
}

#[test]
fn who_is_not_there_is_said_with_who_is() {
    let table = [
        (
            "shop/nobody",
            "shop/api",
            "80",
            "there is no pod or workload shop/nobody; in shop there are api, web",
        ),
        (
            "void/x",
            "shop/api",
            "80",
            "there is no pod or workload void/x; namespace void has no pods",
        ),
        (
            "shop/web",
            "shop/backend",
            "81",
            "the Service shop/backend has no port TCP/81; it has TCP/80",
        ),
        (
            "shop/web",
            "shop/api",
            "0",
            "--port 0: must be between 1 and 65535",
        ),
        ("shop/web", "shop/svc/none", "1", "there is no Service shop/none"),
        (
            "shop/svc/backend",
            "shop/api",
            "1",
            "--from shop/svc/backend: a Service opens no connections",
        ),
    ];
    for (from, to, port, expected) in table {
        assert_eq!(ask(Format::Text, from, to, port).unwrap_err(), expected);
    }
}
