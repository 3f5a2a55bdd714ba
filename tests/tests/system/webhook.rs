//! What the webhook refuses, warns about and admits, as `kubectl` is told.

use std::time::Duration;

use anyhow::ensure;
use ringfence_tests::target::{Said, Target, until};

use crate::fixture;

const SETTLE: Duration = Duration::from_secs(15);

fn policy(namespace: &str, name: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{podSelector: {{}}, {rules}}}}}"
    )
}

fn says(said: &Said, words: &[&str]) -> anyhow::Result<()> {
    for word in words {
        ensure!(
            said.stderr.contains(word),
            "{word:?} is missing in: {}",
            said.stderr
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_by_the_label_that_tutorials_invent_is_refused_with_the_mend() -> anyhow::Result<()> {
    const NS: &str = "t-refused";
    let target = fixture::start(&[NS]).await?;
    let dns =
        "policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]";
    let said = target.try_apply(&policy(NS, "dns", dns)).await?;
    ensure!(!said.success, "it was admitted: {}", said.stdout);
    says(
        &said,
        &[
            "NP002",
            "spec.egress[0].to[0].namespaceSelector",
            "kubernetes.io/metadata.name",
            "mend",
            "consequence",
        ],
    )?;
    let mended = dns.replace("name: kube-system", "kubernetes.io/metadata.name: kube-system");
    let said = target.try_apply(&policy(NS, "dns", &mended)).await?;
    ensure!(said.success, "the mended policy was refused: {}", said.stderr);
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_may_come_later_and_a_peer_that_looks_only_here_are_warned_about() -> anyhow::Result<()> {
    const NS: &str = "t-warned";
    let target = fixture::start(&[NS]).await?;
    let later = "ingress: [{from: [{podSelector: {matchLabels: {app: tomorrows-application}}}]}]";
    let said = target.try_apply(&policy(NS, "later", later)).await?;
    ensure!(said.success, "{}", said.stderr);
    says(&said, &["Warning:", "NP003"])?;
    let elsewhere =
        "egress: [{to: [{podSelector: {matchLabels: {k8s-app: kube-dns}}}]}], policyTypes: [Egress]";
    let said = target.try_apply(&policy(NS, "elsewhere", elsewhere)).await?;
    ensure!(said.success, "{}", said.stderr);
    says(&said, &["Warning:", "NP004", "kube-system"])?;
    target.delete_namespaces(&[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_standard_is_held() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    target.delete_namespaces(&["t-standard"]).await?;
    target
        .apply(
            "{apiVersion: ringfence.dev/v1alpha1, kind: LabelStandard, metadata: {name: t-standard}, spec: {\
             namespaceSelector: {matchLabels: {t: standard}}, labels: [{key: tier, allowedValues: [front, back]}]}}",
        )
        .await?;
    until("the standard to be held", SETTLE, || async {
        Ok((!namespace(&target, "t: standard", true).await?.success).then_some(()))
    })
    .await?;
    let said = namespace(&target, "t: standard", false).await?;
    says(&said, &["LB001", "tier", "front"])?;
    let said = namespace(&target, "t: standard, tier: attic", false).await?;
    ensure!(!said.success, "a value that is not allowed was admitted");
    says(&said, &["LB002", "attic", "back"])?;
    let said = namespace(&target, "t: standard, tier: front", false).await?;
    ensure!(said.success, "{}", said.stderr);
    target.kubectl(&["delete", "labelstandard", "t-standard"]).await?;
    target.delete_namespaces(&["t-standard"]).await
}

async fn namespace(target: &Target, labels: &str, dry_run: bool) -> anyhow::Result<Said> {
    let yaml =
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: t-standard, labels: {{{labels}}}}}}}");
    let dry_run = if dry_run {
        "--dry-run=server"
    } else {
        "--dry-run=none"
    };
    target.try_kubectl(&["apply", dry_run, "-f", "-"], &yaml).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_is_a_bad_request() -> anyhow::Result<()> {
    let target = fixture::start(&[]).await?;
    // Through the API server's proxy to the Service, so that the server really runs as a pod behind TLS.
    let path = "/api/v1/namespaces/ringfence-system/services/https:ringfence-webhook:443/proxy/validate";
    let said = target
        .try_kubectl(&["create", "--raw", path, "-f", "-"], "no json")
        .await?;
    ensure!(!said.success, "{}", said.stdout);
    says(&said, &["BadRequest"])
        .or_else(|_| says(&said, &["400"]))
        .or_else(|_| says(&said, &["JSON"]))
}
