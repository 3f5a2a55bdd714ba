//! What happens, in order. Each step measures what it claims.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use ringfence_tests::connection::{Outcome, connect};
use ringfence_tests::install;
use ringfence_tests::matrix::Matrix;
use ringfence_tests::target::{Target, until};
use ringfence_tests::workload::{self, Application, Wanted};

use crate::stage::Stage;

const BEFORE: &str = "demo-before";
const SHOP: &str = "demo-shop";
const ELSEWHERE: &str = "demo-elsewhere";
const STANDARD: &str = "demo-tier";

/// Long enough for a loaded machine; what is waited for takes milliseconds on a quiet one.
const SETTLE: Duration = Duration::from_secs(20);

const BAD_POLICY: &str = include_str!("bad-policy.yaml");
const GOOD_POLICIES: &str = include_str!("good-policies.yaml");
const LABEL_STANDARD: &str = include_str!("label-standard.yaml");

pub async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("A real Kubernetes: two nodes");
    let target = Target::connect().await?;
    stage
        .kubectl(&target, &["get", "nodes", "--output=wide"], "")
        .await?;
    tidy(&target).await?;

    stage.step("Install Ringfence; nothing is closed by that");
    stage.command("kubectl apply --server-side -f deploy/install.yaml");
    install::install(&target).await?;
    stage
        .kubectl(
            &target,
            &["--namespace", install::NAMESPACE, "get", "pods", "--output=wide"],
            "",
        )
        .await?;

    let (before, stranger) = open_cluster(stage, &target).await?;
    let shop = closed_namespace(stage, &target, &stranger).await?;
    dns(stage, &target, &shop).await?;
    refused(stage, &target).await?;
    admitted(stage, &target, &shop, &stranger).await?;
    label_standard(stage, &target).await?;
    restored(stage, &target).await?;
    opted_in(stage, &target, &before, &stranger).await?;

    stage.done();
    let kubeconfig = target.kubeconfig.display();
    stage.say("");
    stage.say("Look around:");
    stage.say(&format!(
        "  export KUBECONFIG={kubeconfig} PATH=$PWD/target/cluster/bin:$PATH"
    ));
    stage.say(&format!(
        "  kubectl get namespacebaselines,networkpolicies -A; kubectl describe networkpolicy -n {SHOP}"
    ));
    stage.say("  kubectl logs -n ringfence-system daemonset/ringfence-enforcer");
    stage.say("Take it down: make cluster-down");
    Ok(())
}

/// Removes what an earlier run left, so that this one starts from an open cluster.
async fn tidy(target: &Target) -> anyhow::Result<()> {
    install::without_baselines(target).await?;
    target
        .delete_namespaces(&[BEFORE, SHOP, ELSEWHERE, "demo-unlabelled", "demo-labelled"])
        .await
}

/// The three applications of a namespace, then whoever else is wanted, each on the next node.
async fn applications(
    target: &Target,
    namespace: &str,
    others: &[Wanted<'_>],
) -> anyhow::Result<Vec<Application>> {
    let names = [("frontend", 8080), ("api", 8081), ("database", 5432)];
    let wanted = names.map(|(name, port)| Wanted {
        namespace,
        name,
        port,
    });
    workload::run(target, &[&wanted[..], others].concat()).await
}

/// Shows a matrix that must be as expected.
async fn show(
    stage: &Stage,
    target: &Target,
    members: &[Application],
    claim: &str,
    expected: impl Fn(&Application, &Application) -> bool,
) -> anyhow::Result<()> {
    let matrix = Matrix::settle(target, members, SETTLE, &expected).await?;
    stage.table(&matrix.table());
    let differences = matrix.differences(expected);
    ensure!(
        differences.is_empty(),
        "not as it must be: {}",
        differences.join("; ")
    );
    stage.good(claim);
    Ok(())
}

async fn open_cluster(stage: &mut Stage, target: &Target) -> anyhow::Result<(Vec<Application>, Application)> {
    stage.step("Before: three applications and a stranger, all reach all");
    for namespace in [BEFORE, ELSEWHERE] {
        stage
            .kubectl(target, &["create", "namespace", namespace], "")
            .await?;
    }
    let stranger = Wanted {
        namespace: ELSEWHERE,
        name: "stranger",
        port: 8080,
    };
    let mut members = applications(target, BEFORE, &[stranger]).await?;
    show(
        stage,
        target,
        &members,
        "a flat cluster: every pod reaches every other",
        |_, _| true,
    )
    .await?;
    let stranger = members.pop().context("the stranger was asked for")?;
    Ok((members, stranger))
}

async fn closed_namespace(
    stage: &mut Stage,
    target: &Target,
    stranger: &Application,
) -> anyhow::Result<Vec<Application>> {
    stage.step("kubectl apply -f policies/, and a new namespace is born closed");
    let applied = stage.kubectl(target, &["apply", "-f", "policies/"], "").await?;
    ensure!(applied.success, "policies/ could not be applied");
    let start = Instant::now();
    stage.kubectl(target, &["create", "namespace", SHOP], "").await?;
    policies_in(target, SHOP, 3).await?;
    stage.good(&format!(
        "its policies were there {} ms after kubectl was started",
        start.elapsed().as_millis()
    ));
    stage
        .kubectl(target, &["--namespace", SHOP, "get", "networkpolicies"], "")
        .await?;
    let mut members = applications(target, SHOP, &[]).await?;
    members.push(stranger.clone());
    show(
        stage,
        target,
        &members,
        "nobody reaches anybody in it, from inside or outside",
        |_, _| false,
    )
    .await?;
    members.pop();
    Ok(members)
}

async fn policies_in(target: &Target, namespace: &str, count: usize) -> anyhow::Result<()> {
    let policies: Api<NetworkPolicy> = Api::namespaced(target.client.clone(), namespace);
    until(&format!("{count} policies in {namespace}"), SETTLE, || async {
        let stored = policies.list(&Default::default()).await?.items.len();
        Ok((stored >= count).then_some(()))
    })
    .await
}

async fn dns(stage: &mut Stage, target: &Target, shop: &[Application]) -> anyhow::Result<()> {
    stage.step("DNS still answers in the closed namespace");
    let [frontend, api, _] = shop else {
        bail!("there are three applications in the shop")
    };
    // The name must resolve although the connection to it stays closed: "closed", and not "unresolved".
    let outcome = connect(target, SHOP, &frontend.name, "tcp", &api.service()).await?;
    ensure!(
        outcome == Outcome::Closed,
        "{} by name: {outcome}, must be resolved and then closed",
        api.service()
    );
    stage.good(&format!(
        "{} resolves (and the connection to it stays closed)",
        api.service()
    ));
    let outcome = connect(
        target,
        SHOP,
        &frontend.name,
        "tcp",
        "kube-dns.kube-system.svc.cluster.local:53",
    )
    .await?;
    ensure!(outcome == Outcome::Open, "DNS over TCP: {outcome}, must be open");
    stage.good("DNS is open by TCP too");
    Ok(())
}

async fn refused(stage: &mut Stage, target: &Target) -> anyhow::Result<()> {
    stage.step("A bad policy is refused, with the reason and the mend");
    stage.yaml(BAD_POLICY);
    let said = stage.kubectl(target, &["apply", "-f", "-"], BAD_POLICY).await?;
    ensure!(!said.success, "the bad policy was admitted");
    ensure!(
        said.stderr.contains("NP002") && said.stderr.contains("kubernetes.io/metadata.name"),
        "no code or mend in: {}",
        said.stderr
    );
    stage.good("refused: its selector matches no namespace, DNS would have stayed cut");
    Ok(())
}

async fn admitted(
    stage: &mut Stage,
    target: &Target,
    shop: &[Application],
    stranger: &Application,
) -> anyhow::Result<()> {
    stage.step("Good policies are admitted: frontend → api → database, and no more");
    stage.yaml(GOOD_POLICIES);
    let said = stage
        .kubectl(target, &["apply", "-f", "-"], GOOD_POLICIES)
        .await?;
    ensure!(said.success, "the good policies were refused");
    let mut members = shop.to_vec();
    members.push(stranger.clone());
    let intended = |from: &Application, to: &Application| {
        from.namespace == to.namespace
            && matches!(
                (from.name.as_str(), to.name.as_str()),
                ("frontend", "api") | ("api", "database")
            )
    };
    show(
        stage,
        target,
        &members,
        "just the two connections that were asked for",
        intended,
    )
    .await?;
    let [frontend, api, database] = shop else {
        bail!("there are three applications in the shop")
    };
    for (from, to, expected) in [
        (frontend, api, Outcome::Open),
        (api, database, Outcome::Open),
        (frontend, database, Outcome::Closed),
    ] {
        let outcome = connect(target, SHOP, &from.name, "tcp", &to.service()).await?;
        ensure!(
            outcome == expected,
            "{} to the Service {}: {outcome}, must be {expected}",
            from.name,
            to.name
        );
        stage.good(&format!(
            "{} → Service {} (by name and ClusterIP): {outcome}",
            from.name, to.name
        ));
    }
    Ok(())
}

async fn label_standard(stage: &mut Stage, target: &Target) -> anyhow::Result<()> {
    stage.step("A label standard is held");
    stage.yaml(LABEL_STANDARD);
    let said = stage
        .kubectl(target, &["apply", "-f", "-"], LABEL_STANDARD)
        .await?;
    ensure!(said.success, "the label standard was refused");
    let without = ["create", "namespace", "demo-unlabelled"];
    // The standard reaches the webhook's replicas by their watches: what counts is that it is held, and soon.
    until("a namespace without the label to be refused", SETTLE, || async {
        let said = target
            .try_kubectl(&[&without[..], &["--dry-run=server"]].concat(), "")
            .await?;
        Ok((!said.success).then_some(()))
    })
    .await?;
    let said = stage.kubectl(target, &without, "").await?;
    ensure!(
        !said.success && said.stderr.contains("LB001"),
        "not refused with LB001: {}",
        said.stderr
    );
    let labelled =
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: demo-labelled\n  labels:\n    tier: front\n";
    let said = stage.kubectl(target, &["apply", "-f", "-"], labelled).await?;
    ensure!(said.success, "a namespace with the label was refused");
    target.kubectl(&["delete", "labelstandard", STANDARD]).await?;
    stage.good("without the label refused, with an allowed value admitted");
    Ok(())
}

async fn restored(stage: &mut Stage, target: &Target) -> anyhow::Result<()> {
    stage.step("The baseline comes back, edited or deleted, every time");
    let policies: Api<NetworkPolicy> = Api::namespaced(target.client.clone(), SHOP);
    let name = "default-deny";
    let wanted = policies.get(name).await?.spec;
    let opened = r#"{"spec":{"ingress":[{}],"egress":[{}]}}"#;
    let edits: [&[&str]; 3] = [
        &[
            "--namespace",
            SHOP,
            "patch",
            "networkpolicy",
            name,
            "--type=merge",
            "--patch",
            opened,
        ],
        &["--namespace", SHOP, "delete", "networkpolicy", name],
        &["--namespace", SHOP, "delete", "networkpolicy", name],
    ];
    for edit in edits {
        let said = stage.kubectl(target, edit, "").await?;
        ensure!(said.success, "kubectl could not change {name}");
        let start = Instant::now();
        until(&format!("{name} to be restored"), SETTLE, || async {
            let spec = policies.get_opt(name).await?.map(|policy| policy.spec);
            Ok((spec.as_ref() == Some(&wanted)).then_some(()))
        })
        .await?;
        stage.good(&format!(
            "seen restored {} ms after kubectl returned",
            start.elapsed().as_millis()
        ));
    }
    Ok(())
}

async fn opted_in(
    stage: &mut Stage,
    target: &Target,
    before: &[Application],
    stranger: &Application,
) -> anyhow::Result<()> {
    stage.step("A namespace that is older than the baseline opts in, and is closed too");
    let label = ["label", "namespace", BEFORE, "ringfence.dev/baseline=enabled"];
    ensure!(
        stage.kubectl(target, &label, "").await?.success,
        "the namespace could not be labelled"
    );
    policies_in(target, BEFORE, 3).await?;
    let mut members = before.to_vec();
    members.push(stranger.clone());
    show(
        stage,
        target,
        &members,
        "its running pods are closed without a restart",
        |_, _| false,
    )
    .await
}
