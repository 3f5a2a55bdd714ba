//! What the generator gives to namespaces, and keeps there.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::{Api, ResourceExt};
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_tests::connection::{Outcome, connect};
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Wanted};

use crate::fixture;

const SETTLE: Duration = Duration::from_secs(15);
const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
const DNS: &str = "{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}";

fn policies(target: &Target, namespace: &str) -> Api<NetworkPolicy> {
    Api::namespaced(target.client.clone(), namespace)
}

/// A baseline that takes the namespaces with the label `t: NAME`, old and new.
async fn baseline(target: &Target, name: &str, templates: &[&str]) -> anyhow::Result<()> {
    target
        .apply(&format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: {name}}}, spec: {{\
             namespaceSelector: {{matchLabels: {{t: {name}}}}}, policies: [{}]}}}}",
            templates.join(", ")
        ))
        .await
}

async fn namespace(target: &Target, name: &str, label: &str) -> anyhow::Result<()> {
    let yaml =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{t: {label}}}}}}}");
    target.apply(&yaml).await
}

async fn remove(target: &Target, baseline: &str, namespaces: &[&str]) -> anyhow::Result<()> {
    target
        .kubectl(&["delete", "namespacebaseline", "--ignore-not-found", baseline])
        .await?;
    target.delete_namespaces(namespaces).await
}

async fn stored(target: &Target, namespace: &str, name: &str) -> anyhow::Result<NetworkPolicySpec> {
    let policies = policies(target, namespace);
    let policy = until(&format!("{namespace}/{name}"), SETTLE, || async {
        Ok(policies.get_opt(name).await?)
    })
    .await?;
    policy.spec.context("a policy without spec")
}

/// Waits until a condition of a baseline is as it must be; its message.
async fn condition(target: &Target, baseline: &str, kind: &str, status: &str) -> anyhow::Result<String> {
    let baselines: Api<NamespaceBaseline> = Api::all(target.client.clone());
    until(&format!("{baseline} to be {kind}={status}"), SETTLE, || async {
        let conditions = baselines
            .get(baseline)
            .await?
            .status
            .map(|status| status.conditions)
            .unwrap_or_default();
        let found = conditions
            .into_iter()
            .find(|condition| condition.type_ == kind && condition.status == status);
        Ok(found.map(|condition| condition.message))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_old_and_new_get_their_policies_and_dns_where_it_really_is() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    remove(&target, "t-born", &["t-born-old", "t-born-new"]).await?;
    namespace(&target, "t-born-old", "t-born").await?;
    baseline(&target, "t-born", &[DENY, DNS]).await?;
    namespace(&target, "t-born-new", "t-born").await?;
    for namespace in ["t-born-old", "t-born-new"] {
        stored(&target, namespace, "default-deny").await?;
        let rules = stored(&target, namespace, "allow-dns")
            .await?
            .egress
            .unwrap_or_default();
        let ports: Vec<String> = rules
            .iter()
            .flat_map(|rule| rule.ports.iter().flatten())
            .map(|port| format!("{:?} {:?}", port.protocol, port.port))
            .collect();
        ensure!(
            ports.iter().any(|p| p.contains("UDP") && p.contains("53")),
            "no UDP 53 in {ports:?}"
        );
        ensure!(
            ports.iter().any(|p| p.contains("TCP") && p.contains("53")),
            "no TCP 53 in {ports:?}"
        );
        ensure!(
            rules
                .iter()
                .all(|rule| rule.to.as_ref().is_some_and(|to| !to.is_empty())),
            "a rule that allows everyone: {rules:?}"
        );
    }
    condition(&target, "t-born", "Ready", "True").await?;
    remove(&target, "t-born", &["t-born-old", "t-born-new"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_born_closed_with_dns_open() -> anyhow::Result<()> {
    const NS: &str = "t-closed";
    let target = fixture::start(&[]).await?;
    remove(&target, NS, &[NS]).await?;
    baseline(&target, NS, &[DENY, DNS]).await?;
    namespace(&target, NS, NS).await?;
    stored(&target, NS, "allow-dns").await?;
    let wanted = |name| Wanted {
        namespace: NS,
        name,
        port: 8080,
    };
    let pods = workload::run(&target, &[wanted("one"), wanted("two")]).await?;
    for (from, to) in [(0, 1), (1, 0)] {
        for protocol in ["tcp", "udp"] {
            let outcome = connect(&target, NS, &pods[from].name, protocol, &pods[to].endpoint()).await?;
            ensure!(
                outcome == Outcome::Closed,
                "{} to {} by {protocol}: {outcome}",
                pods[from].name,
                pods[to].name
            );
        }
    }
    let outcome = connect(&target, NS, "one", "tcp", &pods[1].service()).await?;
    ensure!(
        outcome == Outcome::Closed,
        "a name must be resolved, and the connection closed: {outcome}"
    );
    remove(&target, NS, &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_edited_ones_come_back_every_time() -> anyhow::Result<()> {
    const NS: &str = "t-restored";
    let target = fixture::start(&[]).await?;
    remove(&target, NS, &[NS]).await?;
    baseline(&target, NS, &[DENY, DNS]).await?;
    namespace(&target, NS, NS).await?;
    let wanted = stored(&target, NS, "default-deny").await?;
    let name = ["--namespace", NS];
    let opened = r#"{"spec":{"ingress":[{}],"egress":[{}]}}"#;
    let edits: [&[&str]; 4] = [
        &["delete", "networkpolicy", "default-deny"],
        &["delete", "networkpolicy", "default-deny"],
        &[
            "patch",
            "networkpolicy",
            "default-deny",
            "--type=merge",
            "--patch",
            opened,
        ],
        &["delete", "networkpolicy", "--all"],
    ];
    for edit in edits {
        target.kubectl(&[&name[..], edit].concat()).await?;
        let policies = policies(&target, NS);
        until("the default deny to be as it was", SETTLE, || async {
            let spec = policies
                .get_opt("default-deny")
                .await?
                .and_then(|policy| policy.spec);
            Ok((spec.as_ref() == Some(&wanted)).then_some(()))
        })
        .await?;
        stored(&target, NS, "allow-dns").await?;
    }
    remove(&target, NS, &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_fact_or_variable_is_said_in_the_status_and_the_others_go_on() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    for name in ["t-fact", "t-variable", "t-good"] {
        remove(&target, name, &[name]).await?;
        namespace(&target, name, name).await?;
    }
    baseline(
        &target,
        "t-fact",
        &[
            DENY,
            "{name: x, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dnss}]}}",
        ],
    )
    .await?;
    let variable =
        "{name: x, spec: {podSelector: {matchLabels: {app: \"${namespace.nam}\"}}, policyTypes: [Egress]}}";
    baseline(&target, "t-variable", &[DENY, variable]).await?;
    baseline(&target, "t-good", &[DENY]).await?;
    let message = condition(&target, "t-fact", "Valid", "False").await?;
    ensure!(
        message.contains("dnss") && message.contains("dns"),
        "no place or mend in: {message}"
    );
    let message = condition(&target, "t-variable", "Valid", "False").await?;
    ensure!(message.contains("namespace.nam"), "no place in: {message}");
    condition(&target, "t-good", "Ready", "True").await?;
    stored(&target, "t-good", "default-deny").await?;
    for namespace in ["t-fact", "t-variable"] {
        let stored = policies(&target, namespace).list(&Default::default()).await?;
        let names: Vec<String> = stored.iter().map(ResourceExt::name_any).collect();
        ensure!(
            names.is_empty(),
            "rendered from a baseline that cannot be understood: {names:?}"
        );
    }
    for name in ["t-fact", "t-variable", "t-good"] {
        remove(&target, name, &[name]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_ours_is_reported_and_left_as_it_is() -> anyhow::Result<()> {
    const NS: &str = "t-foreign";
    let target = fixture::start(&[]).await?;
    remove(&target, NS, &[NS]).await?;
    namespace(&target, NS, NS).await?;
    let foreign = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: default-deny, namespace: {NS}}}, \
         spec: {{podSelector: {{matchLabels: {{mine: \"true\"}}}}}}}}"
    );
    target.apply(&foreign).await?;
    let before = stored(&target, NS, "default-deny").await?;
    baseline(&target, NS, &[DENY]).await?;
    let message = condition(&target, NS, "Ready", "False").await?;
    ensure!(
        message.contains(NS) || message.contains("default-deny"),
        "the conflict is not named in: {message}"
    );
    ensure!(
        stored(&target, NS, "default-deny").await? == before,
        "the tenant's object was overwritten"
    );
    remove(&target, NS, &[NS]).await
}
