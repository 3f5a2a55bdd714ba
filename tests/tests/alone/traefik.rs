//! A real ingress controller in front of a closed namespace: Traefik, with its pods' own addresses and on its node's network.

use std::process::Stdio;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use ringfence_tests::connection::{Outcome, connect};
use ringfence_tests::target::{Target, repository, until};
use ringfence_tests::workload::{self, Wanted};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::stage::{SETTLE, Stage};

const NAME: &str = "t-routed";
const OTHER: &str = "t-routed-other";
const EDGE: &str = "traefik";
const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
const ROUTED: &str = "{name: allow-ingress, forEach: RoutedService, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}";
const WEB: u16 = 8000;

/// Builds it, where that was not done yet, and gives it to the nodes.
async fn load() -> anyhow::Result<()> {
    for command in [
        ["tests/cluster/traefik", ""],
        ["tests/cluster/load", "target/cluster/images/traefik.tar"],
    ] {
        let output = Command::new(repository().join(command[0]))
            .args(command[1..].iter().filter(|word| !word.is_empty()))
            .current_dir(repository())
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}: {}",
            command[0],
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Traefik as its instructions install it, on one node.
fn controller(node: &str, host_network: bool) -> String {
    let name = |name: &str| json!({"name": name, "namespace": EDGE});
    let rule = |groups: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [groups], "resources": resources, "verbs": verbs});
    let look = ["get", "list", "watch"];
    let items: Vec<Value> = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EDGE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name("traefik")}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "t-traefik"}, "rules": [
            rule("", &["services", "secrets", "nodes", "namespaces"], &look),
            rule("discovery.k8s.io", &["endpointslices"], &look),
            rule("networking.k8s.io", &["ingresses", "ingressclasses"], &look),
            rule("networking.k8s.io", &["ingresses/status"], &["update"]),
        ]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "t-traefik"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "t-traefik"},
            "subjects": [{"kind": "ServiceAccount", "name": "traefik", "namespace": EDGE}]}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "t-traefik"},
            "spec": {"controller": "traefik.io/ingress-controller"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name("traefik"), "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app.kubernetes.io/name": "traefik"}},
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "traefik"}}, "spec": {
                "serviceAccountName": "traefik", "terminationGracePeriodSeconds": 0, "hostNetwork": host_network,
                "nodeSelector": {"kubernetes.io/hostname": node},
                "containers": [{
                    "name": "traefik", "image": "ringfence.test/traefik:dev", "imagePullPolicy": "IfNotPresent",
                    "args": [
                        format!("--entrypoints.web.address=:{WEB}"), "--entrypoints.traefik.address=:8092", "--ping=true",
                        "--providers.kubernetesingress=true", "--providers.kubernetesingress.ingressclass=t-traefik",
                        "--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=INFO",
                    ],
                    "ports": [{"name": "web", "containerPort": WEB}],
                    "readinessProbe": {"httpGet": {"path": "/ping", "port": 8092}, "periodSeconds": 1},
                }],
            }},
        }}),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn ingress() -> String {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop", "namespace": NAME}, "spec": {
        "ingressClassName": "t-traefik",
        "rules": [{"host": "shop.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "server", "port": {"name": "http"}}}}]}}],
    }})
    .to_string()
}

/// The address at which the controller is reached now.
async fn address(target: &Target, host_network: bool) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), EDGE);
    until("the ingress controller", SETTLE, || async {
        let list = pods.list(&ListParams::default()).await?.items;
        let [pod] = list.as_slice() else { return Ok(None) };
        let host = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.host_network)
            .unwrap_or_default();
        let Some(status) = &pod.status else {
            return Ok(None);
        };
        let mut conditions = status.conditions.iter().flatten();
        let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Ok(status.pod_ip.clone().filter(|_| ready && host == host_network))
    })
    .await
}

/// What a client from outside gets: the status, and the body.
async fn get(target: &Target, node: &str, address: &str) -> anyhow::Result<(String, String)> {
    let url = format!("http://{address}:{WEB}/hostname");
    let curl = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "--max-time",
        "3",
        "-w",
        "\n%{http_code}",
        "-H",
        "Host: shop.test",
        &url,
    ];
    match target.in_node(node, &curl).await {
        Ok(said) => {
            let (body, status) = said.rsplit_once('\n').context("curl said nothing")?;
            Ok((status.to_owned(), body.to_owned()))
        }
        Err(error) => Ok((String::new(), error.to_string())),
    }
}

async fn serves(target: &Target, node: &str, address: &str) -> anyhow::Result<()> {
    until(
        &format!("the Ingress to be served at {address}"),
        SETTLE,
        || async {
            let (status, body) = get(target, node, address).await?;
            Ok((status == "200" && body == "server").then_some(()))
        },
    )
    .await
}

async fn clear(stage: &Stage) -> anyhow::Result<()> {
    let others = [
        "clusterrole/t-traefik",
        "clusterrolebinding/t-traefik",
        "ingressclass/t-traefik",
    ];
    let delete = [&["delete", "--ignore-not-found"], &others[..]].concat();
    stage.target.kubectl(&delete).await?;
    stage.remove(NAME, &[NAME, OTHER, EDGE]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_served_through_a_closed_namespace_also_from_the_node_s_network() -> anyhow::Result<()>
{
    let stage = Stage::take(NAME, &[NAME, OTHER, EDGE]).await?;
    let target = &stage.target;
    if !target.own {
        println!("left out: its image cannot be given to a cluster that is named by KUBECONFIG");
        return Ok(());
    }
    clear(&stage).await?;
    load().await?;
    // What a node sends to its own pods is never denied: the controller and the server are on two.
    let nodes = target.nodes().await?;
    let [behind, edge] = nodes.as_slice() else {
        anyhow::bail!("two nodes are needed, and there are {nodes:?}");
    };
    for (name, labels) in [(NAME, format!("{{t: {NAME}}}")), (OTHER, "{}".to_owned())] {
        target
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}"
            ))
            .await?;
    }
    let server = Wanted {
        namespace: NAME,
        name: "server",
        port: 8080,
    };
    let server = workload::run(target, &[server]).await?.remove(0);
    ensure!(server.node == *behind, "the server is on {}", server.node);
    let stranger = Wanted {
        namespace: OTHER,
        name: "stranger",
        port: 8080,
    };
    workload::run(target, &[stranger]).await?;
    target.apply(&controller(edge, false)).await?;
    target.apply(&ingress()).await?;
    let inside = address(target, false).await?;
    serves(target, edge, &inside)
        .await
        .context("before anything is closed")?;

    // Closed, the Ingress is not served: so what follows is the work of the rule.
    stage.baseline(NAME, &[DENY]).await?;
    until("the controller to be cut off", SETTLE, || async {
        let (status, _) = get(target, edge, &inside).await?;
        Ok((status != "200").then_some(()))
    })
    .await?;

    stage.baseline(NAME, &[DENY, ROUTED]).await?;
    serves(target, edge, &inside)
        .await
        .context("by its pods' addresses")?;
    let closed = || async {
        let outcome = connect(target, OTHER, "stranger", "tcp", &server.endpoint()).await?;
        ensure!(outcome == Outcome::Closed, "a stranger gets in: {outcome}");
        anyhow::Ok(())
    };
    closed().await?;

    // Onto its node's network: now it comes from the node's address.
    target.apply(&controller(edge, true)).await?;
    let outside = address(target, true).await?;
    ensure!(outside != inside, "it has kept its address {inside}");
    serves(target, edge, &outside)
        .await
        .context("from its node's network")?;
    closed().await?;
    let facts = target
        .kubectl(&[
            "get",
            "namespacebaseline",
            NAME,
            "--output=jsonpath={.status.facts[?(@.name==\"ingressControllers\")].rules}",
        ])
        .await?;
    ensure!(facts.contains(&format!("{outside}/32")), "the fact is {facts}");

    // And back.
    target.apply(&controller(edge, false)).await?;
    let inside = address(target, false).await?;
    serves(target, edge, &inside)
        .await
        .context("by its pods' addresses again")?;
    until("the node's address to be forgotten", SETTLE, || async {
        let policy = [
            "--namespace",
            NAME,
            "get",
            "networkpolicy",
            "allow-ingress-server",
            "--output=json",
        ];
        Ok((!target.kubectl(&policy).await?.contains("ipBlock")).then_some(()))
    })
    .await?;
    clear(&stage).await
}
