//! Facts without a cluster.

use clap::Parser;

use super::*;
use crate::generate;
use crate::read::{self, read_texts};

const CLUSTER: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: 1053}, {name: dns-tcp, port: 53, targetPort: 1053}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.244.1.0/24]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: own}, spec: {controller: example.com/own}}
---
{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes}, spec: {cidrs: [10.96.0.0/16]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.9]}]
ports: [{port: 6443, protocol: TCP}]
---
apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: starter}
spec:
  namespaceSelector: {}
  policies:
  - {name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}
  - {name: allow-ingress, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}
---
apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: strict}
spec:
  namespaceSelector: {}
  facts:
    ingressControllers:
      rules:
      - peers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}, podSelector: {matchLabels: {app: own}}}]
        ports: [{port: 8080}]
  policies:
  - {name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}
  - {name: allow-ingress, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}
";

#[derive(clap::Parser)]
struct Only {
    #[command(flatten)]
    args: Args,
}

/// What is printed, and how it ended.
fn shown(text: &str, options: &[&str]) -> (String, String, Result<Outcome, String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, text).unwrap();
    let words = [&["facts", file.to_str().unwrap()], options].concat();
    let args = Only::parse_from(words).args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(&args, &mut out, &mut err).map_err(|error| error.to_string());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), outcome)
}

#[test]
fn each_fact_is_shown_with_where_it_came_from_and_who_uses_it() {
    let (out, err, outcome) = shown(CLUSTER, &[]);
    assert_eq!(err, "");
    insta::assert_snapshot!(out);
    assert_eq!(
        outcome,
        Ok(Outcome::Found),
        "the starter's ingress controllers are not known"
    );
}

#[test]
fn a_fact_that_nobody_uses_may_stand_for_nothing() {
    let cluster = CLUSTER.split("---\napiVersion: ringfence.dev").next().unwrap();
    let (out, _, outcome) = shown(cluster, &[]);
    assert!(
        out.contains("pin its pods or addresses in spec.facts.ingressControllers.rules"),
        "{out}"
    );
    assert_eq!(outcome, Ok(Outcome::Fine));
}

#[test]
fn one_fact_can_be_asked_for_and_a_misspelt_one_is_named() {
    let (out, _, outcome) = shown(CLUSTER, &["--fact", "dns"]);
    assert_eq!((out.lines().count(), outcome), (2, Ok(Outcome::Fine)), "{out}");
    let (_, _, outcome) = shown(CLUSTER, &["--fact", "dnss"]);
    let error = outcome.unwrap_err();
    assert!(
        error.starts_with("there is no fact dnss; the facts are apiServer, dns,"),
        "{error}"
    );
}

#[test]
fn what_a_baseline_still_goes_by_is_shown_beside_what_the_cluster_says() {
    let known = "
apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: starter}
spec:
  namespaceSelector: {}
  policies: [{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}]
status:
  namespaces: {matched: 0, ready: 0, conflicting: 0}
  facts:
  - {name: dns, state: Resolved, rules: [{origin: Service kube-system/kube-dns, peers: [{ipBlock: {cidr: 192.0.2.53/32}}], ports: [{port: 53, protocol: UDP}]}]}
";
    let (out, _, outcome) = shown(known, &["--fact", "dns"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("dns   Unresolved  -  "), "{out}");
    assert!(
        lines[2].contains("LastKnown") && lines[2].contains("192.0.2.53/32"),
        "{out}"
    );
    assert!(
        lines[2].starts_with("dns   LastKnown   starter  192.0.2.53/32"),
        "{out}"
    );
    assert!(lines[3].contains("kept as last known"), "{out}");
    assert_eq!(outcome, Ok(Outcome::Fine));
}

#[test]
fn what_is_printed_as_json_is_what_generate_takes() {
    let (out, _, _) = shown(CLUSTER, &["-o", "json"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.json");
    std::fs::write(&file, &out).unwrap();
    let facts = generate::facts(file.to_str().unwrap(), &read::Options::default()).unwrap();
    let cluster = read_texts([("c.yaml", CLUSTER)], &read::Options::default()).cluster;
    for known in known(&cluster).0.iter().filter(|known| known.used_by.is_empty()) {
        assert_eq!(facts[&known.fact.name], known.fact);
    }
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        value["facts"][0]["rules"][0]["origin"],
        "Service kube-system/kube-dns"
    );
    assert_eq!(
        value["facts"][0]["usedBy"],
        serde_json::json!(["starter", "strict"])
    );
}

#[test]
fn a_baseline_that_cannot_be_understood_is_said() {
    let wrong = CLUSTER.replace("egress: [{fact: dns}]", "egress: [{fact: dnss}]");
    let (_, err, _) = shown(&wrong, &[]);
    assert!(err.contains("NamespaceBaseline starter has no facts"), "{err}");
}
