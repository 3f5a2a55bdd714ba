//! The node agent: holds NetworkPolicy in the kernel, at both directions of every pod's veth.
//!
//! `ringfence-enforcer` runs it, `ringfence-enforcer uninstall` takes all of it away from this node again (`--stay` then waits to be
//! ended, so that a DaemonSet can do it on every node). Verdicts do not depend on the process: the filters, the maps and the netfilter program stay when it ends, however it ends.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use prometheus::Registry;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::ahead::Ahead;
use ringfence_netpol::cluster::PodObject;
use ringfence_runtime::health::{self, Readiness};
use ringfence_runtime::settings::{Settings as _, Start};
use ringfence_runtime::view::View;
use ringfence_runtime::{memory, settings as load_settings, shutdown, telemetry};
use tokio::sync::mpsc;

use ringfence_enforcer::agent::{Agent, Ready};
use ringfence_enforcer::datapath::{self, Datapath, Pins};
use ringfence_enforcer::gate::{Gate, Told};
use ringfence_enforcer::ledger;
use ringfence_enforcer::link::watch::Watch;
use ringfence_enforcer::link::{Links, cni};
use ringfence_enforcer::metrics::Metrics;
use ringfence_enforcer::removal;
use ringfence_enforcer::settings::EnforcerSettings;
use ringfence_enforcer::{canary, census};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run().await,
        [load_settings::PRINT] => print_settings(),
        ["uninstall"] => uninstall(),
        ["uninstall", "--stay"] => uninstall_and_stay().await,
        _ => Err(anyhow::anyhow!(
            "usage: ringfence-enforcer [--print-settings | uninstall [--stay]]"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringfence-enforcer: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each said once.
fn sentence(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |said, cause| match said {
            said if said.is_empty() => cause,
            said if said.contains(&cause) => said,
            said => format!("{said}: {cause}"),
        })
}

/// Prints the settings as they are in force.
fn print_settings() -> anyhow::Result<()> {
    let arguments = [load_settings::PRINT.to_owned()];
    if let Start::Print(text) = load_settings::start::<EnforcerSettings>(arguments)? {
        print!("{text}");
    }
    Ok(())
}

async fn run() -> anyhow::Result<()> {
    let settings: EnforcerSettings = load_settings::load()?;
    telemetry::start(EnforcerSettings::COMPONENT, &settings.log)?;
    datapath::check_kernel()?;
    memory::keep_small();
    let registry = Registry::new();
    let readiness = Readiness::default();
    let ready = Ready {
        view: readiness.condition("view"),
        rules: readiness.condition("rules"),
        pods: readiness.condition("pods"),
        filters: readiness.condition("filters"),
    };
    let proved = readiness.condition("proof");
    let metrics = Metrics::new(&registry)?;

    let pins = Pins::prepare(&settings.pin_path)?;
    let resumed = pins.are_there();
    let Datapath { maps, hooks, denials } = datapath::load(&pins)?;
    let (maps, hooks) = (Arc::new(maps), Arc::new(hooks));
    tracing::info!(node = settings.node_name, resumed, "the programs are loaded");

    let view = View::new(&registry)?;
    ledger::start(Arc::clone(&maps), denials, view.clone(), metrics.clone())
        .context("writing down denials")?;
    let mut links = Links::open()?;
    let (tell, news) = mpsc::unbounded_channel();
    // News first and then the list: what appears in between is in both.
    let watch = Watch::open()?;
    let veths = links.veths()?;
    canary::start(Arc::clone(&maps), Arc::clone(&hooks), metrics.clone(), proved)
        .context("proving that enforcement works")?;
    census::start(Arc::clone(&maps), metrics.clone()).context("counting flows")?;
    let policies_ahead = metrics.policies_ahead.clone();
    let mut agent = Agent::new(
        settings.clone(),
        view.clone(),
        links,
        (Arc::clone(&maps), Arc::clone(&hooks)),
        (metrics, ready),
        (pins, resumed),
    );
    agent.resume(&veths)?;
    let present: Vec<u32> = veths.iter().map(|veth| veth.ifindex).collect();
    let told = tell.clone();
    let written = move || told.send(Told::Named).unwrap_or_default();
    if let Err(error) = cni::watch(&settings.cni_results_path, written) {
        tracing::info!(
            path = %settings.cni_results_path.display(), %error,
            "new pods are known, and opened, only when the API knows their addresses"
        );
    }
    let mut gate = Gate::new(
        Links::open()?,
        maps,
        hooks,
        settings.netns_path.clone(),
        tell,
        present,
    );
    watch.follow(move |news| gate.take(news))?;

    let client = kube::Client::try_default()
        .await
        .context("no way to the API server is configured")?;
    // A namespace's baseline holds before the generator has stored it.
    let mut ahead = Ahead::default();
    view.derive(Box::new(move |cluster| {
        ahead.follow(cluster);
        policies_ahead.set(i64::try_from(ahead.len()).unwrap_or(i64::MAX));
    }));
    view.watch_if_served::<NamespaceBaseline>(client.clone());
    view.watch::<NetworkPolicy>(client.clone());
    // A pod that has finished is nobody's peer, and its address may be another's by now.
    view.watch_fields::<PodObject>(client.clone(), "status.phase!=Succeeded,status.phase!=Failed");
    view.watch::<Namespace>(client.clone());
    view.watch::<Service>(client);

    tokio::select! {
        served = health::serve(settings.health_address, readiness, registry) => {
            served?;
            bail!("health and metrics are served no more")
        }
        () = agent.run(news) => bail!("the agent has ended"),
        asked = shutdown::requested() => {
            tracing::info!("ending; what is in force stays in force");
            Ok(asked?)
        }
    }
}

/// What a DaemonSet runs to take it away from every node: one that ended would be started again.
async fn uninstall_and_stay() -> anyhow::Result<()> {
    uninstall()?;
    Ok(shutdown::requested().await?)
}

fn uninstall() -> anyhow::Result<()> {
    // The node's name plays no part here.
    let settings = load_settings::load::<EnforcerSettings>().unwrap_or_default();
    removal::uninstall(&settings.pin_path)?;
    println!("nothing of ringfence-enforcer is in force on this node any more");
    Ok(())
}
