//! Starts the admission server and ends it in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_certs::{Keeper, Mounted, Served, Status};
use ringfence_netpol::api::{LabelStandard, NamespaceBaseline};
use ringfence_netpol::cluster::PodObject;
use ringfence_runtime::health::Condition;
use ringfence_runtime::process::{self, Process};
use ringfence_runtime::shutdown;
use ringfence_runtime::view::View;
use ringfence_webhook::metrics::Metrics;
use ringfence_webhook::reload::Reload;
use ringfence_webhook::routes::App;
use ringfence_webhook::scan;
use ringfence_webhook::server::Server;
use ringfence_webhook::settings::Settings;
use tokio::sync::watch;

/// A judgement makes many small allocations; with glibc's allocator there are a quarter fewer of them a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let Some(Process {
        settings,
        registry,
        readiness,
        client,
    }) = process::begin(|settings: &Settings| &settings.log).await?
    else {
        return Ok(()); // it was to print its settings
    };
    let metrics = Metrics::new(&registry)?;
    let (in_view, certified, open) = (
        readiness.condition("view"),
        readiness.condition("certificate"),
        readiness.condition("open"),
    );

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
    let (tls, clients) = settings.tls.read().context("the admission port's TLS")?;
    if let Some(clients) = clients {
        tokio::spawn(clients.run());
    }

    let server = Server::bind(settings.listen)?;
    let stopper = server.stopper();
    let app = App::new(
        view.clone(),
        settings.review.clone(),
        settings.limits.clone(),
        metrics.clone(),
    );
    tokio::spawn(Reload::new(settings.clone(), app.clone(), metrics.clone()).run());
    tokio::spawn(scan::run(client, view, metrics.clone()));
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
    let serve = server.serve(app.router(), &served, &tls, &settings.limits, &metrics);
    // Asked for its health, it says to the end that it is there, and not ready.
    let work = async { tokio::try_join!(serve, end) };
    let ended = process::run_to_end(settings.health, readiness, registry, work).await?;
    ended.map(|_| ()).context("admission")
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
