//! Starts the admission server and ends it in order.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use prometheus::Registry;
use ringfence_certs::{Keeper, Mounted, Served, Status};
use ringfence_netpol::api::{LabelStandard, NamespaceBaseline};
use ringfence_netpol::cluster::PodObject;
use ringfence_runtime::health::{self, Condition, Readiness};
use ringfence_runtime::settings::Start;
use ringfence_runtime::view::View;
use ringfence_runtime::{settings, shutdown, telemetry};
use ringfence_webhook::metrics::Metrics;
use ringfence_webhook::routes::App;
use ringfence_webhook::scan;
use ringfence_webhook::server::Server;
use ringfence_webhook::settings::Settings;
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<()> {
    let settings: Settings = match settings::start(std::env::args().skip(1))? {
        Start::Run(settings) => settings,
        Start::Print(text) => {
            print!("{text}");
            return Ok(());
        }
    };
    telemetry::start(&settings.log)?;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::default();
    let (in_view, certified, open) = (
        readiness.condition("view"),
        readiness.condition("certificate"),
        readiness.condition("open"),
    );
    let client = Client::try_default()
        .await
        .context("no way to the API server: neither a service account nor a kubeconfig")?;

    let view = View::new(&registry)?;
    view.watch::<Namespace>(client.clone());
    view.watch::<PodObject>(client.clone());
    view.watch::<Service>(client.clone());
    view.watch::<NetworkPolicy>(client.clone());
    view.watch::<LabelStandard>(client.clone());
    view.watch::<NamespaceBaseline>(client.clone());
    let grace = Duration::from_secs(settings.view_grace_seconds);
    tokio::spawn(follow_view(view.clone(), grace, in_view, metrics.clone()));

    let served = Served::default();
    let status = match settings.certificates.mounted.clone() {
        None => {
            let keeper = Keeper::new(client.clone(), settings.keeper(), served.clone());
            let status = keeper.status();
            tokio::spawn(keeper.run());
            status
        }
        Some(folder) => {
            let mounted = Mounted::new(folder, served.clone());
            let status = mounted.status();
            tokio::spawn(mounted.run());
            status
        }
    };
    tokio::spawn(follow_certificates(status, certified, metrics.clone()));
    let tls = settings.tls.read().context("the admission port's TLS")?;

    let server = Server::bind(settings.listen)?;
    let stopper = server.stopper();
    let app = App::new(
        view.clone(),
        settings.review.clone(),
        settings.limits.clone(),
        metrics.clone(),
    );
    tokio::spawn(follow_settings(settings.clone(), app.clone(), metrics.clone()));
    tokio::spawn(scan::run(client, view, metrics));
    tracing::info!(address = %server.address().unwrap_or(settings.listen), "admission listens");
    open.set(true);

    let drain = Duration::from_secs(settings.drain_seconds);
    let leaving = app.clone();
    let end = async move {
        shutdown::requested().await?;
        open.set(false);
        // Until every client has heard that this endpoint is gone, requests still come here; each is answered, and told
        // to come by another connection.
        leaving.leave();
        tokio::time::sleep(drain).await;
        stopper.stop();
        Ok::<_, std::io::Error>(())
    };
    let serve = server.serve(app.router(), &served, &tls, &settings.limits);
    tokio::select! {
        result = async { tokio::try_join!(serve, end) } => result.map(|_| ()).context("admission"),
        result = serve_health(settings.health, readiness, registry) => result,
    }
}

async fn serve_health(address: SocketAddr, readiness: Readiness, registry: Registry) -> Result<()> {
    health::serve(address, readiness, registry)
        .await
        .context("health")
}

/// Ready once the cluster is in view, or after a while without: then the rules that need no view judge.
async fn follow_view(view: View, grace: Duration, condition: Condition, metrics: Metrics) {
    let start = Instant::now();
    let mut progress = view.subscribe();
    let mut changed = Instant::now();
    loop {
        let synced = progress.borrow_and_update().synced();
        if !synced && start.elapsed() >= grace {
            tracing::warn!("the cluster is not in view; judging without");
        }
        condition.set(synced || start.elapsed() >= grace);
        metrics.view(synced, changed.elapsed());
        match tokio::time::timeout(Duration::from_secs(5), progress.changed()).await {
            Ok(Ok(())) => changed = Instant::now(),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// Ready once a certificate is served. What the API server trusts is not asked: with cert-manager, or before the
/// configuration is there, that is somebody else's.
async fn follow_certificates(
    mut status: watch::Receiver<Option<Status>>,
    condition: Condition,
    metrics: Metrics,
) {
    loop {
        if let Some(status) = status.borrow_and_update().clone() {
            condition.set(status.serving);
            metrics.certificates(&status);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// How often the settings are looked at: Kubernetes swaps a link above a mounted file, which says nothing to whoever watches it.
const SETTINGS_EVERY: Duration = Duration::from_secs(5);

/// Takes over what changes under `review`, and says if anything else does. What cannot be used changes nothing.
async fn follow_settings(mut current: Settings, app: App, metrics: Metrics) {
    let mut refused = String::new();
    loop {
        tokio::time::sleep(SETTINGS_EVERY).await;
        let fresh: Settings = match settings::load() {
            Ok(fresh) => fresh,
            Err(error) => {
                let error = error.to_string();
                if error != refused {
                    tracing::error!(%error, "the settings cannot be used any more; those from before stay in force");
                    refused = error;
                }
                metrics.settings(false);
                continue;
            }
        };
        refused.clear();
        if fresh.review != current.review {
            app.set_review(fresh.review.clone());
            tracing::info!("the settings under review were read again and are in force");
            current.review = fresh.review.clone();
        }
        let stale = fresh != current;
        metrics.settings(!stale);
        if stale {
            tracing::warn!("settings changed that are read at start only; restart this process");
            tokio::time::sleep(SETTINGS_EVERY * 60).await;
        }
    }
}
