//! A pod that starts in a namespace that was just made, while nobody generates policies.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use ringfence_tests::connection::{Outcome, connect};
use ringfence_tests::probe::{Answer, Probers, Question, Wire};
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Application, Wanted};
use serde_json::{Value, json};

use crate::stage::{SETTLE, Stage, apply};

const NAME: &str = "t-first";
const OPEN: &str = "t-first-open";
const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
const DNS: &str = "{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}";

/// A namespace and, in the same request, a pod on each node whose containers connect out as the first thing that they do, and one on each node that serves.
fn newborn(namespace: &str, labels: &Value, nodes: &[String], servers: &[Application]) -> String {
    let client = |(index, server): (usize, &Application)| {
        ["tcp", "udp"].map(|protocol| {
            json!({
                "name": format!("{protocol}-{index}"), "image": "ringfence.test/agnhost:dev", "imagePullPolicy": "IfNotPresent",
                "args": ["connect", "--timeout=3s", format!("--protocol={protocol}"), server.endpoint()],
                "terminationMessagePolicy": "FallbackToLogsOnError",
            })
        })
    };
    let containers: Vec<Value> = servers.iter().enumerate().flat_map(client).collect();
    let pod = |name: String, node: &str, containers: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false, "containers": containers,
            },
        })
    };
    let serve = json!([{
        "name": "serve", "image": "ringfence.test/agnhost:dev", "imagePullPolicy": "IfNotPresent",
        "args": ["netexec", "--http-port=8080", "--udp-port=8080"],
    }]);
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}),
        // Without it no pod may be made; the controller that would make it is slower than this test.
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}),
    ];
    for (index, node) in nodes.iter().enumerate() {
        items.push(pod(format!("sends-{index}"), node, json!(containers)));
        items.push(pod(format!("serves-{index}"), node, serve.clone()));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Asks every server of the namespace from an open pod, by TCP and UDP, from the moment in which its address is known until all pods that
/// send have ended: how often was asked, and what was reached.
async fn hammer(
    target: &Target,
    namespace: &str,
    from: &Application,
    probers: &mut Probers,
) -> anyhow::Result<(usize, Vec<String>)> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
    let (mut asked, mut reached) = (0, Vec::new());
    let began = Instant::now();
    loop {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "the pods of {namespace} do not run"
        );
        let pods = pods.list(&Default::default()).await?.items;
        let serving = pods.iter().filter(|pod| pod.name_any().starts_with("serves"));
        let addresses = serving.filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok());
        let questions: Vec<(String, Question)> = addresses
            .flat_map(|address: std::net::IpAddr| [(address, Wire::Tcp), (address, Wire::Udp)])
            .map(|(address, protocol)| {
                let question = Question {
                    from: from.address.parse().unwrap_or(address),
                    protocol,
                    to: (address, 8080).into(),
                };
                (from.node.clone(), question)
            })
            .collect();
        if !questions.is_empty() {
            match probers.ask(&questions, Duration::from_millis(100)).await {
                Ok(measured) => {
                    asked += measured.answers.len();
                    let open = measured
                        .answers
                        .iter()
                        .filter(|(_, answer)| *answer == Answer::Open);
                    reached.extend(open.map(|(question, _)| format!("{question:?}")));
                }
                // Who has not begun to listen refuses, which says that it was reached; only silence is silence.
                Err(error) if error.to_string().contains("refused") => reached.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        let ended = |pod: &Pod| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
        let mut senders = pods.iter().filter(|pod| pod.name_any().starts_with("sends"));
        let serve = pods
            .iter()
            .filter(|pod| phase(pod).as_deref() == Some("Running"))
            .count();
        if !pods.is_empty() && senders.all(ended) && serve > 0 {
            return Ok((asked, reached));
        }
    }
}

/// What became of each connection that a pod of the namespace opened as the first thing that it did.
async fn sent(target: &Target, namespace: &str) -> anyhow::Result<Vec<(String, i32, String)>> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
    let mut sent = Vec::new();
    for pod in pods.list(&Default::default()).await?.items {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        for status in statuses
            .into_iter()
            .flatten()
            .filter(|status| status.name != "serve")
        {
            let ended = status.state.as_ref().and_then(|state| state.terminated.clone());
            let ended = ended.with_context(|| format!("{} has not ended", status.name))?;
            let what = format!("{}/{}", pod.name_any(), status.name);
            sent.push((what, ended.exit_code, ended.message.unwrap_or_default()));
        }
    }
    Ok(sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_new_namespace_is_closed_from_its_first_packet_while_the_generator_is_down()
-> anyhow::Result<()> {
    let control = "t-first-control";
    let warm = "t-first-warm";
    let stage = Stage::take(NAME, &[NAME, OPEN, control, warm]).await?;
    let target = &stage.target;
    if !target.own {
        println!("left out: the nodes of a cluster given by KUBECONFIG are not entered");
        return Ok(());
    }
    target.kubectl(&["create", "namespace", OPEN]).await?;
    let wanted = ["one", "two"].map(|name| Wanted {
        namespace: OPEN,
        name,
        port: 8080,
    });
    let servers = workload::run(target, &wanted).await?;
    let nodes = target.nodes().await?;
    let mut probers = Probers::start(target, Path::new(env!("CARGO_BIN_EXE_prober"))).await?;
    stage.generators(0).await?;

    // Where no baseline is, everything is sent and received: what follows could be seen.
    apply(target, &newborn(control, &json!({}), &nodes, &servers)).await?;
    let (_, reached) = hammer(target, control, &servers[0], &mut probers).await?;
    ensure!(!reached.is_empty(), "no server of an open namespace was reached");
    for (what, code, said) in sent(target, control).await? {
        ensure!(code == 0, "{what}, of an open namespace: {said}");
    }

    stage.baseline(NAME, &[DENY, DNS]).await?;
    // Every enforcer knows the baseline once it closes an older namespace by it.
    let old =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {warm}, labels: {{t: {NAME}}}}}}}");
    target.apply(&old).await?;
    let wanted = ["one", "two"].map(|name| Wanted {
        namespace: warm,
        name,
        port: 8080,
    });
    let closed = workload::run(target, &wanted).await?;
    for pod in &closed {
        until(
            &format!("{} on {} to be closed", pod.name, pod.node),
            SETTLE,
            || async {
                let outcome = connect(target, warm, &pod.name, "tcp", &servers[0].endpoint()).await?;
                Ok((outcome == Outcome::Closed).then_some(()))
            },
        )
        .await?;
    }

    apply(target, &newborn(NAME, &json!({"t": NAME}), &nodes, &servers)).await?;
    let (asked, reached) = hammer(target, NAME, &servers[0], &mut probers).await?;
    ensure!(asked > 0, "nothing was asked of the new pods");
    ensure!(reached.is_empty(), "received: {reached:?}");
    let connections = sent(target, NAME).await?;
    ensure!(connections.len() == 4 * nodes.len(), "{connections:?}");
    for (what, code, said) in &connections {
        ensure!(*code != 0, "{what} was sent, and answered");
        let denied = said.contains("TIMEOUT") || said.contains("operation not permitted");
        ensure!(denied, "{what} failed for another reason: {said}");
    }
    let policies = target
        .kubectl(&["--namespace", NAME, "get", "networkpolicies", "--output=name"])
        .await?;
    ensure!(policies.is_empty(), "somebody generates: {policies}");
    println!(
        "{} connections of newborn pods and {asked} towards them: none passed",
        connections.len()
    );
    // What the baseline allows is open meanwhile: the name is resolved, and only the connection to what is behind it fails.
    let outcome = connect(target, warm, "one", "tcp", &servers[0].service()).await?;
    ensure!(outcome == Outcome::Closed, "DNS by the baseline: {outcome}");

    // The generator is back: its objects take the place of what was ahead of them, and nothing opens.
    stage.generators(2).await?;
    until("the policies to be stored", SETTLE, || async {
        let get = ["--namespace", NAME, "get", "networkpolicies", "--output=name"];
        Ok((target.kubectl(&get).await?.lines().count() == 2).then_some(()))
    })
    .await?;
    for pod in &closed {
        let outcome = connect(target, warm, &pod.name, "tcp", &servers[0].service()).await?;
        ensure!(
            outcome == Outcome::Closed,
            "{} after the generator is back: {outcome}",
            pod.name
        );
    }
    stage.remove(NAME, &[NAME, OPEN, control, warm]).await
}
