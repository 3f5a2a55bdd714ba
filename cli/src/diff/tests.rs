//! Differences and their forms.

use super::*;
use crate::read::read_texts;

const WORKLOADS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}}
";

fn reading(spec: &str, more: &str) -> Reading {
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: api, namespace: shop}}, spec: {spec}}}"
    );
    let texts = [("w.yaml", WORKLOADS), ("p.yaml", &policy), ("m.yaml", more)];
    let reading = read_texts(texts, &read::Options::default());
    assert_eq!(reading.problems, []);
    reading
}

fn difference() -> Difference {
    let before = reading(
        "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}], \
          egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        "",
    );
    let after = reading(
        "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}], \
          egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}",
        "{apiVersion: v1, kind: Pod, metadata: {name: tool, namespace: ops}}",
    );
    compare(&before, &after, Options::default())
}

fn shown(format: Format) -> String {
    let mut out = Vec::new();
    format::write(format, &difference(), &mut out).unwrap();
    String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
}

#[test]
fn a_difference_as_text() {
    insta::assert_snapshot!(shown(Format::Text));
}

#[test]
fn a_difference_as_markdown() {
    insta::assert_snapshot!(shown(Format::Md));
}

#[test]
fn a_difference_as_json_reads_back() {
    let value: serde_json::Value = serde_json::from_str(&shown(Format::Json)).unwrap();
    insta::assert_json_snapshot!(value["changed"]);
    assert_eq!(value["addedWorkloads"][0], "ops/tool[Pod]");
}

#[test]
fn the_same_policy_written_otherwise_is_no_difference() {
    let one = reading(
        "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        "",
    );
    let other = reading(
        "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/9}}, {ipBlock: {cidr: 10.128.0.0/9}}]}]}",
        "",
    );
    assert!(compare(&one, &other, Options::default()).is_empty());
    let with_ipv6 = reading(
        "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: '2001:db8::/32'}}]}]}",
        "",
    );
    let gained = compare(&one, &with_ipv6, Options::default()).changes;
    let gained: Vec<(&str, &str)> = gained
        .iter()
        .map(|change| (change.from.as_str(), change.to.as_str()))
        .collect();
    let range = "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(gained, [("shop/api[Pod]", range), ("shop/web[Pod]", range)]);
}

#[test]
fn revisions_of_a_repository_are_read_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command
            .current_dir(folder.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
        command
            .args(args)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !git(&["init", "-q"]) {
        return; // no git here
    }
    std::fs::create_dir(folder.path().join("k8s")).unwrap();
    std::fs::write(folder.path().join("k8s/w.yaml"), WORKLOADS).unwrap();
    assert!(git(&["add", "-A"]) && git(&["commit", "-q", "-m", "one"]));
    std::fs::write(folder.path().join("k8s/w.yaml"), "changed since").unwrap();
    let texts = git::texts_in(Some(folder.path()), "HEAD", &["k8s".to_owned()], 1 << 20).unwrap();
    assert_eq!(texts, [("k8s/w.yaml".to_owned(), WORKLOADS.to_owned())]);
    assert!(git::texts_in(Some(folder.path()), "nowhere", &[], 1 << 20).is_err());
    assert!(git::texts_in(Some(folder.path()), "HEAD", &[], 10).is_err());
}
