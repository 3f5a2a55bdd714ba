//! The webhook, as a process.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringfence_certs::authority::{Authority, Leaf};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::client::Door;

pub const NAME: &str = "ringfence-webhook.ringfence-system.svc";

pub struct Webhook {
    child: Child,
    pub door: Door,
    /// How long it took from its start until it was ready.
    pub ready: Duration,
    /// How long each judgement took, in milliseconds, as it wrote down itself.
    judged: Arc<Mutex<Vec<f64>>>,
    _folder: TempDir,
}

/// A port that is free now.
fn free(address: &str) -> SocketAddr {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// A new authority, and what it issues to a webhook at an address.
pub fn certificates(address: &str) -> (Authority, Leaf) {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::issue(&[], now, time::Duration::days(10)).unwrap();
    let names = [NAME.to_owned(), address.to_owned()];
    let leaf = Leaf::issue(&authority, &names, now, time::Duration::days(1)).unwrap();
    (authority, leaf)
}

impl Webhook {
    /// Starts it and waits until it is ready.
    pub async fn start(api_server: SocketAddr, address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, leaf) = certificates(address);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("tls.crt", &leaf.certificate.pem);
        write("tls.key", &leaf.key);
        write("ca.crt", &authority.pem());
        write("kubeconfig", &kubeconfig(api_server));
        let (listen, health) = (free(address), free("127.0.0.1"));
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringfence-webhook"))
            .env("KUBECONFIG", folder.path().join("kubeconfig"))
            .env("RINGFENCE_WEBHOOK_LISTEN", listen.to_string())
            .env("RINGFENCE_WEBHOOK_HEALTH", health.to_string())
            .env("RINGFENCE_WEBHOOK_CERTIFICATES__MOUNTED", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let judged = Arc::new(Mutex::new(Vec::new()));
        follow(&mut child, Arc::clone(&judged));
        while !is_ready(health) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "it does not become ready"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self {
            child,
            door: Door {
                address: listen,
                authority: authority.pem(),
            },
            ready: start.elapsed(),
            judged,
            _folder: folder,
        }
    }

    /// How long the judgements since the last call took, in milliseconds.
    pub fn judged(&self) -> Vec<f64> {
        std::mem::take(&mut *self.judged.lock().unwrap())
    }

    /// The memory that it has, in MiB.
    pub fn resident(&self) -> f64 {
        self.memory("VmRSS")
    }

    pub fn peak(&self) -> f64 {
        self.memory("VmHWM")
    }

    fn memory(&self, which: &str) -> f64 {
        ringfence_bench::memory(self.child.id(), which).unwrap()
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Reads its log as a container runtime does, so that writing it costs what it costs.
fn follow(child: &mut Child, judged: Arc<Mutex<Vec<f64>>>) {
    let log = BufReader::with_capacity(1 << 16, child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in log.split(b'\n').map_while(Result::ok) {
            const FIELD: &[u8] = b"\"micros\":";
            let Some(at) = line.windows(FIELD.len()).rposition(|window| window == FIELD) else {
                continue;
            };
            let digits: Vec<u8> = line[at + FIELD.len()..]
                .iter()
                .copied()
                .take_while(u8::is_ascii_digit)
                .collect();
            let micros: f64 = String::from_utf8(digits).unwrap().parse().unwrap();
            judged.lock().unwrap().push(micros / 1000.0);
        }
    });
}

fn is_ready(health: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(health) else {
        return false;
    };
    let mut answer = String::new();
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.0 200")
}

fn kubeconfig(api_server: SocketAddr) -> String {
    format!(
        "{{apiVersion: v1, kind: Config, current-context: bench, contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}], \
         clusters: [{{name: bench, cluster: {{server: 'http://{api_server}'}}}}], users: [{{name: bench, user: {{}}}}]}}"
    )
}
