//! How a long-running program begins: its settings, its log, its registry of metrics, and a way to the API server.

use std::future::Future;
use std::io;

use kube::{Client, Config};
use prometheus::Registry;

use crate::health::{self, Readiness};
use crate::memory;
use crate::settings::{self, Settings, Start};
use crate::shutdown;
use crate::telemetry::{self, Log};

/// What every program has once it runs.
pub struct Process<S> {
    pub settings: S,
    pub registry: Registry,
    pub readiness: Readiness,
    pub client: Client,
}

/// A program cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error(transparent)]
    Log(#[from] telemetry::Error),
    #[error("no way to the API server, neither a service account nor a kubeconfig: {0}")]
    Client(#[from] kube::Error),
}

/// Begins a program, as its arguments say: `None` if it was to print its settings, and has. `log` says where its settings have those of
/// its log.
///
/// # Errors
/// If its arguments or settings cannot be used, or there is no way to the API server.
pub async fn begin<S: Settings>(log: impl FnOnce(&S) -> &Log) -> Result<Option<Process<S>>, Error> {
    let settings: S = match settings::start(std::env::args().skip(1))? {
        Start::Run(settings) => settings,
        Start::Print(text) => {
            print!("{text}");
            return Ok(None);
        }
    };
    telemetry::start(S::COMPONENT, log(&settings))?;
    memory::keep_small();
    Ok(Some(Process {
        settings,
        registry: Registry::new(),
        readiness: Readiness::default(),
        client: client().await?,
    }))
}

/// A client that tells what the API server answers, also when that is that there is too much to do. Left to itself it would ask again up to
/// fifteen times, as slowly as it is told to, before anybody here heard of it: a leader would miss its renewal meanwhile, and a write would
/// hold its place. Who asks here asks again by itself, and knows what for.
async fn client() -> Result<Client, Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Works until the process is asked to end or the work ends by itself, and answers for its health meanwhile; whether the work ended.
///
/// # Errors
/// If the health server cannot listen, or signals cannot be heard.
pub async fn run(
    address: std::net::SocketAddr,
    readiness: Readiness,
    registry: Registry,
    work: impl Future<Output = ()>,
) -> io::Result<bool> {
    let end = async {
        tokio::select! {
            asked = shutdown::requested() => asked.map(|()| false),
            () = work => Ok(true),
        }
    };
    run_to_end(address, readiness, registry, end).await?
}

/// Works until the work ends, which itself hears when it is to, and answers for its health meanwhile.
///
/// # Errors
/// If the health server cannot listen.
pub async fn run_to_end<T>(
    address: std::net::SocketAddr,
    readiness: Readiness,
    registry: Registry,
    work: impl Future<Output = T>,
) -> io::Result<T> {
    let served = async {
        health::serve(address, readiness, registry).await?;
        Err(io::Error::other("health and metrics are served no more"))
    };
    let ended = tokio::select! {
        served = served => served,
        done = work => Ok(done),
    };
    telemetry::end().await;
    ended
}
