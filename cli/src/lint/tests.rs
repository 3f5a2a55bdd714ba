//! Findings and their forms.

use super::*;
use crate::read::read_texts;

const SHOP: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: dns
  namespace: shop
spec:
  podSelector: {}
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          name: kube-system
    ports:
    - port: 53
      protocol: UDP
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - to:
    - podSelector: {matchLabels: {app: gone}}
    ports:
    - port: 0
  - from:
    - podSelector: {matchLabels: {app: gone-too}}
";

fn located(complete: bool) -> Vec<Located> {
    let options = read::Options {
        keep_refused: true,
        ..read::Options::default()
    };
    let reading = read_texts([("my shop/a.yaml", SHOP)], &options);
    assert_eq!(reading.problems, []);
    findings(reading, &Severities::default(), complete)
}

fn shown(format: Format) -> String {
    let mut out = Vec::new();
    format::write(format, &located(false), 2, &mut out).unwrap();
    String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
}

#[test]
fn findings_name_the_line_of_the_field() {
    let places: Vec<String> = located(false)
        .iter()
        .map(|located| {
            format!(
                "{} {}: {}",
                located.line, located.finding.code, located.finding.field
            )
        })
        .collect();
    insta::assert_debug_snapshot!(places);
}

#[test]
fn what_matches_nothing_is_complained_about_only_where_the_input_is_complete() {
    let nothing = |complete| {
        located(complete)
            .iter()
            .filter(|l| l.finding.code == "NP003")
            .count()
    };
    assert_eq!(nothing(false), 0);
    assert!(nothing(true) > 0);
}

#[test]
fn findings_as_text() {
    insta::assert_snapshot!(shown(Format::Text));
}

#[test]
fn findings_as_github_annotations() {
    insta::assert_snapshot!(shown(Format::Github));
}

#[test]
fn findings_as_json_and_sarif_read_back() {
    let json: serde_json::Value = serde_json::from_str(&shown(Format::Json)).unwrap();
    insta::assert_json_snapshot!(json[0]);
    let sarif: serde_json::Value = serde_json::from_str(&shown(Format::Sarif)).unwrap();
    insta::assert_json_snapshot!(sarif["runs"][0]["results"][0]);
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), ringfence_netpol::lint::rules::ALL.len());
}

#[test]
fn levels_are_codes_with_a_level() {
    assert_eq!(level("NP001=off"), Ok(("NP001".to_owned(), Level::Off)));
    assert!(level("NP001").is_err() && level("NP001=loud").is_err());
}

#[test]
fn namespaces_are_held_to_the_standards_of_the_input_and_standards_are_read() {
    let text = "\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels:
    team: red
    tier: fornt
---
{apiVersion: v1, kind: Namespace, metadata: {name: other}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
apiVersion: ringfence.dev/v1alpha1
kind: LabelStandard
metadata: {name: teams}
spec:
  labels:
  - key: team
  - {key: tier, required: false, allowedValues: [front, back]}
---
apiVersion: ringfence.dev/v1alpha1
kind: LabelStandard
metadata: {name: broken}
spec:
  labels:
  - key: zone
    required: false
    pattern: (
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: implied}}
";
    let reading = read_texts([("labels.yaml", text)], &read::Options::default());
    assert_eq!(reading.problems, []);
    let found = findings(reading, &Severities::default(), false);
    let places: Vec<String> = found
        .iter()
        .map(|located| {
            let finding = &located.finding;
            format!("{} {} {}", located.line, finding.code, finding.object)
        })
        .collect();
    assert_eq!(
        places,
        [
            "7 LB002 Namespace shop",
            "9 LB001 Namespace other",
            "28 LS001 LabelStandard broken"
        ]
    );
}
