//! Rendering without a cluster.

use clap::Parser;

use super::*;
use crate::read::{self, read_texts};

const BASELINE: &str = "
apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: starter}
spec:
  namespaceSelector: {}
  policies:
  - name: default-deny
    spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
  - name: allow-dns
    spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
";
const DNS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: 1053}, {name: dns-tcp, port: 53, targetPort: 1053}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}}
";

fn rendered(more: &str, only: &[&str]) -> (String, Vec<Remark>) {
    let reading = read_texts(
        [("b.yaml", BASELINE), ("m.yaml", more)],
        &read::Options::default(),
    );
    assert_eq!(reading.problems, []);
    let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
    let (policies, remarks) = policies(&reading.cluster, &only, &Facts::new()).unwrap();
    let yaml: Vec<String> = policies
        .iter()
        .map(|policy| serde_yaml_ng::to_string(policy).unwrap())
        .collect();
    (yaml.join("---\n"), remarks)
}

#[test]
fn the_namespaces_of_the_input_get_their_policies_with_facts_from_the_input() {
    let (yaml, remarks) = rendered(DNS, &[]);
    assert_eq!(remarks, []);
    insta::assert_snapshot!(yaml);
}

#[test]
fn a_fact_that_stands_for_nothing_is_said_and_opens_nothing() {
    let (yaml, remarks) = rendered("", &["new"]);
    assert_eq!(remarks.len(), 1);
    assert!(
        remarks[0].text.contains("the fact dns stands for nothing") && !remarks[0].fails,
        "{remarks:?}"
    );
    assert!(
        yaml.contains("namespace: new") && !yaml.contains("port"),
        "{yaml}"
    );
}

#[test]
fn a_namespace_that_no_baseline_takes_is_said() {
    let (yaml, remarks) = rendered(DNS, &["kube-system"]);
    assert_eq!(yaml, "");
    assert_eq!(remarks[0].text, "no baseline takes namespace kube-system");
}

#[test]
fn facts_are_read_in_every_form() {
    let fact = "{name: dns, state: Resolved, rules: [{peers: [{ipBlock: {cidr: 10.0.0.10/32}}], ports: [{port: 53}]}]}";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.yaml");
    let path = file.to_str().unwrap();
    for text in [
        format!("[{fact}]"),
        format!("facts: [{fact}]"),
        format!("{BASELINE}\nstatus: {{facts: [{fact}]}}")
            .split("---")
            .next()
            .unwrap()
            .to_owned()
            + &format!("status: {{facts: [{fact}]}}"),
    ] {
        std::fs::write(&file, &text).unwrap();
        assert_eq!(
            facts::read(path, &read::Options::default()).unwrap()["dns"]
                .rules
                .len(),
            1,
            "{text}"
        );
    }
    let wrong = format!("facts:\n- {fact}\n- name: x\n  state: Maybe\n");
    std::fs::write(&file, wrong).unwrap();
    let error = facts::read(path, &read::Options::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{path}:4: state: unknown variant `Maybe`")),
        "{error}"
    );
    let laughs: String = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        text + &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        )
    });
    std::fs::write(&file, laughs).unwrap();
    let error = facts::read(path, &read::Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("anchors and aliases"), "{error}");
    std::fs::write(&file, "a: 1").unwrap();
    assert!(facts::read(path, &read::Options::default()).is_err());
}

#[test]
fn the_objects_of_a_list_are_the_very_bodies_that_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.yaml");
    std::fs::write(&file, format!("{BASELINE}---{DNS}")).unwrap();
    let shown = |output: &str| {
        let args = Only::parse_from(["generate", file.to_str().unwrap(), "-o", output]).args;
        let mut out = Vec::new();
        run(&args, &mut out, &mut std::io::sink()).unwrap();
        String::from_utf8(out).unwrap()
    };
    let reading = read_texts(
        [("b.yaml", format!("{BASELINE}---{DNS}").as_str())],
        &read::Options::default(),
    );
    let (policies, _) = policies(&reading.cluster, &[], &Facts::new()).unwrap();
    assert!(!policies.is_empty());
    let applied: Vec<Vec<u8>> = policies
        .iter()
        .map(|policy| serde_json::to_vec(&body(policy).unwrap()).unwrap())
        .collect();
    let list: serde_json::Value = serde_json::from_str(&shown("json")).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let items: Vec<Vec<u8>> = items.map(|item| serde_json::to_vec(item).unwrap()).collect();
    assert_eq!(items, applied);
    let documents = shown("yaml");
    let documents: Vec<Vec<u8>> = read::objects(&documents)
        .unwrap()
        .into_iter()
        .filter(|node| !node.is_null())
        .map(|node| serde_json::to_vec(&node.into_json()).unwrap())
        .collect();
    assert_eq!(documents, applied);
}

#[derive(clap::Parser)]
struct Only {
    #[command(flatten)]
    args: Args,
}
