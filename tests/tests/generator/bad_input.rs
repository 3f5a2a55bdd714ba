//! What is wrong with what it is given, or with who it must write to: said with the mend, tried for ever, and no other's loss.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{Patch, PatchParams};
use ringfence_tests::target::until;
use serde_json::json;

use crate::harness::{DENY, DNS, Fault, Generator, INGRESS, SETTLE, Stage};

/// The baseline is at fault in one namespace, and holds in another.
async fn others_go_on(stage: &Stage, baseline: &str, other: &str) -> anyhow::Result<()> {
    stage.namespace(other, baseline).await?;
    stage.has(other, &["allow-dns", "default-deny"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_quota_is_exceeded_the_status_says_so_and_it_heals_when_there_is_room() -> anyhow::Result<()>
{
    const NS: &str = "g-quota";
    let stage = Stage::take(&[NS], &[NS, "g-quota-other"]).await?;
    let _generator = Generator::start(&stage).await?;
    stage.namespace(NS, "none").await?;
    let quota = format!(
        "{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: none, namespace: {NS}}}, \
         spec: {{hard: {{count/networkpolicies.networking.k8s.io: \"0\"}}}}}}"
    );
    stage.target.apply(&quota).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.target.client.clone(), NS);
    until("the quota to be counted", SETTLE, || async {
        let status = quotas.get("none").await?.status;
        Ok(status.and_then(|status| status.hard).map(drop))
    })
    .await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    stage
        .target
        .kubectl(&["label", "--overwrite", "namespace", NS, "t=g-quota"])
        .await?;
    let message = stage.condition(NS, "Degraded", "True").await?;
    ensure!(
        message.contains(NS) && message.contains("exceeded quota"),
        "the quota is not named in: {message}"
    );
    others_go_on(&stage, NS, "g-quota-other").await?;
    stage
        .target
        .kubectl(&["-n", NS, "delete", "resourcequota", "none"])
        .await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    stage.condition(NS, "Ready", "True").await?;
    stage.remove(&[NS], &[NS, "g-quota-other"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_its_rights_do_not_suffice_the_status_says_which() -> anyhow::Result<()> {
    const NS: &str = "g-denied";
    let stage = Stage::take(&[NS], &[NS]).await?;
    // All of its rights but one: it may not make policies.
    let rights = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: g-denied}
rules:
  - {apiGroups: ['', discovery.k8s.io, networking.k8s.io, ringfence.dev, gateway.networking.k8s.io], resources: ['*'], verbs: [list, watch]}
  - {apiGroups: [ringfence.dev], resources: [namespacebaselines/status], verbs: [patch]}
  - {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: g-denied}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: g-denied}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: g-denied}]
";
    stage.target.apply(rights).await?;
    let limited = Generator::start_as(&stage, "g-denied").await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    stage.namespace(NS, NS).await?;
    let message = stage.condition(NS, "Degraded", "True").await?;
    ensure!(
        message.contains("403")
            && message.contains("cannot patch resource")
            && message.contains("networkpolicies"),
        "the right is not named in: {message}"
    );
    ensure!(limited.errors("forbidden") > 0, "it is not counted");
    stage
        .target
        .kubectl(&["delete", "clusterrole/g-denied", "clusterrolebinding/g-denied"])
        .await?;
    limited.kill();
    let _generator = Generator::start(&stage).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    stage.condition(NS, "Degraded", "False").await?;
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_api_server_answers_it_is_tried_for_ever_and_the_others_go_on() -> anyhow::Result<()> {
    const ILL: &str = "g-faulty";
    let stage = Stage::take(&[ILL], &[ILL]).await?;
    let generator = Generator::start(&stage).await?;
    stage.baseline(ILL, "", &[DENY, DNS]).await?;
    let faults = [
        ("conflict", Fault::Answer(409)),
        ("throttled", Fault::Answer(429)),
        ("refused", Fault::Answer(500)),
        ("late", Fault::Silence),
    ];
    for (kind, fault) in faults {
        let (before, other) = (generator.errors(kind), format!("g-faulty-{kind}"));
        stage.remove(&[], &[ILL, &other]).await?;
        generator.faults.set(
            &format!("PATCH /apis/networking.k8s.io/v1/namespaces/{ILL}/"),
            fault,
        );
        stage.namespace(ILL, ILL).await?;
        others_go_on(&stage, ILL, &other).await?;
        let message = stage.condition(ILL, "Degraded", "True").await?;
        ensure!(message.contains(ILL), "{kind}: {message}");
        until("more attempts", SETTLE, || async {
            Ok((generator.errors(kind) >= before + 2).then_some(()))
        })
        .await?;
        ensure!(stage.names(ILL).await?.is_empty(), "{kind}: something was stored");
        generator.faults.clear();
        stage.has(ILL, &["allow-dns", "default-deny"]).await?;
        stage.condition(ILL, "Ready", "True").await?;
        stage.abandon(&[other]).await;
    }
    stage.remove(&[ILL], &[ILL]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_policy_that_is_refused_keeps_no_other_from_being_made() -> anyhow::Result<()> {
    const NS: &str = "g-one-refused";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let generator = Generator::start(&stage).await?;
    let path = format!("PATCH /apis/networking.k8s.io/v1/namespaces/{NS}/networkpolicies/allow-dns");
    generator.faults.set(&path, Fault::Answer(403));
    stage.baseline(NS, "", &[DENY, DNS, INGRESS]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-ingress", "default-deny"]).await?;
    // While one cannot be made, none is taken away.
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    let before = generator.errors("forbidden");
    until("another attempt", SETTLE, || async {
        Ok((generator.errors("forbidden") > before).then_some(()))
    })
    .await?;
    stage.has(NS, &["allow-ingress", "default-deny"]).await?;
    generator.faults.clear();
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_terminating_is_left_alone_and_made_again_is_served() -> anyhow::Result<()> {
    const NS: &str = "g-terminating";
    let stage = Stage::take(&[NS], &[]).await?;
    let free = json!({"metadata": {"finalizers": null}});
    let held: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(stage.target.client.clone(), NS);
    if held.get_opt("held").await?.is_some() {
        held.patch("held", &PatchParams::default(), &Patch::Merge(&free))
            .await?;
    }
    stage.remove(&[], &[NS]).await?;
    let generator = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    let map = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: held, namespace: {NS}, finalizers: [example.org/test]}}}}"
    );
    stage.target.apply(&map).await?;
    stage
        .target
        .kubectl(&["delete", "namespace", NS, "--wait=false"])
        .await?;
    stage.has(NS, &[]).await?;
    let (writes, errors) = (generator.writes(), generator.errors("forbidden"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(generator.writes() == writes, "it writes to a namespace that goes");
    ensure!(generator.errors("forbidden") == errors, "and is refused");
    stage.condition(NS, "Matched", "False").await?;
    held.patch("held", &PatchParams::default(), &Patch::Merge(&free))
        .await?;
    stage.remove(&[], &[NS]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rendered_is_said_with_its_place_and_the_mend() -> anyhow::Result<()> {
    const NS: &str = "g-wrong";
    let stage = Stage::take(&[NS, "g-wrong-too"], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    stage.namespace(NS, NS).await?;
    let selects = |value: &str| {
        format!(
            "{{name: own, spec: {{podSelector: {{matchLabels: {{team: '{value}'}}}}, policyTypes: [Ingress]}}}}"
        )
    };
    // An unknown variable: nothing is rendered.
    stage
        .baseline(NS, "", &[DENY, &selects("${namespace.nmae}")])
        .await?;
    let message = stage.condition(NS, "Valid", "False").await?;
    ensure!(
        message.contains("spec.policies[1].spec.podSelector.matchLabels[team]"),
        "no place in: {message}"
    );
    ensure!(
        message.contains("did you mean ${namespace.name}"),
        "no mend in: {message}"
    );
    ensure!(stage.names(NS).await?.is_empty(), "rendered all the same");
    // A label that the namespace lacks: only that policy is left out.
    stage
        .baseline(NS, "", &[DENY, &selects("${namespace.labels.team}")])
        .await?;
    stage.has(NS, &["default-deny"]).await?;
    // The unknown variable degraded it too, so the condition may be the one of before for a moment.
    until("the policy and the label to be named", SETTLE, || async {
        let message = stage.condition(NS, "Degraded", "True").await?;
        Ok((message.contains("g-wrong/own") && message.contains("no label team")).then_some(()))
    })
    .await?;
    // A value that is no label's.
    let annotate = ["annotate", "namespace", NS, "team=not a label"];
    stage.target.kubectl(&annotate).await?;
    stage
        .baseline(NS, "", &[DENY, &selects("${namespace.annotations.team}")])
        .await?;
    until("the value to be named", SETTLE, || async {
        let message = stage.condition(NS, "Degraded", "True").await?;
        Ok(message.contains("is no label value").then_some(()))
    })
    .await?;
    // A fact that stands for nothing: its rule is left out, and nobody is let in.
    let mesh = "{name: mesh, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: linkerd}]}}";
    stage.baseline(NS, "", &[DENY, mesh]).await?;
    let spec = stage.stored(NS, "mesh").await?;
    ensure!(spec.egress.unwrap_or_default().is_empty(), "a rule from nothing");
    let message = stage.condition(NS, "FactsResolved", "False").await?;
    ensure!(
        message.contains("spec.facts.linkerd.services"),
        "no mend in: {message}"
    );
    // Two baselines that make the same name: both say so, and a priority settles it.
    stage.condition(NS, "Ready", "True").await?;
    let twin = |fields: &str| {
        format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: g-wrong-too}}, spec: {{{fields}\
             namespaceSelector: {{matchLabels: {{t: {NS}}}}}, policies: [{DENY}]}}}}"
        )
    };
    stage.target.apply(&twin("")).await?;
    for name in [NS, "g-wrong-too"] {
        let message = stage.condition(name, "Conflicting", "True").await?;
        ensure!(message.contains("spec.priority"), "no mend in: {message}");
    }
    stage.target.apply(&twin("priority: 10, ")).await?;
    for name in [NS, "g-wrong-too"] {
        stage.condition(name, "Conflicting", "False").await?;
    }
    let deny = stage.policies(NS).get("default-deny").await?;
    ensure!(
        deny.metadata
            .labels
            .is_some_and(|labels| labels["ringfence.dev/baseline"] == "g-wrong-too")
    );
    stage.remove(&[NS, "g-wrong-too"], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_certainly_a_mistake_is_refused_when_it_is_applied() -> anyhow::Result<()> {
    let stage = Stage::take(&["g-refused"], &[]).await?;
    let apply = |name: &str, spec: &str| {
        let yaml = format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: {name}}}, spec: {spec}}}"
        );
        let target = stage.target.clone();
        async move { target.try_apply(&yaml).await }
    };
    let policy =
        |name: &str, spec: &str| format!("{{namespaceSelector: {{}}, policies: [{{name: {name}, {spec}}}]}}");
    let deny = "spec: {podSelector: {}, policyTypes: [Ingress]}";
    for (name, spec, expected) in [
        ("x".repeat(64), policy("p", deny), "at most 63 characters"),
        ("g-refused".to_owned(), policy(&"p".repeat(254), deny), "253"),
        ("g-refused".to_owned(), policy("Deny_All", deny), "spec.policies[0].name"),
        (
            "g-refused".to_owned(),
            policy("p", "spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}"),
            "without a peer it would allow everyone",
        ),
        (
            "g-refused".to_owned(),
            policy("p", "forEach: RoutedService, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}"),
            "isolates for Ingress only",
        ),
        (
            "g-refused".to_owned(),
            policy("p", "forEach: RoutedService, spec: {podSelector: {matchLabels: {a: b}}, policyTypes: [Ingress]}"),
            "write podSelector: {}",
        ),
        (
            "g-refused".to_owned(),
            "{namespaceSelector: {}, adoption: Sometimes, policies: [{name: p, spec: {podSelector: {}, policyTypes: [Ingress]}}]}".to_owned(),
            "\"Never\", \"IfEqual\", \"Force\"",
        ),
        (
            "g-refused".to_owned(),
            format!("{{namespaceSelector: {{}}, policies: [{DENY}, {DENY}]}}"),
            "Duplicate value",
        ),
    ] {
        let said = apply(&name, &spec).await?;
        ensure!(!said.success, "it was accepted: {spec}");
        ensure!(said.stderr.contains(expected), "{expected:?} is not in: {}", said.stderr);
    }
    Ok(())
}
