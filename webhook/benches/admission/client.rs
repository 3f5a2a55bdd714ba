//! Clients that keep their connections, as API servers do: HTTP/1.1 over TLS, one request at a time on each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::NAME;
use ringfence_bench::Figure;

use crate::report::percentile;
use crate::reviews::Review;

/// How long it is asked before anything is counted.
const WARM: Duration = Duration::from_millis(500);

/// Where a webhook listens.
pub struct Door {
    pub address: SocketAddr,
    /// The certificate by which its own is known, as PEM.
    pub authority: String,
}

/// What a load came to.
pub struct Load {
    per_second: f64,
    /// Which request, and how long until its answer was there, in milliseconds.
    answered: Vec<(usize, f64)>,
    /// In milliseconds, as the server says.
    judged: Vec<f64>,
}

impl Load {
    /// `judged` says how long the judgements since the last call took.
    pub async fn run(
        door: &Door,
        reviews: &[Review],
        connections: usize,
        lasts: Duration,
        judged: impl Fn() -> Vec<f64>,
    ) -> Self {
        let connector = connector(&door.authority);
        let next = Arc::new(AtomicUsize::new(0));
        let requests: Arc<Vec<Vec<u8>>> =
            Arc::new(reviews.iter().map(|review| review.bytes.clone()).collect());
        let begin = Instant::now() + WARM;
        let end = begin + lasts;
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (connector, next, requests) = (connector.clone(), Arc::clone(&next), Arc::clone(&requests));
            let address = door.address;
            tasks.push(tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let name = ServerName::try_from(NAME).unwrap();
                let mut stream = connector.connect(name, stream).await.unwrap();
                let (mut times, mut buffer) = (Vec::new(), Vec::new());
                loop {
                    let start = Instant::now();
                    if start >= end {
                        return times;
                    }
                    let which = next.fetch_add(1, Ordering::Relaxed) % requests.len();
                    exchange(&mut stream, &requests[which], &mut buffer)
                        .await
                        .unwrap();
                    if start >= begin {
                        times.push((which, start.elapsed().as_secs_f64() * 1000.0));
                    }
                }
            }));
        }
        tokio::time::sleep_until(begin.into()).await;
        judged();
        let mut answered = Vec::new();
        for task in tasks {
            answered.extend(task.await.unwrap());
        }
        Self {
            per_second: answered.len() as f64 / lasts.as_secs_f64(),
            answered,
            judged: judged(),
        }
    }

    pub fn figures(self, name: &str, bounds: bool) -> Vec<Figure> {
        let bound = |bound| bounds.then_some(bound);
        let times: Vec<f64> = self.answered.iter().map(|(_, time)| *time).collect();
        vec![
            Figure::new(format!("{name}: requests a second"), self.per_second, "/s")
                .at_least(bound(10_000.0)),
            Figure::new(
                format!("{name}: judgement, p50 at the server"),
                percentile(&self.judged, 0.5),
                "ms",
            ),
            Figure::new(
                format!("{name}: judgement, p99 at the server"),
                percentile(&self.judged, 0.99),
                "ms",
            )
            .at_most(bound(1.0)),
            Figure::new(
                format!("{name}: answer, p50 at the client"),
                percentile(&times, 0.5),
                "ms",
            ),
            Figure::new(
                format!("{name}: answer, p99 at the client"),
                percentile(&times, 0.99),
                "ms",
            )
            .at_most(bound(5.0)),
        ]
    }

    /// Of one that judges nothing.
    pub fn figures_of_peer(self) -> Vec<Figure> {
        let times: Vec<f64> = self.answered.iter().map(|(_, time)| *time).collect();
        vec![
            Figure::new(
                "a webhook that judges nothing: requests a second",
                self.per_second,
                "/s",
            ),
            Figure::new(
                "a webhook that judges nothing: answer, p99 at the client",
                percentile(&times, 0.99),
                "ms",
            ),
        ]
    }

    /// The requests that took longest, for whoever wants to know why.
    pub fn print_worst(&self, reviews: &[Review]) {
        let mut worst = self.answered.clone();
        worst.sort_by(|one, other| other.1.total_cmp(&one.1));
        for (which, time) in worst.iter().take(12) {
            println!("  {time:8.3} ms  {}", reviews[*which].what);
        }
    }
}

fn connector(authority: &str) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Sends a request and reads its answer, which must be a 200.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| buffer.len() < whole) {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("it was closed"));
        }
        whole = whole.or_else(|| length(buffer));
    }
    if buffer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(buffer).into_owned()))
    }
}

/// How long an answer is with its head, once that is there.
fn length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let line = text
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-length:"))?;
    let body: usize = line.split(':').nth(1)?.trim().parse().ok()?;
    Some(head + body)
}
