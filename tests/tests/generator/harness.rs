//! A real cluster, generators on it, and what they did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, Response};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use parking_lot::Mutex;
use prometheus::Registry;
use ringfence_generator::metrics::Metrics;
use ringfence_generator::run::run;
use ringfence_generator::settings::Settings;
use ringfence_generator::watch::watch;
use ringfence_generator::writer::ApiServer;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_runtime::lease::Elector;
use ringfence_runtime::view::View;
use ringfence_tests::install;
use ringfence_tests::target::{Target, until};
use serde_json::json;
use tokio::runtime::Runtime;

pub const SETTLE: Duration = Duration::from_secs(20);
pub const DENY: &str = "{name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
pub const DNS: &str =
    "{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}";
pub const INGRESS: &str = "{name: allow-ingress, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}";

/// Whom generators act as: who the installed one is, so that a right that is missing is seen.
pub const ACCOUNT: &str = "system:serviceaccount:ringfence-system:ringfence-generator";

/// Generators of different tests would do each other's work.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A cluster on which no generator runs but those of the one test that has its turn.
pub struct Stage {
    pub target: Target,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for this test's turn; removes what an earlier run of it may have left.
    pub async fn take(baselines: &[&str], namespaces: &[&str]) -> anyhow::Result<Self> {
        let turn = TURN.lock().await;
        let target = Target::connect().await?;
        let parts = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "deploy/parts/namespace.yaml",
            "-f",
            "deploy/crds",
        ];
        target.kubectl(&parts).await?;
        for crd in ["namespacebaselines.ringfence.dev", "labelstandards.ringfence.dev"] {
            target
                .kubectl(&["wait", "--for=condition=established", "crd", crd, "--timeout=30s"])
                .await?;
        }
        let generator = std::fs::read_to_string(
            ringfence_tests::target::repository().join("deploy/parts/generator.yaml"),
        )?;
        let rights: Vec<&str> = generator
            .split("\n---\n")
            .filter(|part| !part.contains("kind: Deployment"))
            .collect();
        target.apply(&rights.join("\n---\n")).await?;
        let scale = [
            "-n",
            "ringfence-system",
            "scale",
            "deployment/ringfence-generator",
            "--replicas=0",
        ];
        target.try_kubectl(&scale, "").await?; // where none is installed there is none to stop
        // One that was stopped in the midst of something may hold the lease still.
        let lease = [
            "-n",
            "ringfence-system",
            "delete",
            "lease",
            "ringfence-generator",
            "--ignore-not-found",
        ];
        target.kubectl(&lease).await?;
        install::without_baselines(&target).await?;
        let stage = Self { target, _turn: turn };
        stage.remove(baselines, namespaces).await?;
        Ok(stage)
    }

    pub async fn remove(&self, baselines: &[&str], namespaces: &[&str]) -> anyhow::Result<()> {
        if !baselines.is_empty() {
            let delete = [&["delete", "namespacebaseline", "--ignore-not-found"], baselines].concat();
            self.target.kubectl(&delete).await?;
        }
        self.target.delete_namespaces(namespaces).await
    }

    /// Removes what an earlier run left of the namespaces with a label.
    pub async fn clear(&self, label: &str) -> anyhow::Result<()> {
        let selector = format!("t={label}");
        let delete = ["delete", "namespace", "--selector", &selector, "--timeout=300s"];
        self.target.kubectl(&delete).await.map(drop)
    }

    /// A baseline that takes the namespaces with the label `t: NAME`; `fields` are further ones of its specification.
    pub async fn baseline(&self, name: &str, fields: &str, templates: &[&str]) -> anyhow::Result<()> {
        let fields = if fields.is_empty() {
            String::new()
        } else {
            format!("{fields}, ")
        };
        self.target
            .apply(&format!(
                "{{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {{name: {name}}}, spec: {{{fields}\
                 namespaceSelector: {{matchLabels: {{t: {name}}}}}, policies: [{}]}}}}",
                templates.join(", ")
            ))
            .await
    }

    pub async fn namespace(&self, name: &str, label: &str) -> anyhow::Result<()> {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"t": label}}}))?;
        let api: Api<Namespace> = Api::all(self.target.client.clone());
        api.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Many at once.
    pub async fn namespaces(&self, names: &[String], label: &str) -> anyhow::Result<()> {
        stream::iter(names)
            .map(|name| self.namespace(name, label))
            .buffer_unordered(50)
            .try_collect()
            .await
    }

    /// Asks for the removal of many, and does not wait for it.
    pub async fn abandon(&self, names: &[String]) {
        let api: Api<Namespace> = Api::all(self.target.client.clone());
        let api = &api;
        stream::iter(names)
            .for_each_concurrent(20, |name| async move {
                let _ = api.delete(name, &DeleteParams::background()).await; // one that is left over is nobody's loss
            })
            .await;
    }

    pub fn policies(&self, namespace: &str) -> Api<NetworkPolicy> {
        Api::namespaced(self.target.client.clone(), namespace)
    }

    pub async fn names(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let list = self.policies(namespace).list(&ListParams::default()).await?;
        Ok(list.iter().map(ResourceExt::name_any).collect())
    }

    /// Waits until a namespace has exactly these policies.
    pub async fn has(&self, namespace: &str, names: &[&str]) -> anyhow::Result<()> {
        let start = std::time::Instant::now();
        loop {
            let last = self.names(namespace).await?;
            if last == names {
                return Ok(());
            }
            ensure!(
                start.elapsed() < SETTLE,
                "{namespace} has {last:?} and not {names:?} after {SETTLE:?}"
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub async fn stored(&self, namespace: &str, name: &str) -> anyhow::Result<NetworkPolicySpec> {
        let policies = self.policies(namespace);
        let policy = until(&format!("{namespace}/{name}"), SETTLE, || async {
            Ok(policies.get_opt(name).await?)
        })
        .await?;
        policy.spec.context("a policy without spec")
    }

    /// The version of each policy of a namespace: what nobody wrote to keeps its own.
    pub async fn versions(&self, namespace: &str) -> anyhow::Result<BTreeMap<String, Option<String>>> {
        let list = self.policies(namespace).list(&ListParams::default()).await?;
        Ok(list
            .iter()
            .map(|policy| (policy.name_any(), policy.resource_version()))
            .collect())
    }

    /// Waits until a condition of a baseline is as it must be; its message.
    pub async fn condition(&self, baseline: &str, kind: &str, status: &str) -> anyhow::Result<String> {
        let baselines: Api<NamespaceBaseline> = Api::all(self.target.client.clone());
        until(&format!("{baseline} to be {kind}={status}"), SETTLE, || async {
            let conditions = baselines
                .get(baseline)
                .await?
                .status
                .map(|status| status.conditions);
            let found = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == kind && condition.status == status);
            Ok(found.map(|condition| condition.message))
        })
        .await
    }
}

/// What stands between a generator and the API server.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers so, in place of the API server.
    Answer(u16),
    /// Never answers.
    Silence,
}

/// Which requests meet which fault: the first whose text is part of `METHOD path`.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<(String, Fault)>>>, Arc<AtomicU64>);

impl Faults {
    pub fn set(&self, of: &str, fault: Fault) {
        self.0.lock().push((of.to_owned(), fault));
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// How many requests met one.
    pub fn met(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    fn of(&self, request: &Request<Body>) -> Option<Fault> {
        let text = format!("{} {}", request.method(), request.uri().path());
        let fault = self
            .0
            .lock()
            .iter()
            .find(|(part, _)| text.contains(part))
            .map(|(_, fault)| fault.clone());
        self.1.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }

    fn client(&self, inner: Client) -> Client {
        let faults = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (faults, inner) = (faults.clone(), inner.clone());
            async move {
                match faults.of(&request) {
                    None => inner.send(request).await,
                    Some(Fault::Silence) => std::future::pending().await,
                    Some(Fault::Answer(code)) => {
                        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                            "reason": "Injected", "message": "a fault of the test"});
                        let response = Response::builder()
                            .status(code)
                            .header("content-type", "application/json");
                        let body = Body::from(status.to_string().into_bytes());
                        response.body(body).map_err(kube::Error::HttpError)
                    }
                }
            }
        });
        Client::new(service, "default")
    }
}

/// A generator, as a process would be.
pub struct Generator {
    pub metrics: Metrics,
    pub faults: Faults,
    view: View,
    runtime: Option<Runtime>,
    resign: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Generator {
    pub async fn start(stage: &Stage) -> anyhow::Result<Self> {
        Self::start_as(stage, ACCOUNT).await
    }

    pub async fn start_as(stage: &Stage, account: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let kubeconfig = Kubeconfig::read_from(&stage.target.kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info.impersonate = Some(account.to_owned());
        config.default_retry = false; // as the program has it: what a fault answers is what comes
        let mut settings = Settings::default();
        settings.election.identity = Some(format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        settings.writes.request_seconds = 2;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let view = View::new(&registry)?;
        let faults = Faults::default();
        let (resign, resigned) = tokio::sync::oneshot::channel();
        let (own, watched, through) = (metrics.clone(), view.clone(), faults.clone());
        runtime.spawn(async move {
            let Ok(client) = Client::try_from(config) else {
                return;
            };
            let client = through.client(client);
            watch(&watched, &client);
            let writer = ApiServer::new(
                client.clone(),
                Duration::from_secs(settings.writes.request_seconds),
            );
            let (elector, leadership) = Elector::start(client, &settings.election);
            tokio::select! {
                () = run(watched, writer, &settings.writes, own, leadership) => {}
                _ = resigned => {}
            }
            elector.resign().await;
        });
        let generator = Self {
            metrics,
            faults,
            view,
            runtime: Some(runtime),
            resign: Some(resign),
        };
        until("everything to be in view", SETTLE, || async {
            Ok((generator.view.progress().synced() && generator.view.progress().revision > 0).then_some(()))
        })
        .await?;
        Ok(generator)
    }

    pub fn leads(&self) -> bool {
        self.metrics.leader.get() == 1
    }

    pub async fn leading(&self) -> anyhow::Result<()> {
        until("it to lead", SETTLE, || async { Ok(self.leads().then_some(())) }).await
    }

    /// As `kill -9` does: nothing is ended in order.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// As SIGTERM does.
    pub async fn resign(&mut self) -> anyhow::Result<()> {
        if let Some(resign) = self.resign.take() {
            let _ = resign.send(()); // it has ended already
        }
        Ok(())
    }

    /// Steps that it carried out on policies.
    pub fn writes(&self) -> u64 {
        ["apply", "delete"]
            .iter()
            .map(|verb| self.metrics.writes.with_label_values(&[verb]).get())
            .sum()
    }

    pub fn errors(&self, reason: &str) -> u64 {
        self.metrics.errors.with_label_values(&[reason]).get()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
