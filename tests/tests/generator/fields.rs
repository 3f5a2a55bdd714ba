//! What the fields of a baseline say.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use ringfence_tests::target::until;

use crate::harness::{DENY, DNS, Generator, INGRESS, SETTLE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn what_closes_comes_first_and_goes_last() -> anyhow::Result<()> {
    const NS: &str = "g-order";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    stage.namespace(NS, "none").await?;
    stage.baseline(NS, "", &[DNS, INGRESS, DENY]).await?;
    let watch = stage.policies(NS).watch(&WatchParams::default(), "0").await?;
    pin_mut!(watch);
    stage
        .target
        .kubectl(&["label", "--overwrite", "namespace", NS, "t=g-order"])
        .await?;
    stage
        .has(NS, &["allow-dns", "allow-ingress", "default-deny"])
        .await?;
    stage
        .target
        .kubectl(&["label", "--overwrite", "namespace", NS, "t=none"])
        .await?;
    stage.has(NS, &[]).await?;
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    while deleted.len() < 3 {
        let next = tokio::time::timeout(SETTLE, watch.try_next())
            .await
            .context("the watch says nothing")??;
        match next.context("the watch ended")? {
            WatchEvent::Added(policy) => added.push(policy.name_any()),
            WatchEvent::Deleted(policy) => deleted.push(policy.name_any()),
            _ => {}
        }
    }
    ensure!(
        added.first().is_some_and(|name| name == "default-deny"),
        "{added:?}"
    );
    ensure!(
        deleted.last().is_some_and(|name| name == "default-deny"),
        "{deleted:?}"
    );
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_outlives_the_baseline_and_what_is_not_goes_with_it() -> anyhow::Result<()> {
    let stage = Stage::take(&["g-kept", "g-gone"], &["g-kept", "g-gone"]).await?;
    let generator = Generator::start(&stage).await?;
    for (name, fields) in [("g-kept", "retention: Keep"), ("g-gone", "")] {
        stage.baseline(name, fields, &[DENY, DNS]).await?;
        stage.namespace(name, name).await?;
        stage.has(name, &["allow-dns", "default-deny"]).await?;
    }
    // Deleted while no generator runs: nothing stands in the way of that, and what is to be done is done later.
    generator.kill();
    stage.remove(&["g-kept", "g-gone"], &[]).await?;
    let _next = Generator::start(&stage).await?;
    stage.has("g-gone", &[]).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.has("g-kept", &["allow-dns", "default-deny"]).await?;
    // The baseline comes back, and they are its again.
    stage
        .baseline("g-kept", "retention: Remove", &[DENY, DNS])
        .await?;
    stage.condition("g-kept", "Ready", "True").await?;
    stage.remove(&["g-kept"], &[]).await?;
    stage.has("g-kept", &[]).await?;
    stage.remove(&[], &["g-kept", "g-gone"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_baseline_made_stays_while_it_rests_or_is_misspelt_and_new_namespaces_have_the_others()
-> anyhow::Result<()> {
    const NS: &str = "g-misspelt";
    const HIGH: &str = "g-misspelt-high";
    let stage = Stage::take(&[NS, HIGH], &[NS, "g-misspelt-0", "g-misspelt-1"]).await?;
    let _generator = Generator::start(&stage).await?;
    // It takes the place of the other's door by one that is closed.
    let high = |fields: &str, rule: &str| {
        format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: {HIGH}}}, spec: {{priority: 10, {fields}\
             namespaceSelector: {{matchLabels: {{t: {NS}}}}}, policies: [{DENY}, \
             {{name: door, spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rule}]}}}}]}}}}"
        )
    };
    let door = "{name: door, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{anyone: {}}]}}";
    stage.baseline(NS, "", &[DENY, door]).await?;
    stage.target.apply(&high("", "")).await?;
    stage.namespace(NS, NS).await?;
    let owner = async |namespace: &str| -> anyhow::Result<Option<String>> {
        let policy = stage.policies(namespace).get_opt("door").await?;
        let labels = policy.and_then(|policy| policy.metadata.labels);
        Ok(labels.and_then(|labels| labels.get("ringfence.dev/baseline").cloned()))
    };
    let owned = async |namespace: &str, baseline: &str| {
        until(
            &format!("{namespace}/door to be {baseline}'s"),
            SETTLE,
            || async { Ok((owner(namespace).await?.as_deref() == Some(baseline)).then_some(())) },
        )
        .await
    };
    owned(NS, HIGH).await?;
    for (number, (fields, rule, condition)) in
        [("", "{fact: dsn}", "Valid"), ("suspend: true, ", "", "Ready")]
            .into_iter()
            .enumerate()
    {
        stage.target.apply(&high(fields, rule)).await?;
        stage.condition(HIGH, condition, "False").await?;
        let new = format!("g-misspelt-{number}");
        stage.namespace(&new, NS).await?;
        owned(&new, NS).await?;
        ensure!(
            owner(NS).await?.as_deref() == Some(HIGH),
            "{condition}: it was handed over"
        );
        stage.target.apply(&high("suspend: false, ", "")).await?;
        owned(&new, HIGH).await?;
        stage.condition(HIGH, "Ready", "True").await?;
    }
    stage
        .remove(&[NS, HIGH], &[NS, "g-misspelt-0", "g-misspelt-1"])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_baseline_leaves_everything_as_it_is() -> anyhow::Result<()> {
    const NS: &str = "g-suspended";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    stage.baseline(NS, "suspend: true", &[DENY, DNS, INGRESS]).await?;
    let message = stage.condition(NS, "Ready", "False").await?;
    ensure!(message.contains("spec.suspend is true"), "{message}");
    stage
        .policies(NS)
        .delete("allow-dns", &DeleteParams::default())
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.has(NS, &["default-deny"]).await?;
    stage
        .baseline(NS, "suspend: false", &[DENY, DNS, INGRESS])
        .await?;
    stage
        .has(NS, &["allow-dns", "allow-ingress", "default-deny"])
        .await?;
    stage.condition(NS, "Ready", "True").await?;
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_there_before_are_adopted_as_the_baseline_says() -> anyhow::Result<()> {
    let names = ["g-adopt-equal", "g-adopt-other"];
    let stage = Stage::take(&["g-adopt"], &names).await?;
    let _generator = Generator::start(&stage).await?;
    for (name, spec) in names.into_iter().zip([
        "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}]}",
    ]) {
        stage.namespace(name, "g-adopt").await?;
        let theirs = format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: default-deny, namespace: {name}, \
             labels: {{app.kubernetes.io/managed-by: Helm, theirs: x}}}}, spec: {spec}}}"
        );
        stage.target.apply(&theirs).await?;
    }
    stage.baseline("g-adopt", "adoption: IfEqual", &[DENY]).await?;
    let message = stage.condition("g-adopt", "Conflicting", "True").await?;
    ensure!(
        message.contains("g-adopt-other") && !message.contains("g-adopt-equal"),
        "the equal one is named, or the other is not: {message}"
    );
    let equal = stage.policies("g-adopt-equal").get("default-deny").await?;
    let labels = equal.metadata.labels.unwrap_or_default();
    ensure!(
        labels["app.kubernetes.io/managed-by"] == "ringfence" && labels["theirs"] == "x",
        "{labels:?}"
    );
    stage.baseline("g-adopt", "adoption: Force", &[DENY]).await?;
    stage.condition("g-adopt", "Ready", "True").await?;
    let spec = stage.stored("g-adopt-other", "default-deny").await?;
    ensure!(
        spec.ingress.unwrap_or_default().is_empty(),
        "it still lets everyone in"
    );
    stage.remove(&["g-adopt"], &names).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_says_to_whoever_finds_it_where_it_comes_from() -> anyhow::Result<()> {
    const NS: &str = "g-origin";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let generator = Generator::start(&stage).await?;
    stage.baseline(NS, "contact: '#platform'", &[DENY]).await?;
    stage
        .target
        .kubectl(&[
            "annotate",
            "namespacebaseline",
            NS,
            "ringfence.dev/revision=4f2c9d1",
        ])
        .await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["default-deny"]).await?;
    let said = stage
        .target
        .kubectl(&["-n", NS, "describe", "networkpolicy", "default-deny"])
        .await?;
    for expected in [
        "ringfence.dev/baseline=g-origin",
        "ringfence.dev/baseline-generation: 1",
        "ringfence.dev/hash:",
        "ringfence.dev/revision: 4f2c9d1",
        "Made by Ringfence from the NamespaceBaseline g-origin; edits are undone.",
        "To allow more, add a NetworkPolicy of your own to this namespace: policies add up.",
        "ask #platform.",
    ] {
        ensure!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    // A commit that leaves the baseline as it was writes nothing.
    let writes = generator.writes();
    stage
        .target
        .kubectl(&[
            "annotate",
            "--overwrite",
            "namespacebaseline",
            NS,
            "ringfence.dev/revision=77aa001",
        ])
        .await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(
        generator.writes() == writes,
        "{} writes",
        generator.writes() - writes
    );
    let table = stage.target.kubectl(&["get", "nsb", NS, "-o", "wide"]).await?;
    ensure!(table.contains("77aa001") && table.contains("True"), "{table}");
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_changes_is_followed_by_every_namespace_and_never_opens_one() -> anyhow::Result<()> {
    const NS: &str = "g-follows";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[DENY, DNS]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["allow-dns", "default-deny"]).await?;
    let policies = stage.policies(NS);
    let version = policies
        .list(&Default::default())
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let watch = policies.watch(&WatchParams::default(), &version).await?.boxed();
    let renamed = DENY.replace("default-deny", "deny-all");
    stage.baseline(NS, "", &[&renamed, DNS]).await?;
    stage.has(NS, &["allow-dns", "deny-all"]).await?;
    // The deny of the new name was there before that of the old one went.
    let first: Vec<WatchEvent<NetworkPolicy>> = watch.take(3).try_collect().await?;
    let at = |wanted: &str| {
        first.iter().position(|event| match event {
            WatchEvent::Added(policy) => wanted == format!("+{}", policy.name_any()),
            WatchEvent::Deleted(policy) => wanted == format!("-{}", policy.name_any()),
            _ => false,
        })
    };
    let (new, old) = (at("+deny-all"), at("-default-deny"));
    ensure!(new.is_some() && new < old, "{new:?} {old:?}");
    until("it to be ready", SETTLE, || async {
        Ok(stage.condition(NS, "Ready", "True").await.ok())
    })
    .await?;
    stage.remove(&[NS], &[NS]).await
}
