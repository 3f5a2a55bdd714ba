//! Starts the generator and ends it in order.

use std::time::Duration;

use anyhow::Result;
use ringfence_generator::gates;
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
    let view = View::new(&registry)?;
    watch(&view, &client);
    view.keep(readiness.condition("view"));

    let writer = ApiServer::new(
        client.clone(),
        Duration::from_secs(settings.writes.request_seconds),
    );
    let gating = client.clone();
    let (elector, leadership) = Elector::start(client, &settings.election);
    let patience = Duration::from_secs(settings.writes.request_seconds);
    let gates = async {
        match settings.scheduling_gates {
            true => {
                gates::run(
                    view.clone(),
                    gating,
                    patience,
                    metrics.clone(),
                    leadership.clone(),
                )
                .await
            }
            false => std::future::pending().await,
        }
    };
    let policies = run(
        view.clone(),
        writer,
        &settings.writes,
        metrics.clone(),
        leadership.clone(),
    );
    let work = async {
        tokio::select! {
            () = policies => {}
            () = gates => {}
        }
    };
    // Whatever is under way ends half done; the next leader finds it so and goes on.
    let ended = process::run(settings.health, readiness, registry, work).await?;
    elector.resign().await;
    anyhow::ensure!(!ended, "the view of the cluster ended");
    Ok(())
}
