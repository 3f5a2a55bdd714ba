//! What tenants cannot do to what the generator made for their namespace, by any way there is to write.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use ringfence_tests::target::{Said, Target, until};

use crate::fixture;

const SETTLE: Duration = Duration::from_secs(15);

/// A tenant with all the rights that a namespace's administrator has, and the right to label namespaces.
const TENANT: [&str; 2] = ["--as=t-tenant", "--as-group=system:authenticated"];

async fn as_tenant(target: &Target, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
    target
        .try_kubectl(&[&TENANT[..], arguments].concat(), input)
        .await
}

/// A namespace with a baseline, and a tenant in it.
async fn start(name: &str) -> anyhow::Result<Target> {
    let target = fixture::start(&[]).await?;
    target
        .kubectl(&["delete", "namespacebaseline", "--ignore-not-found", name])
        .await?;
    target.delete_namespaces(&[name]).await?;
    target
        .apply(&format!(
            "apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {{name: {name}}}
spec:
  namespaceSelector: {{matchLabels: {{t: {name}}}}}
  policies: [{{name: default-deny, spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}}]
---
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{t: {name}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: t-tenant}}
rules:
- {{apiGroups: ['*'], resources: ['*'], verbs: [get, list]}}
- {{apiGroups: [networking.k8s.io], resources: ['*'], verbs: ['*']}}
- {{apiGroups: ['', apps, batch], resources: ['*'], verbs: ['*']}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: t-tenant}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: t-tenant}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: t-tenant}}]
"
        ))
        .await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(target.client.clone(), name);
    until("the baseline's policy", SETTLE, || async {
        Ok(policies.get_opt("default-deny").await?)
    })
    .await?;
    Ok(target)
}

async fn end(target: &Target, name: &str) -> anyhow::Result<()> {
    target.kubectl(&["delete", "namespacebaseline", name]).await?;
    target.delete_namespaces(&[name]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_neither_deletes_nor_weakens_nor_strips_what_the_generator_made() -> anyhow::Result<()> {
    const NS: &str = "t-guard";
    let target = start(NS).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(target.client.clone(), NS);
    let before = policies.get("default-deny").await?;
    let open = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: default-deny, namespace: {NS}}}, \
         spec: {{podSelector: {{matchLabels: {{no: body}}}}, policyTypes: [Ingress]}}}}"
    );
    let policy = "networkpolicy/default-deny";
    let forged = "--field-manager=ringfence-generator";
    let evasions: [(&[&str], &str, &str); 12] = [
        (&["delete", policy], "", "BG001"),
        (&["delete", policy, "--dry-run=server"], "", "BG001"),
        (&["delete", policy, "--force", "--grace-period=0"], "", "BG001"),
        (&["delete", "networkpolicies", "--all"], "", "BG001"),
        (
            &[
                "delete",
                "--raw",
                "/apis/networking.k8s.io/v1/namespaces/t-guard/networkpolicies",
            ],
            "",
            "BG001",
        ),
        (
            &[
                "patch",
                policy,
                "--type=merge",
                "-p",
                r#"{"spec":{"ingress":[{}]}}"#,
            ],
            "",
            "BG002",
        ),
        (&["replace", "-f", "-"], &open, "BG00"),
        (
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &open,
            "BG002",
        ),
        (
            &["apply", "--server-side", "--force-conflicts", forged, "-f", "-"],
            &open,
            "BG002",
        ),
        (&["label", policy, "ringfence.dev/baseline-"], "", "BG003"),
        (&["annotate", policy, "ringfence.dev/hash-"], "", "BG003"),
        (
            &[
                "patch",
                policy,
                "--type=merge",
                "-p",
                r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"none","uid":"0"}]}}"#,
            ],
            "",
            "BG003",
        ),
    ];
    for (arguments, input, code) in evasions {
        let said = as_tenant(&target, &[arguments, &["--namespace", NS]].concat(), input).await?;
        ensure!(!said.success, "{arguments:?} was let pass: {}", said.stdout);
        ensure!(said.stderr.contains(code), "{arguments:?}: {}", said.stderr);
    }
    let after = policies.get("default-deny").await?;
    ensure!(
        after.metadata.uid == before.metadata.uid && after.spec == before.spec,
        "it is another one, or says something else"
    );
    let free = as_tenant(
        &target,
        &["--namespace", NS, "label", policy, "seen-by=tenant"],
        "",
    )
    .await?;
    ensure!(free.success, "a label of one's own is free: {}", free.stderr);
    // Deleting the namespace itself works, also for a tenant who may.
    let gone = as_tenant(&target, &["delete", "namespace", NS, "--timeout=60s"], "").await?;
    ensure!(gone.success, "{}", gone.stderr);
    end(&target, NS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_does_not_take_the_namespace_out_of_its_baseline() -> anyhow::Result<()> {
    const NS: &str = "t-leaves";
    let target = start(NS).await?;
    let finalize = format!("/api/v1/namespaces/{NS}/finalize");
    let audited = format!(
        r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{NS}","labels":{{"t":"{NS}","ringfence.dev/mode":"audit"}}}},"spec":{{"finalizers":["kubernetes"]}}}}"#
    );
    let namespace = format!("namespace/{NS}");
    let status = [
        "patch",
        namespace.as_str(),
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"t":null}}}"#,
    ];
    let evasions: [(&[&str], &str, &str); 6] = [
        (&["label", &namespace, "t-"], "", "BG006"),
        (&["label", &namespace, "ringfence.dev/mode=audit"], "", "BG007"),
        (
            &[
                "label",
                &namespace,
                "ringfence.dev/mode=audit",
                "--dry-run=server",
            ],
            "",
            "BG007",
        ),
        (
            &["annotate", &namespace, "ringfence.dev/severities=NP002=off"],
            "",
            "BG008",
        ),
        (&status, "", "BG006"),
        (&["replace", "--raw", &finalize, "-f", "-"], &audited, "BG007"),
    ];
    for (arguments, input, code) in evasions {
        let said = as_tenant(&target, arguments, input).await?;
        ensure!(!said.success, "{arguments:?} was let pass: {}", said.stdout);
        ensure!(said.stderr.contains(code), "{arguments:?}: {}", said.stderr);
    }
    let free = as_tenant(&target, &["label", &namespace, "note=mine"], "").await?;
    ensure!(free.success, "{}", free.stderr);
    // The platform team, whom RBAC lets change baselines, may.
    target
        .kubectl(&["label", &namespace, "ringfence.dev/mode=audit"])
        .await?;
    target
        .kubectl(&["label", &namespace, "ringfence.dev/mode-"])
        .await?;
    end(&target, NS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_deleted_is_held_like_what_stays_and_can_be_let_go() -> anyhow::Result<()> {
    const NS: &str = "t-going";
    const HELD: &str = "finalizers: [ringfence.dev/test]";
    const LET_GO: &str = r#"{"metadata":{"finalizers":null}}"#;
    // What a run that failed left would hold the namespace for ever.
    let target = fixture::start(&[]).await?;
    for object in ["pod/p", "networkpolicy/own"] {
        let patch = ["--namespace", NS, "patch", object, "--type=merge", "-p", LET_GO];
        target.try_kubectl(&patch, "").await?; // most often there is none
    }
    let target = start(NS).await?;
    target
        .apply(&format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: LabelStandard, metadata: {{name: {NS}}}, spec: {{kinds: [Pod], \
             namespaceSelector: {{matchLabels: {{t: {NS}}}}}, labels: [\
             {{key: zone, required: false, protected: {{values: [pci], users: [t-root]}}}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: {NS}, {HELD}}}, spec: {{schedulerName: nobody, \
             containers: [{{name: main, image: agnhost, args: [pause]}}]}}}}
---
{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: own, namespace: {NS}, {HELD}}}, \
             spec: {{podSelector: {{}}, policyTypes: [Ingress]}}}}"
        ))
        .await?;
    until("the standard to be held", SETTLE, || async {
        let said = as_tenant(
            &target,
            &[
                "--namespace",
                NS,
                "label",
                "pod/p",
                "zone=pci",
                "--dry-run=server",
            ],
            "",
        )
        .await?;
        Ok((!said.success && said.stderr.contains("LB006")).then_some(()))
    })
    .await?;
    for object in ["pod/p", "networkpolicy/own"] {
        target
            .kubectl(&["--namespace", NS, "delete", object, "--wait=false"])
            .await?;
    }
    let nonsense =
        r#"{"spec":{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"name":"kube-system"}}}]}]}}"#;
    let namespace = format!("namespace/{NS}");
    let evasions: [(&[&str], &str); 2] = [
        (&["label", "pod/p", "zone=pci"], "LB006"),
        (
            &["patch", "networkpolicy/own", "--type=merge", "-p", nonsense],
            "NP002",
        ),
    ];
    for (arguments, code) in evasions {
        let said = as_tenant(&target, &[&["--namespace", NS], arguments].concat(), "").await?;
        ensure!(!said.success, "{arguments:?} was let pass: {}", said.stdout);
        ensure!(said.stderr.contains(code), "{arguments:?}: {}", said.stderr);
    }
    target.kubectl(&["delete", &namespace, "--wait=false"]).await?;
    let said = as_tenant(&target, &["label", &namespace, "ringfence.dev/mode=audit"], "").await?;
    ensure!(!said.success && said.stderr.contains("BG007"), "{}", said.stderr);
    for object in ["pod/p", "networkpolicy/own"] {
        let patch = ["--namespace", NS, "patch", object, "--type=merge", "-p", LET_GO];
        let said = as_tenant(&target, &patch, "").await?;
        ensure!(said.success, "{}", said.stderr);
    }
    target.kubectl(&["delete", "labelstandard", NS]).await?;
    end(&target, NS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_label_is_set_by_nobody_else_on_pods_templates_and_bindings() -> anyhow::Result<()> {
    const NS: &str = "t-protected";
    let target = start(NS).await?;
    target
        .apply(&format!(
            "{{apiVersion: ringfence.dev/v1alpha1, kind: LabelStandard, metadata: {{name: {NS}}}, spec: {{kinds: [Pod], \
             namespaceSelector: {{matchLabels: {{t: {NS}}}}}, labels: [\
             {{key: zone, required: false, protected: {{values: [pci], users: [t-root]}}}}, {{key: team, default: none}}]}}}}"
        ))
        .await?;
    let template = |labels: &str| {
        format!(
            "{{metadata: {{labels: {labels}}}, spec: {{containers: [{{name: main, image: agnhost, args: [pause]}}]}}}}"
        )
    };
    let deployment = |labels: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {NS}}}, spec: {{replicas: 0, \
             selector: {{matchLabels: {{app: web}}}}, template: {}}}}}",
            template(labels)
        )
    };
    let pod = |labels: &str| {
        let spec = "{schedulerName: nobody, containers: [{name: main, image: agnhost, args: [pause]}]}";
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: {NS}, labels: {labels}}}, spec: {spec}}}"
        )
    };
    until("the standard to be held", SETTLE, || async {
        let said = as_tenant(
            &target,
            &["create", "--dry-run=server", "-f", "-"],
            &pod("{zone: pci}"),
        )
        .await?;
        Ok((!said.success && said.stderr.contains("LB006")).then_some(()))
    })
    .await?;
    let said = as_tenant(
        &target,
        &["create", "-f", "-"],
        &deployment("{app: web, zone: pci}"),
    )
    .await?;
    ensure!(
        !said.success && said.stderr.contains("LB006"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    let said = as_tenant(&target, &["create", "-f", "-"], &deployment("{app: web}")).await?;
    ensure!(said.success, "{}", said.stderr);
    let labels = target
        .kubectl(&[
            "--namespace",
            NS,
            "get",
            "deployment",
            "web",
            "--output=jsonpath={.spec.template.metadata.labels}",
        ])
        .await?;
    ensure!(
        labels.contains(r#""team":"none""#),
        "the default was not filled in: {labels}"
    );
    let said = as_tenant(&target, &["create", "-f", "-"], &pod("{app: web}")).await?;
    ensure!(said.success, "{}", said.stderr);
    let label = r#"{"metadata":{"labels":{"zone":"pci"}}}"#;
    let binding = format!(
        r#"{{"apiVersion":"v1","kind":"Binding","metadata":{{"name":"p","namespace":"{NS}","labels":{{"zone":"pci"}}}},"target":{{"apiVersion":"v1","kind":"Node","name":"none"}}}}"#
    );
    let bind = format!("/api/v1/namespaces/{NS}/pods/p/binding");
    let evasions: [(&[&str], &str); 4] = [
        (&["label", "pod/p", "zone=pci"], ""),
        (&["patch", "pod/p", "--type=merge", "-p", label], ""),
        (
            &[
                "patch",
                "pod/p",
                "--subresource=status",
                "--type=merge",
                "-p",
                label,
            ],
            "",
        ),
        (&["create", "--raw", &bind, "-f", "-"], &binding),
    ];
    for (arguments, input) in evasions {
        let said = as_tenant(&target, &[&["--namespace", NS], arguments].concat(), input).await?;
        ensure!(!said.success, "{arguments:?} was let pass: {}", said.stdout);
        ensure!(said.stderr.contains("LB006"), "{arguments:?}: {}", said.stderr);
    }
    // Nobody is asked about these: the API server itself lets them change nothing else.
    for sub_resource in ["ephemeralcontainers", "resize"] {
        let sub_resource = format!("--subresource={sub_resource}");
        let patch = [
            "--namespace",
            NS,
            "patch",
            "pod/p",
            &sub_resource,
            "--type=strategic",
            "-p",
            label,
        ];
        as_tenant(&target, &patch, "").await?;
        let labels = [
            "--namespace",
            NS,
            "get",
            "pod",
            "p",
            "--output=jsonpath={.metadata.labels}",
        ];
        let labels = target.kubectl(&labels).await?;
        ensure!(!labels.contains("pci"), "by {sub_resource}: {labels}");
    }
    let root = ["--as=t-root", "--as-group=system:masters"];
    target
        .kubectl(&[&root[..], &["--namespace", NS, "label", "pod/p", "zone=pci"]].concat())
        .await?;
    target.kubectl(&["delete", "labelstandard", NS]).await?;
    end(&target, NS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_does_is_told_and_a_deletion_too() -> anyhow::Result<()> {
    const NS: &str = "t-told";
    let target = fixture::start(&[NS]).await?;
    let closed = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: closed, namespace: {NS}}}, \
         spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}}"
    );
    target.apply(&closed).await?;
    until("the deletion to be told as an opening", SETTLE, || async {
        let arguments = [
            "--namespace",
            NS,
            "delete",
            "networkpolicy",
            "closed",
            "--dry-run=server",
        ];
        let said = target.try_kubectl(&arguments, "").await?;
        Ok((said.stderr.contains("SM004") && said.stderr.contains("SM005")).then_some(()))
    })
    .await?;
    target.delete_namespaces(&[NS]).await
}
