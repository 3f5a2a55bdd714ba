//! Starts the generator and ends it in order.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::IngressClass;
use kube::Client;
use prometheus::Registry;
use ringfence_generator::metrics::Metrics;
use ringfence_generator::run::run;
use ringfence_generator::settings::Settings;
use ringfence_generator::writer::ApiServer;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::PolicyObject;
use ringfence_runtime::health::{self, Condition, Readiness};
use ringfence_runtime::view::View;
use ringfence_runtime::{settings, shutdown, telemetry};

#[tokio::main]
async fn main() -> Result<()> {
    let settings: Settings = settings::load()?;
    telemetry::start(&settings.log)?;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::default();
    let (in_view, looked) = (readiness.condition("view"), readiness.condition("first look"));
    let client = Client::try_default()
        .await
        .context("no way to the API server: neither a service account nor a kubeconfig")?;

    let view = View::new(&registry)?;
    view.watch::<Namespace>(client.clone());
    view.watch::<NamespaceBaseline>(client.clone());
    view.watch::<PolicyObject>(client.clone());
    view.watch::<Pod>(client.clone());
    view.watch::<Service>(client.clone());
    view.watch::<IngressClass>(client.clone());
    tokio::spawn(follow_view(view.clone(), in_view));

    let writer = ApiServer::new(client, Duration::from_secs(settings.writes.request_seconds));
    tokio::select! {
        // Whatever is under way ends half done; the next start finds it so and goes on.
        ended = shutdown::requested() => ended.context("signals"),
        served = health::serve(settings.health, readiness, registry) => served.context("health"),
        () = run(view, writer, &settings.writes, metrics, looked) => anyhow::bail!("the view of the cluster ended"),
    }
}

async fn follow_view(view: View, condition: Condition) {
    let mut progress = view.subscribe();
    loop {
        condition.set(progress.borrow_and_update().synced());
        if progress.changed().await.is_err() {
            return;
        }
    }
}
