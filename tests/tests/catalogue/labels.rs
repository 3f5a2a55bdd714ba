//! Every rule about labels, about label standards and about what marks a baseline's policies: each finds what is bad, and lets pass what
//! is good.

use anyhow::ensure;
use ringfence_tests::target::{Target, until};
use serde_json::{Value, json};

use super::{SETTLE, fixture};

const NS: &str = "t-labels";
/// Somebody with every right but to change baselines.
const TENANT: [&str; 2] = ["--as=t-labels", "--as-group=system:authenticated"];

/// What is tried, and what is let pass instead.
struct Case {
    code: &'static str,
    bad: Value,
    good: Value,
}

async fn open(target: &Target) -> anyhow::Result<()> {
    close(target).await?;
    let standard = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "LabelStandard", "metadata": {"name": NS},
    "spec": {"kinds": ["Pod"], "namespaceSelector": {"matchLabels": {"t": NS}}, "labels": [
        {"key": "team"},
        {"key": "tier", "required": false, "allowedValues": ["front", "back"]},
        {"key": "cost", "required": false, "pattern": "[0-9]{4}"},
        {"key": "legacy", "required": false, "forbidden": true},
        {"key": "owner", "required": false, "immutable": true},
        {"key": "zone", "required": false, "protected": {"values": ["pci"], "users": ["t-root"]}},
    ]}});
    let baseline = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "NamespaceBaseline", "metadata": {"name": NS},
    "spec": {"namespaceSelector": {"matchLabels": {"t": NS}}, "policies": [
        {"name": "default-deny", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
    ]}});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS, "labels": {"t": NS}}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": NS}, "rules": [
        {"apiGroups": ["", "networking.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["ringfence.dev"], "resources": ["labelstandards"], "verbs": ["*"]},
    ]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NS},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": NS}]});
    for object in [standard, baseline, namespace, role, binding] {
        target.apply(&object.to_string()).await?;
    }
    let owned = ["get", "networkpolicy", "default-deny", "--namespace", NS];
    until("the baseline's policy", SETTLE, || async {
        Ok(target.try_kubectl(&owned, "").await?.success.then_some(()))
    })
    .await
}

async fn close(target: &Target) -> anyhow::Result<()> {
    for kind in [
        "namespacebaseline",
        "labelstandard",
        "clusterrolebinding",
        "clusterrole",
    ] {
        target
            .kubectl(&["delete", kind, NS, "--ignore-not-found"])
            .await?;
    }
    target.delete_namespaces(&[NS]).await
}

fn pod(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": NS, "labels": labels},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "agnhost", "args": ["pause"]}]}})
}

fn policy(metadata: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
}

fn standard(label: Value) -> Value {
    json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "LabelStandard", "metadata": {"name": "t-labels-other"},
        "spec": {"namespaceSelector": {"matchLabels": {"t": "nobody"}}, "labels": [label]}})
}

fn namespace(annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t-labels-other", "annotations": annotations}})
}

fn cases() -> Vec<Case> {
    let case = |code, bad, good| Case { code, bad, good };
    let labelled = |code, bad: Value, good: Value| case(code, pod(bad), pod(good));
    let good = json!({"team": "shop"});
    vec![
        labelled("LB001", json!({"app": "web"}), good.clone()),
        labelled(
            "LB002",
            json!({"team": "shop", "tier": "attic"}),
            json!({"team": "shop", "tier": "back"}),
        ),
        labelled(
            "LB003",
            json!({"team": "shop", "cost": "12"}),
            json!({"team": "shop", "cost": "1234"}),
        ),
        labelled("LB004", json!({"team": "shop", "legacy": "yes"}), good.clone()),
        labelled(
            "LB006",
            json!({"team": "shop", "zone": "pci"}),
            json!({"team": "shop", "zone": "open"}),
        ),
        case(
            "LS001",
            standard(json!({"key": "team", "pattern": "(["})),
            standard(json!({"key": "team", "pattern": "[a-z]+"})),
        ),
        case(
            "LS002",
            standard(json!({"key": "team", "pattern": "[a-z]+", "default": "7"})),
            standard(json!({"key": "team", "pattern": "[a-z]+", "default": "seven"})),
        ),
        case(
            "BG004",
            policy(json!({"name": "mine", "namespace": NS,
                "labels": {"app.kubernetes.io/managed-by": "ringfence", "ringfence.dev/baseline": NS}})),
            policy(json!({"name": "mine", "namespace": NS})),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_about_labels_and_marks_finds_what_is_bad_and_lets_pass_what_is_good() -> anyhow::Result<()>
{
    let target = fixture::start(&[]).await?;
    open(&target).await?;
    let as_tenant = async |arguments: &[&str], object: &Value| {
        let arguments = [&TENANT[..], arguments].concat();
        target.try_kubectl(&arguments, &object.to_string()).await
    };
    let create = ["create", "--dry-run=server", "--validate=ignore", "-f", "-"];
    let refused = async |code: &str, bad: &Value| {
        until(code, SETTLE, || async {
            let said = as_tenant(&create, bad).await?;
            Ok((!said.success && said.stderr.contains(code)).then_some(()))
        })
        .await
    };
    for Case { code, bad, good } in cases() {
        refused(code, &bad).await?;
        let said = as_tenant(&create, &good).await?;
        ensure!(
            said.success && !said.stderr.contains(code),
            "{code}: {}",
            said.stderr
        );
    }
    // Only a change can be one of what may not change.
    let mut owned = pod(json!({"team": "shop", "owner": "ada"}));
    target.apply(&owned.to_string()).await?;
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
    ];
    owned["metadata"]["labels"]["owner"] = json!("bob");
    let said = as_tenant(&apply, &owned).await?;
    ensure!(!said.success && said.stderr.contains("LB005"), "{}", said.stderr);
    owned["metadata"]["labels"] = json!({"team": "shop", "owner": "ada", "more": "of-it"});
    let said = as_tenant(&apply, &owned).await?;
    ensure!(said.success, "{}", said.stderr);
    // What the platform team writes at a namespace must be understood, whoever writes it.
    let severities = |written: &str| namespace(json!({"ringfence.dev/severities": written}));
    let dry = ["create", "--dry-run=server", "-f", "-"];
    let said = target
        .try_kubectl(&dry, &severities("NP002: off").to_string())
        .await?;
    ensure!(!said.success && said.stderr.contains("BG009"), "{}", said.stderr);
    let said = target
        .try_kubectl(&dry, &severities("NP006=off").to_string())
        .await?;
    ensure!(said.success, "{}", said.stderr);
    let said = as_tenant(&dry, &severities("NP006=off")).await?;
    ensure!(!said.success && said.stderr.contains("BG008"), "{}", said.stderr);
    taken(&target).await?;
    close(&target).await
}

/// The name of a baseline's policy is free only as long as the generator has not made it.
async fn taken(target: &Target) -> anyhow::Result<()> {
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        let scale = [
            "--namespace",
            "ringfence-system",
            "scale",
            "deployment/ringfence-generator",
            &replicas,
        ];
        target.kubectl(&scale).await.map(drop)
    };
    scale("0").await?;
    let gone = [
        "--namespace",
        "ringfence-system",
        "wait",
        "--for=delete",
        "pod",
        "--selector=app.kubernetes.io/name=ringfence-generator",
        "--timeout=60s",
    ];
    let gone = target.try_kubectl(&gone, "").await?;
    let mut fresh = namespace(json!({}));
    fresh["metadata"]["labels"] = json!({"t": NS});
    target.delete_namespaces(&["t-labels-other"]).await?;
    target.apply(&fresh.to_string()).await?;
    let named = |name: &str| policy(json!({"name": name, "namespace": "t-labels-other"}));
    let create = [&TENANT[..], &["create", "--dry-run=server", "-f", "-"]].concat();
    let refused = until("the name to be kept for the baseline", SETTLE, || async {
        let said = target
            .try_kubectl(&create, &named("default-deny").to_string())
            .await?;
        Ok((!said.success && said.stderr.contains("BG005")).then_some(()))
    })
    .await;
    let passed = target.try_kubectl(&create, &named("another").to_string()).await?;
    scale("2").await?;
    target.delete_namespaces(&["t-labels-other"]).await?;
    refused?;
    ensure!(gone.success && passed.success, "{}{}", gone.stderr, passed.stderr);
    Ok(())
}
