//! A DNS that moves: the cluster's own CoreDNS on another port, and a second one beside it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use ringfence_tests::connection::{Outcome, connect};
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Wanted};
use serde_json::{Value, json};

use crate::stage::{SETTLE, Stage};

const NAME: &str = "t-dns";
const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
const DNS: &str = "{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}";
/// Whom everybody can ask for, and nobody here may connect to.
const KNOWN: &str = "kubernetes.default.svc.cluster.local:443";

fn corefile(port: u16) -> String {
    format!(
        ".:{port} {{\n    errors\n    health\n    ready\n    kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        pods insecure\n        \
         fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }}\n    cache 30\n}}\n"
    )
}

fn container_ports(port: u16) -> Value {
    json!([
        {"name": "dns", "containerPort": port, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": port, "protocol": "TCP"},
        {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
    ])
}

async fn patch(target: &Target, object: &str, kind: &str, patch: &Value) -> anyhow::Result<()> {
    let kind = format!("--type={kind}");
    let patch = patch.to_string();
    let words = [
        "--namespace",
        "kube-system",
        "patch",
        object,
        &kind,
        "--patch",
        &patch,
    ];
    target.kubectl(&words).await.map(drop)
}

async fn rolled(target: &Target, deployment: &str) -> anyhow::Result<()> {
    let status = [
        "--namespace",
        "kube-system",
        "rollout",
        "status",
        deployment,
        "--timeout=90s",
    ];
    target.kubectl(&status).await.map(drop)
}

/// Has the cluster's CoreDNS listen on a port; its Service stays on 53.
async fn listen(target: &Target, port: u16) -> anyhow::Result<()> {
    // First by name, so that each pod is reached where it listens while they are exchanged one after the other.
    let named = |target: Value, tcp: Value| {
        json!([{"op": "replace", "path": "/spec/ports", "value": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": target},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": tcp}]}])
    };
    patch(
        target,
        "service/kube-dns",
        "json",
        &named(json!("dns"), json!("dns-tcp")),
    )
    .await?;
    patch(
        target,
        "configmap/coredns",
        "merge",
        &json!({"data": {"Corefile": corefile(port)}}),
    )
    .await?;
    let ports = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/ports", "value": container_ports(port)}]);
    patch(target, "deployment/coredns", "json", &ports).await?;
    rolled(target, "deployment/coredns").await
}

/// The cluster's DNS as it is otherwise.
async fn restore(target: &Target) -> anyhow::Result<()> {
    let second = [
        "--namespace",
        "kube-system",
        "delete",
        "--ignore-not-found",
        "deployment/second-dns",
        "service/second-dns",
        "configmap/second-dns",
    ];
    target.kubectl(&second).await?;
    listen(target, 53).await?;
    let ports = json!([{"op": "replace", "path": "/spec/ports", "value": [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]}]);
    patch(target, "service/kube-dns", "json", &ports).await
}

/// A second CoreDNS, with a Service of its own that is known by its label.
fn second(port: u16) -> String {
    let name = json!({"name": "second-dns", "namespace": "kube-system"});
    let labelled =
        json!({"name": "second-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}});
    let items = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"Corefile": corefile(port)}},
        {"apiVersion": "v1", "kind": "Service", "metadata": labelled, "spec": {"selector": {"app": "second-dns"}, "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"}, {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp"}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name, "spec": {
            "selector": {"matchLabels": {"app": "second-dns"}}, "template": {"metadata": {"labels": {"app": "second-dns"}}, "spec": {
                "serviceAccountName": "coredns", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "coredns", "image": "ringfence.test/coredns:dev", "imagePullPolicy": "IfNotPresent",
                    "args": ["-conf", "/etc/coredns/Corefile"], "ports": container_ports(port),
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": "second-dns"}}],
            }}}},
    ]);
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// The ports that the stored policy opens.
async fn ports(target: &Target) -> anyhow::Result<Vec<i32>> {
    let policies: Api<NetworkPolicy> = Api::namespaced(target.client.clone(), NAME);
    let spec = policies.get("allow-dns").await?.spec.context("no spec")?;
    let rules = spec.egress.iter().flatten();
    let mut numbers: Vec<i32> = rules
        .flat_map(|rule| rule.ports.iter().flatten())
        .filter_map(|port| match port.port {
            Some(IntOrString::Int(number)) => Some(number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Waits until names are resolved again and again from a pod; that the connection itself is closed shows that it is.
async fn resolves(target: &Target, pod: &str, what: &str) -> anyhow::Result<()> {
    let (start, mut row) = (Instant::now(), 0);
    while row < 4 {
        let outcome = connect(target, NAME, pod, "tcp", KNOWN).await?;
        ensure!(outcome != Outcome::Open, "{pod} reaches {KNOWN}");
        row = if outcome == Outcome::Closed { row + 1 } else { 0 };
        ensure!(
            row > 0 || start.elapsed() < SETTLE,
            "{what}: {outcome} after {SETTLE:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_resolved_wherever_the_dns_moves() -> anyhow::Result<()> {
    let stage = Stage::take(NAME, &[NAME]).await?;
    let target = &stage.target;
    if !target.own {
        println!("left out: the DNS of a cluster given by KUBECONFIG is not moved");
        return Ok(());
    }
    restore(target).await?;
    stage.baseline(NAME, &[DENY, DNS]).await?;
    target
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAME}, labels: {{t: {NAME}}}}}}}"
        ))
        .await?;
    let wanted = [Wanted {
        namespace: NAME,
        name: "asks",
        port: 8080,
    }];
    workload::run(target, &wanted).await?;
    resolves(target, "asks", "names to be resolved on 53").await?;
    ensure!(ports(target).await? == [53]);

    listen(target, 5353).await?;
    until("the policy to open 5353 and nothing else", SETTLE, || async {
        Ok((ports(target).await? == [5353]).then_some(()))
    })
    .await?;
    resolves(target, "asks", "names to be resolved on 5353").await?;

    target.apply(&second(1053)).await?;
    rolled(target, "deployment/second-dns").await?;
    until("both ports to be open", SETTLE, || async {
        Ok((ports(target).await? == [1053, 5353]).then_some(()))
    })
    .await?;
    let services: Api<Service> = Api::namespaced(target.client.clone(), "kube-system");
    let address = services
        .get("second-dns")
        .await?
        .spec
        .and_then(|spec| spec.cluster_ip);
    let other = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks-second", "namespace": NAME},
        "spec": {
            "terminationGracePeriodSeconds": 0, "dnsPolicy": "None", "dnsConfig": {"nameservers": [address]},
            "containers": [{"name": "asks", "image": "ringfence.test/agnhost:dev", "imagePullPolicy": "IfNotPresent", "args": ["pause"]}],
        },
    });
    target.apply(&other.to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), NAME);
    until("it to run", SETTLE, || async {
        let phase = pods
            .get("asks-second")
            .await?
            .status
            .and_then(|status| status.phase);
        Ok((phase.as_deref() == Some("Running")).then_some(()))
    })
    .await?;
    resolves(target, "asks-second", "names to be resolved by the second DNS").await?;
    resolves(target, "asks", "names to be resolved by the first DNS still").await?;

    // Every pod of the DNS at once is gone for a moment: what it listens on is not forgotten.
    let delete = [
        "--namespace",
        "kube-system",
        "delete",
        "pod",
        "--selector=k8s-app=kube-dns",
        "--wait=true",
    ];
    target.kubectl(&delete).await?;
    for _ in 0..20 {
        ensure!(
            ports(target).await? == [1053, 5353],
            "forgotten while its pods restart"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    resolves(
        target,
        "asks",
        "names to be resolved after all pods of the DNS restarted",
    )
    .await?;

    restore(target).await?;
    until("only 53 to be open", SETTLE, || async {
        Ok((ports(target).await? == [53]).then_some(()))
    })
    .await?;
    resolves(target, "asks", "names to be resolved as before").await?;
    stage.remove(NAME, &[NAME]).await
}
