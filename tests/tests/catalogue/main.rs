//! Every rule about policies, on a real cluster: what it says is bad is refused or warned about by `kubectl apply`, and what it says is good
//! passes without its code. A program of its own, since the cluster is made to look like the one that the rules' examples speak of.

#[path = "../system/fixture.rs"]
mod fixture;
mod labels;
mod shop;

use std::time::Duration;

use anyhow::{Context, ensure};
use ringfence_netpol::finding::Severity;
use ringfence_netpol::lint::{Rule, rules};
use ringfence_tests::target::{Said, Target, until};
use serde_json::{Value, json};
use tokio::sync::RwLock;

/// How long the webhook may take to see what was just made.
const SETTLE: Duration = Duration::from_secs(15);
/// Too large to be shown, so the catalogue has only its outline.
const BUDGET: &str = "NP024";

/// A policy of `shop`: the whole of it, or its specification.
fn manifest(name: &str, written: &str) -> anyhow::Result<Value> {
    let value: Value = serde_yaml_ng::from_str(written).with_context(|| written.to_owned())?;
    let mut policy = match value.get("spec") {
        Some(_) => value,
        None => json!({"spec": value}),
    };
    policy["apiVersion"] = json!("networking.k8s.io/v1");
    policy["kind"] = json!("NetworkPolicy");
    if policy["metadata"]["namespace"].is_null() {
        policy["metadata"]["namespace"] = json!(shop::SHOP);
    }
    if policy["metadata"]["name"].is_null() {
        policy["metadata"]["name"] = json!(name);
    }
    Ok(policy)
}

/// Applies it as a user would whose kubectl does not look at fields itself; nothing stays.
async fn apply(target: &Target, policy: &Value) -> anyhow::Result<Said> {
    let text = policy.to_string();
    // What is applied is kept in an annotation too, as long as it has room there.
    let verb = if text.len() < 200_000 { "apply" } else { "create" };
    let arguments = [verb, "--dry-run=server", "--validate=ignore", "-f", "-"];
    target.try_kubectl(&arguments, &text).await
}

/// Whether the API server itself refused it, which it does before it asks anybody.
fn refused_anyway(said: &Said) -> bool {
    !said.success
        && ["is invalid:", "not found"]
            .iter()
            .any(|words| said.stderr.contains(words))
}

async fn is_found(target: &Target, rule: &Rule, bad: &Value) -> anyhow::Result<()> {
    let found = until(rule.code, SETTLE, || async {
        let said = apply(target, bad).await?;
        let told = said.stderr.contains(rule.code);
        let holds = match rule.severity {
            Severity::Deny => !said.success && (told || refused_anyway(&said)),
            Severity::Warn => told || refused_anyway(&said),
        };
        Ok(holds.then_some(()))
    });
    match found.await {
        Ok(()) => Ok(()),
        Err(error) => {
            let said = apply(target, bad).await?;
            Err(error).with_context(|| format!("{}: {bad}\n{}{}", rule.name, said.stdout, said.stderr))
        }
    }
}

/// Held while rules are judged by the settings that the webhook is installed with, and alone by who gives it others.
static SETTINGS: RwLock<()> = RwLock::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_finds_its_bad_example_and_lets_its_good_one_pass() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    shop::open(&target).await?;
    let mut wrong = Vec::new();
    for rule in rules::ALL {
        if let Err(error) = judge(&target, rule).await {
            wrong.push(format!("{} {}: {error:#}", rule.code, rule.name));
        }
    }
    shop::close(&target).await?;
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rules::ALL.len(),
        wrong.join("\n\n")
    );
    Ok(())
}

async fn judge(target: &Target, rule: &Rule) -> anyhow::Result<()> {
    let _as_installed = SETTINGS.read().await;
    let all = ["--namespace", shop::SHOP, "delete", "networkpolicies", "--all"];
    target.kubectl(&all).await?;
    shop::renew(target).await?;
    if !rule.beside.is_empty() {
        target
            .apply(&manifest("beside", rule.beside)?.to_string())
            .await?;
    }
    let bad = if rule.code == BUDGET {
        shop::over_budget()
    } else {
        manifest("p", rule.bad)?
    };
    is_found(target, rule, &bad).await?;
    let said = apply(target, &manifest("p", rule.good)?).await?;
    ensure!(
        said.success && !said.stderr.contains(rule.code),
        "what is good: {}",
        said.stderr
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_does_is_told_and_refused_where_the_settings_say_so() -> anyhow::Result<()> {
    const NS: &str = "t-changes";
    let target = fixture::start(&[NS]).await?;
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS, "labels": {"app": name}},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "agnhost", "args": ["pause"]}]}})
        .to_string()
    };
    for name in ["web", "api"] {
        target.apply(&pod(name)).await?;
    }
    let policy = |name: &str, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": NS}, "spec": spec});
    let told = async |codes: &[&str], policy: &Value| {
        until(&codes.join(", "), SETTLE, || async {
            let said = apply(&target, policy).await?;
            Ok(codes.iter().all(|code| said.stderr.contains(code)).then_some(()))
        })
        .await
    };
    let closed = policy(
        "closed",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    );
    told(&["SM002", "SM003"], &closed).await?;
    target.apply(&closed.to_string()).await?;
    let opened = |direction: &str, peers: &str, peer: Value| {
        policy(
            "opened",
            json!({"podSelector": {}, "policyTypes": [direction], direction.to_lowercase(): [{peers: [peer]}]}),
        )
    };
    let everyone = json!({"ipBlock": {"cidr": "0.0.0.0/0"}});
    told(&["SM004"], &opened("Ingress", "from", everyone.clone())).await?;
    told(&["SM005"], &opened("Egress", "to", everyone)).await?;
    target
        .apply(&opened("Egress", "to", json!({"podSelector": {}})).to_string())
        .await?;
    let mut more = opened("Ingress", "from", json!({"podSelector": {}}));
    more["metadata"]["name"] = json!("more");
    told(&["SM001"], &more).await?;
    // The same, refused.
    let _others = SETTINGS.write().await;
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ringfence-webhook", "namespace": "ringfence-system"},
        "data": {"webhook.yaml": "review: {severities: {SM004: deny}}\n"}});
    target.apply(&settings.to_string()).await?;
    let wide = opened("Ingress", "from", json!({"ipBlock": {"cidr": "0.0.0.0/0"}}));
    // The kubelet brings a changed ConfigMap within a minute or so, and new pods have it at once.
    let restart = [
        "--namespace",
        "ringfence-system",
        "rollout",
        "restart",
        "deployment/ringfence-webhook",
    ];
    target.kubectl(&restart).await?;
    let status = [
        "--namespace",
        "ringfence-system",
        "rollout",
        "status",
        "deployment/ringfence-webhook",
        "--timeout=120s",
    ];
    target.kubectl(&status).await?;
    let refused = until("an opening to the world to be refused", SETTLE, || async {
        let said = apply(&target, &wide).await?;
        Ok((!said.success && said.stderr.contains("SM004")).then_some(()))
    });
    let refused = refused.await;
    target
        .kubectl(&[
            "--namespace",
            "ringfence-system",
            "delete",
            "configmap",
            "ringfence-webhook",
        ])
        .await?;
    target.kubectl(&restart).await?;
    target.kubectl(&status).await?;
    refused?;
    target.delete_namespaces(&[NS]).await
}
