//! The list and its forms.

use super::*;
use crate::read::{self, read_texts};

const SHOP: &str = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {selector: {}, template: {metadata: {labels: {app: web}}, spec: {containers: []}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: api, namespace: shop}, spec: {selector: {}, template: {metadata: {labels: {app: api}},
  spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: ops}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none, namespace: shop}, spec: {podSelector: {matchLabels: {app: nobody}}, ingress: [{}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: api, namespace: shop}, spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress],
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}, {port: 53, protocol: UDP}]}],
  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 443}, {port: 8000, endPort: 8080}]}]}}
";

fn listed(format: Format, focus: &[&str]) -> String {
    let reading = read_texts([("shop.yaml", SHOP)], &read::Options::default());
    assert_eq!(reading.problems, []);
    let connections = Connections::of(&reading.cluster, Options::default());
    let focus: Vec<String> = focus.iter().map(|name| (*name).to_owned()).collect();
    let mut out = Vec::new();
    let rows = connections.iter().filter(|row| in_focus(row, &focus));
    format::write(format, connections.workloads(), rows, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_list_as_text() {
    insta::assert_snapshot!(listed(Format::Text, &[]));
}

#[test]
fn the_list_as_json_reads_back() {
    let rows: Vec<serde_json::Value> = serde_json::from_str(&listed(Format::Json, &["shop/api"])).unwrap();
    insta::assert_json_snapshot!(rows);
}

#[test]
fn an_empty_list_is_json_too() {
    let mut out = Vec::new();
    format::write(Format::Json, std::iter::empty(), std::iter::empty(), &mut out).unwrap();
    assert!(serde_json::from_slice::<Vec<u8>>(&out).unwrap().is_empty());
}

#[test]
fn the_list_as_csv() {
    insta::assert_snapshot!(listed(Format::Csv, &["api"]));
}

#[test]
fn the_list_as_markdown() {
    insta::assert_snapshot!(listed(Format::Md, &["shop/api[Deployment]"]));
}

#[test]
fn the_list_as_dot() {
    insta::assert_snapshot!(listed(Format::Dot, &["api"]));
}

#[test]
fn what_is_open_to_whoever_comes() {
    let reading = read_texts([("shop.yaml", SHOP)], &read::Options::default());
    let rows = ringfence_netpol::connections::exposure(&reading.cluster);
    let shown = |format| {
        let mut out = Vec::new();
        exposure::write(format, &rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!(shown(Format::Text));
    for format in [Format::Csv, Format::Md] {
        assert_eq!(
            shown(format).lines().count() - 1,
            rows.len() + usize::from(format == Format::Md)
        );
    }
    let json: Vec<serde_json::Value> = serde_json::from_str(&shown(Format::Json)).unwrap();
    assert_eq!(json.len(), rows.len());
    assert!(exposure::write(Format::Dot, &rows, &mut Vec::new()).is_err());
}
