//! What the kernel lets through, measured by real connections between real pods.

use std::time::Duration;

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use ringfence_tests::connection::{Outcome, connect, exec};
use ringfence_tests::install;
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Application, Wanted};

use crate::fixture;

const SETTLE: Duration = Duration::from_secs(15);

/// A client and a server, on two nodes where there are two.
async fn pair(target: &Target, namespace: &str) -> anyhow::Result<(Application, Application)> {
    let wanted = |name| Wanted {
        namespace,
        name,
        port: 8080,
    };
    let mut pods = workload::run(target, &[wanted("client"), wanted("server")]).await?;
    let (Some(server), Some(client)) = (pods.pop(), pods.pop()) else {
        bail!("two pods were asked for");
    };
    Ok((client, server))
}

/// Waits until a connection goes as it must.
async fn becomes(
    target: &Target,
    from: &Application,
    protocol: &str,
    to: &str,
    want: Outcome,
) -> anyhow::Result<()> {
    let what = format!("{}/{} to {to} by {protocol}: {want}", from.namespace, from.name);
    until(&what, SETTLE, || async {
        let outcome = connect(target, &from.namespace, &from.name, protocol, to).await?;
        Ok((outcome == want).then_some(()))
    })
    .await
}

fn deny(namespace: &str, types: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: deny, namespace: {namespace}}}, \
         spec: {{podSelector: {{}}, policyTypes: [{types}]}}}}"
    )
}

fn allow_from(namespace: &str, client: &str, ports: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: allow, namespace: {namespace}}}, \
         spec: {{podSelector: {{matchLabels: {{app: server}}}}, \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {client}}}}}}}], ports: [{ports}]}}]}}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deny_closes_tcp_udp_and_services_and_its_removal_opens_them() -> anyhow::Result<()> {
    const NS: &str = "t-deny";
    let target = fixture::start(&[NS]).await?;
    let (client, server) = pair(&target, NS).await?;
    let ways = [
        ("tcp", server.endpoint()),
        ("udp", server.endpoint()),
        ("tcp", server.service()),
        ("udp", server.service()),
    ];
    for (protocol, to) in &ways {
        becomes(&target, &client, protocol, to, Outcome::Open).await?;
    }
    for direction in ["Ingress", "Egress"] {
        target.apply(&deny(NS, direction)).await?;
        for (protocol, to) in ways
            .iter()
            .filter(|(_, to)| direction == "Ingress" || !to.contains("svc"))
        {
            becomes(&target, &client, protocol, to, Outcome::Closed).await?;
        }
        target
            .kubectl(&["--namespace", NS, "delete", "networkpolicy", "deny"])
            .await?;
        for (protocol, to) in &ways {
            becomes(&target, &client, protocol, to, Outcome::Open).await?;
        }
    }
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn egress_to_a_service_is_judged_on_the_pod_behind_it() -> anyhow::Result<()> {
    const NS: &str = "t-service";
    let target = fixture::start(&[NS]).await?;
    let (client, server) = pair(&target, NS).await?;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(target.client.clone(), NS);
    let cluster_ip = services
        .get("server")
        .await?
        .spec
        .and_then(|spec| spec.cluster_ip)
        .expect("a ClusterIP");
    let service = format!("{cluster_ip}:80");
    target.apply(&deny(NS, "Egress")).await?;
    becomes(&target, &client, "tcp", &service, Outcome::Closed).await?;
    becomes(&target, &client, "udp", &service, Outcome::Closed).await?;
    // The pod's port is 8080, the Service's 80: the policy names what the pod listens on.
    target
        .apply(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: allow, namespace: {NS}}}, \
             spec: {{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress], \
             egress: [{{to: [{{podSelector: {{matchLabels: {{app: server}}}}}}], ports: [{{port: http}}]}}]}}}}"
        ))
        .await?;
    becomes(&target, &client, "tcp", &service, Outcome::Open).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Open).await?;
    becomes(&target, &client, "udp", &service, Outcome::Closed).await?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_changes_opens_and_closes() -> anyhow::Result<()> {
    const NS: &str = "t-label";
    let target = fixture::start(&[NS]).await?;
    let (client, server) = pair(&target, NS).await?;
    target.apply(&deny(NS, "Ingress")).await?;
    target.apply(&allow_from(NS, "friend", "{port: 8080}")).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Closed).await?;
    for (label, want) in [("app=friend", Outcome::Open), ("app=client", Outcome::Closed)] {
        target
            .kubectl(&["--namespace", NS, "label", "--overwrite", "pod", "client", label])
            .await?;
        becomes(&target, &client, "tcp", &server.endpoint(), want).await?;
    }
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_made_again_has_its_verdict() -> anyhow::Result<()> {
    const NS: &str = "t-again";
    let target = fixture::start(&[NS]).await?;
    let (client, server) = pair(&target, NS).await?;
    target.apply(&deny(NS, "Ingress")).await?;
    target.apply(&allow_from(NS, "client", "{port: 8080}")).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Open).await?;
    target
        .kubectl(&["--namespace", NS, "delete", "pod", "client", "server", "--wait"])
        .await?;
    let (client, server) = pair(&target, NS).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Open).await?;
    becomes(&target, &server, "tcp", &client.endpoint(), Outcome::Closed).await?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_the_kubelet_pass_an_ingress_deny() -> anyhow::Result<()> {
    const NS: &str = "t-probe";
    let target = fixture::start(&[NS]).await?;
    target.apply(&deny(NS, "Ingress, Egress")).await?;
    // To be ready, a pod's readiness probe over HTTP must have been answered.
    pair(&target, NS).await?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_enforcer_leaves_its_verdicts_in_force() -> anyhow::Result<()> {
    const NS: &str = "t-killed";
    let target = fixture::start(&[NS]).await?;
    if !target.own {
        println!("left out: on a cluster given by KUBECONFIG no process is killed");
        return Ok(());
    }
    let (client, server) = pair(&target, NS).await?;
    target.apply(&deny(NS, "Ingress")).await?;
    target.apply(&allow_from(NS, "client", "{port: 8080}")).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Open).await?;
    becomes(&target, &server, "tcp", &client.endpoint(), Outcome::Closed).await?;
    let before = restarts(&target).await?;
    for node in target.nodes().await? {
        target
            .in_node(&node, &["pkill", "-KILL", "-x", "ringfence-enfor"])
            .await?;
    }
    for _ in 0..3 {
        ensure!(
            connect(&target, NS, "client", "tcp", &server.endpoint()).await? == Outcome::Open,
            "an allow was lost"
        );
        ensure!(
            connect(&target, NS, "server", "tcp", &client.endpoint()).await? == Outcome::Closed,
            "a deny was lost"
        );
    }
    until(
        "the enforcers to be restarted",
        Duration::from_secs(60),
        || async { Ok((restarts(&target).await? >= before + target.nodes().await?.len()).then_some(())) },
    )
    .await?;
    install::wait(&target).await?;
    becomes(&target, &client, "tcp", &server.endpoint(), Outcome::Open).await?;
    becomes(&target, &server, "tcp", &client.endpoint(), Outcome::Closed).await?;
    target.delete_namespaces(&[NS]).await
}

async fn restarts(target: &Target) -> anyhow::Result<usize> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), install::NAMESPACE);
    let list = pods
        .list(&kube::api::ListParams::default().labels("app.kubernetes.io/name=ringfence-enforcer"))
        .await?;
    let statuses = list
        .items
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    Ok(statuses
        .flatten()
        .map(|status| usize::try_from(status.restart_count).unwrap_or_default())
        .sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_itself_through_its_service_whatever_the_policy() -> anyhow::Result<()> {
    const NS: &str = "t-self";
    let target = fixture::start(&[NS]).await?;
    let (_, server) = pair(&target, NS).await?;
    becomes(&target, &server, "tcp", &server.service(), Outcome::Open).await?;
    target.apply(&deny(NS, "Ingress")).await?;
    becomes(&target, &server, "tcp", &server.endpoint(), Outcome::Open).await?;
    becomes(&target, &server, "tcp", &server.service(), Outcome::Open).await?;
    let hostname = exec(
        &target,
        NS,
        "server",
        &["/agnhost", "connect", "--timeout=1s", &server.endpoint()],
    )
    .await?;
    ensure!(hostname.is_ok(), "{hostname:?}");
    target.delete_namespaces(&[NS]).await
}
