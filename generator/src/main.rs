//! Starts the generator and ends it in order.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, ServiceCIDR};
use ringfence_generator::metrics::Metrics;
use ringfence_generator::run::run;
use ringfence_generator::settings::Settings;
use ringfence_generator::writer::ApiServer;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::PolicyObject;
use ringfence_runtime::lease::Elector;
use ringfence_runtime::process::{self, Process};
use ringfence_runtime::view::View;

/// Those that no controller made from a Service's selector: the API server's own, and what people write.
const ENDPOINTS: &str = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";

#[tokio::main]
async fn main() -> Result<()> {
    let Process {
        settings,
        registry,
        readiness,
        client,
    } = process::begin(|settings: &Settings| &settings.log).await?;
    let metrics = Metrics::new(&registry)?;

    let view = View::new(&registry)?;
    view.watch::<Namespace>(client.clone());
    view.watch::<NamespaceBaseline>(client.clone());
    view.watch::<PolicyObject>(client.clone());
    view.watch::<Pod>(client.clone());
    view.watch::<Service>(client.clone());
    view.watch::<Ingress>(client.clone());
    view.watch::<IngressClass>(client.clone());
    view.watch::<Node>(client.clone());
    view.watch_labelled::<EndpointSlice>(client.clone(), ENDPOINTS);
    view.watch_if_served::<ServiceCIDR>(client.clone());
    view.keep(readiness.condition("view"));

    let writer = ApiServer::new(
        client.clone(),
        Duration::from_secs(settings.writes.request_seconds),
    );
    let (elector, leadership) = Elector::start(client, &settings.election);
    let work = run(view, writer, &settings.writes, metrics, leadership);
    // Whatever is under way ends half done; the next leader finds it so and goes on.
    let ended = process::run(settings.health, readiness, registry, work).await?;
    elector.resign().await;
    anyhow::ensure!(!ended, "the view of the cluster ended");
    Ok(())
}
