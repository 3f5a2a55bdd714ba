//! An adversarial tenant, a generator that is killed at random, an API server that restarts; and what must hold all the same.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use ringfence_tests::target::until;
use serde_json::json;

use crate::harness::{DENY, DNS, Generator, INGRESS, Stage};

const ROUND: Duration = Duration::from_secs(30);

/// Numbers that are random enough for a tenant, and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.roll(words.len() as u64)).unwrap_or_default();
        words.get(index).copied().unwrap_or_default()
    }
}

/// What the tenant did to a default deny: the generator must be innocent of every other moment without one.
type Guilt = Arc<Mutex<BTreeMap<String, Instant>>>;

/// Does something to a namespace that its tenant may do. Refusals are no matter.
async fn tamper(stage: &Stage, namespace: &str, dice: &mut Dice, guilt: &Guilt) {
    let policies = stage.policies(namespace);
    let name = dice.one_of(&["default-deny", "allow-dns", "allow-ingress"]);
    let merge = |patch: serde_json::Value| {
        let policies = policies.clone();
        async move {
            let _ = policies
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
        }
    };
    match dice.roll(8) {
        0 => {
            if name == "default-deny" {
                guilt.lock().insert(namespace.to_owned(), Instant::now());
            }
            let _ = policies.delete(name, &DeleteParams::default()).await;
        }
        1 => {
            if name == "default-deny" {
                guilt.lock().insert(namespace.to_owned(), Instant::now());
            }
            merge(json!({"spec": {"ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}})).await;
        }
        2 => merge(json!({"metadata": {"labels": {"ringfence.dev/baseline": null, "theirs": "x"}}})).await,
        3 => merge(json!({"metadata": {"labels": {"ringfence.dev/baseline": "another"}}})).await,
        4 => merge(json!({"metadata": {"annotations": {"ringfence.dev/hash": "0", "ringfence.dev/retention": "Keep"}}})).await,
        5 => {
            let own: NetworkPolicy = match serde_json::from_value(json!({"metadata": {"name": "own"}, "spec": {"podSelector": {}}})) {
                Ok(own) => own,
                Err(_) => return,
            };
            let _ = policies.create(&PostParams::default(), &own).await;
        }
        6 => {
            let _ = policies.delete("own", &DeleteParams::default()).await;
        }
        _ => {
            let value = format!("example.org/n={}", dice.roll(1000));
            let _ = stage.target.try_kubectl(&["annotate", "--overwrite", "namespace", namespace, &value], "").await;
        }
    }
}

fn closes(spec: Option<&NetworkPolicySpec>) -> bool {
    spec.is_some_and(|spec| {
        let empty = spec.ingress.iter().flatten().count() + spec.egress.iter().flatten().count() == 0;
        let everything = spec
            .pod_selector
            .as_ref()
            .is_none_or(|pods| pods.match_labels.is_none() && pods.match_expressions.is_none());
        empty && everything && spec.policy_types.iter().flatten().count() == 2
    })
}

/// Watches the default denies; every moment in which one is missing or open is the tenant's doing, or is named.
async fn witness(
    stage: &Stage,
    names: &[String],
    guilt: &Guilt,
    end: &AtomicBool,
) -> anyhow::Result<Duration> {
    let all: Api<NetworkPolicy> = Api::all(stage.target.client.clone());
    let ours = |policy: &NetworkPolicy| {
        names.contains(&policy.namespace().unwrap_or_default()) && policy.name_any() == "default-deny"
    };
    let list = all.list(&Default::default()).await?;
    let (mut open, mut longest): (BTreeMap<String, Instant>, Duration) = (BTreeMap::new(), Duration::ZERO);
    let mut version = list.metadata.resource_version.unwrap_or_default();
    while !end.load(Ordering::Relaxed) || !open.is_empty() {
        // An API server that restarts ends the watch; what happened meanwhile is told by the next.
        let Ok(watch) = all.watch(&WatchParams::default().timeout(5), &version).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut watch = std::pin::pin!(watch);
        while let Ok(Some(event)) = futures::TryStreamExt::try_next(&mut watch).await {
            let (policy, there) = match event {
                WatchEvent::Added(policy) | WatchEvent::Modified(policy) => (policy, true),
                WatchEvent::Deleted(policy) => (policy, false),
                _ => continue,
            };
            version = policy.resource_version().unwrap_or(version);
            if !ours(&policy) {
                continue;
            }
            let namespace = policy.namespace().unwrap_or_default();
            if there && closes(policy.spec.as_ref()) {
                if let Some(since) = open.remove(&namespace) {
                    longest = longest.max(since.elapsed());
                }
            } else if let Entry::Vacant(vacant) = open.entry(namespace) {
                let namespace = vacant.key();
                let tenant = guilt.lock().get(namespace).copied();
                ensure!(
                    tenant.is_some_and(|then| then.elapsed() < Duration::from_secs(5)),
                    "the default deny of {namespace} went, and no tenant had touched it"
                );
                vacant.insert(Instant::now());
            }
        }
    }
    Ok(longest)
}

/// Kills the API server of the project's own cluster. What `/proc` shows there are the machine's processes, others' clusters among them: ours is the one
/// that answers under our address, and it is killed by the number that only our control plane knows it by.
async fn kill_api_server(stage: &Stage) -> anyhow::Result<()> {
    let kubeconfig = kube::config::Kubeconfig::read_from(&stage.target.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let address = config
        .cluster_url
        .host()
        .context("a kubeconfig without a host")?
        .to_owned();
    let kill = format!(
        "for p in /proc/[0-9]*; do \
           [ \"$(cat $p/comm 2>/dev/null)\" = kube-apiserver ] || continue; \
           tr '\\0' ' ' <$p/cmdline | grep -qF -- '={address} ' || continue; \
           kill -9 $(awk '/^NSpid/ {{ print $NF }}' $p/status) && exit 0; \
         done; echo 'no API server of {address} is here' >&2; exit 1"
    );
    stage.target.in_node("hub", &["sh", "-c", &kill]).await.map(drop)
}

async fn wreak(restart_api_server: bool, label: &str, seed: u64) -> anyhow::Result<()> {
    let names: Vec<String> = (0..8).map(|n| format!("{label}-{n}")).collect();
    let stale: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::take(&[label], &[]).await?;
    stage.clear(label).await?;
    let mut generators = vec![Generator::start(&stage).await?, Generator::start(&stage).await?];
    stage.baseline(label, "", &[DNS, INGRESS, DENY]).await?;
    for name in &names {
        stage.namespace(name, label).await?;
    }
    let wanted = ["allow-dns", "allow-ingress", "default-deny"];
    let mut specs = BTreeMap::new();
    for name in &names {
        stage.has(name, &wanted).await?;
        for policy in wanted {
            specs.insert((name.clone(), policy), stage.stored(name, policy).await?);
        }
    }

    let (guilt, end) = (Guilt::default(), AtomicBool::new(false));
    let wreck = async {
        let (mut dice, start, mut kills, mut restarted) = (Dice(seed), Instant::now(), 0, false);
        while start.elapsed() < ROUND {
            let name = dice.one_of(&stale);
            tamper(&stage, name, &mut dice, &guilt).await;
            if dice.roll(40) == 0 {
                let one = usize::from(dice.roll(2) == 0);
                generators.swap_remove(one).kill();
                generators.push(Generator::start(&stage).await?);
                kills += 1;
            }
            if restart_api_server && !restarted && start.elapsed() > ROUND / 3 {
                restarted = true;
                kill_api_server(&stage).await?;
                until("the API server to answer", Duration::from_secs(60), || async {
                    Ok(stage.target.client.apiserver_version().await.ok())
                })
                .await?;
            }
            tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        }
        // A tenant who sleeps: what is left is healed.
        for name in &names {
            until(
                &format!("{name} to be as the template says"),
                Duration::from_secs(20),
                || async {
                    for policy in wanted {
                        let stored = stage.policies(name).get_opt(policy).await?;
                        let same = stored.and_then(|stored| stored.spec)
                            == specs.get(&(name.clone(), policy)).cloned();
                        if !same {
                            return Ok(None);
                        }
                    }
                    Ok(Some(()))
                },
            )
            .await?;
        }
        end.store(true, Ordering::Relaxed);
        anyhow::Ok(kills)
    };
    let (kills, longest) = tokio::try_join!(wreck, witness(&stage, &names, &guilt, &end))?;
    eprintln!(
        "{label}: {kills} generators killed; a default deny that a tenant took away was gone for {longest:?} at most"
    );
    ensure!(
        longest < Duration::from_secs(if restart_api_server { 20 } else { 5 }),
        "{longest:?}"
    );
    until("the baseline to be ready", Duration::from_secs(20), || async {
        Ok(stage.condition(label, "Ready", "True").await.ok())
    })
    .await
    .context("after all that")?;
    stage.remove(&[label], &[]).await?;
    stage.abandon(&names).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_tenant_does_and_whoever_is_killed_it_ends_as_the_template_says() -> anyhow::Result<()> {
    wreak(false, "g-chaos", 0x9e37_79b9_7f4a_7c15).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_restarts_changes_nothing_of_that() -> anyhow::Result<()> {
    let own = ringfence_tests::target::Target::connect().await?.own;
    if !own {
        return Ok(()); // another's API server is not ours to kill
    }
    wreak(true, "g-chaos-api", 0x2545_f491_4f6c_dd1d).await
}
