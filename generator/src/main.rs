//! Starts the generator and ends it in order.

use std::time::Duration;

use anyhow::Result;
use ringfence_generator::metrics::Metrics;
use ringfence_generator::run::run;
use ringfence_generator::settings::Settings;
use ringfence_generator::watch::watch;
use ringfence_generator::writer::ApiServer;
use ringfence_runtime::lease::Elector;
use ringfence_runtime::process::{self, Process};
use ringfence_runtime::view::View;

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
    watch(&view, &client);
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
