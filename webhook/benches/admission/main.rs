//! The webhook as a whole process: among 10,000 pods and 2,000 policies that a stand-in for the API server shows it, asked over TLS on
//! loopback; then asked by the real API server that `KUBECONFIG` names, else that of `make cluster`, in turns with a namespace that is
//! left out, and beside a webhook that judges nothing. Prints a table, and writes one object a figure to `target/bench/results.jsonl`.
//!
//! `RINGFENCE_BENCH_CLUSTER=none` leaves the real API server out; `RINGFENCE_BENCH_SECONDS` says how long each load lasts (5).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // no part of the product: it may just stop

mod client;
#[allow(dead_code)] // others measure what is not used here
#[path = "../../../netpol/benches/large/mod.rs"]
mod large;
mod peer;
mod process;
mod report;
mod reviews;
mod stand_in;
mod through;

use std::time::Duration;

use client::Load;
use process::Webhook;
use report::report;
use reviews::Review;
use ringfence_bench::Figure;
use stand_in::Objects;

/// What engines of today are asked with: an API server keeps up to 25 connections, and each of its requests waits for its answer.
const CONNECTIONS: usize = 16;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let seconds = std::env::var("RINGFENCE_BENCH_SECONDS").map_or(5.0, |text| text.parse().unwrap());
    let lasts = Duration::from_secs_f64(seconds);
    let mut figures = Vec::new();
    idle(&mut figures).await;
    println!("with an empty view: done");
    let api_server = stand_in::serve(Objects::large()).await;
    let webhook = Webhook::start(api_server, "127.0.0.1").await;
    figures.push(
        Figure::new(
            "start → ready, among 10,000 pods",
            webhook.ready.as_secs_f64(),
            "s",
        )
        .at_most(1.0),
    );
    figures.push(Figure::new("resident once ready", webhook.resident(), "MiB"));
    for (name, reviews, bounds) in [
        ("pods and workloads", Review::pods(), false),
        ("NetworkPolicies", Review::policies(), false),
        ("all kinds", Review::mixed(), true),
    ] {
        let size = reviews.iter().map(|review| review.body).sum::<usize>() / reviews.len();
        println!("{name}: {} requests of {size} bytes on average", reviews.len());
        let load = Load::run(&webhook.door, &reviews, CONNECTIONS, lasts, || webhook.judged()).await;
        if std::env::var_os("RINGFENCE_BENCH_WORST").is_some() {
            load.print_worst(&reviews);
        }
        figures.extend(load.figures(name, bounds));
    }
    figures.push(
        Figure::new(
            "resident among 10,000 pods, after these loads",
            webhook.resident(),
            "MiB",
        )
        .at_most(150.0),
    );
    figures.push(Figure::new(
        "resident among 10,000 pods, at its peak",
        webhook.peak(),
        "MiB",
    ));
    webhook.stop();
    let peer = Load::run(
        &peer::start("127.0.0.1"),
        &Review::mixed(),
        CONNECTIONS,
        lasts,
        Vec::new,
    )
    .await;
    figures.extend(peer.figures_of_peer());
    if std::env::var("RINGFENCE_BENCH_CLUSTER").as_deref() != Ok("none") {
        through::measure(&mut figures).await;
    }
    report(figures);
}

/// With nothing in view.
async fn idle(figures: &mut Vec<Figure>) {
    let api_server = stand_in::serve(Objects::none()).await;
    let webhook = Webhook::start(api_server, "127.0.0.1").await;
    let second = Duration::from_secs(1);
    Load::run(&webhook.door, &Review::mixed(), CONNECTIONS, second, || {
        webhook.judged()
    })
    .await;
    figures.push(
        Figure::new(
            "resident with an empty view, after 1 s of load",
            webhook.resident(),
            "MiB",
        )
        .at_most(40.0),
    );
    webhook.stop();
}
