//! The server on loopback, with real TLS.

use super::*;
use crate::metrics::Metrics;
use crate::review::testing::{body, cluster};
use crate::routes::App;
use crate::settings::Review;
use prometheus::Registry;
use ringfence_certs::authority::{Authority, Leaf};
use ringfence_runtime::view::View;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

const NAME: &str = "ringfence-webhook.ringfence-system.svc";
const POLICY: &str = "
    metadata: {name: web}
    spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}";

struct Running {
    address: SocketAddr,
    served: Served,
    app: App,
    stopper: Stopper,
    task: JoinHandle<io::Result<()>>,
}

fn pair() -> (Authority, Leaf) {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::issue(&[], now, time::Duration::days(10)).unwrap();
    let leaf = Leaf::issue(&authority, &[NAME.to_owned()], now, time::Duration::days(1)).unwrap();
    (authority, leaf)
}

fn start(limits: Limits) -> (Running, Authority) {
    start_with(limits, Tls::default())
}

fn start_with(limits: Limits, tls: Tls) -> (Running, Authority) {
    let (authority, leaf) = pair();
    let served = Served::default();
    served.set(&leaf).unwrap();
    let registry = Registry::new();
    let view = View::of(cluster(), &registry).unwrap();
    let metrics = Metrics::new(&registry).unwrap();
    let app = App::new(view, Review::default(), limits.clone(), metrics);
    let router = app.clone().router();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let running = Running {
        address: server.address().unwrap(),
        app,
        stopper: server.stopper(),
        served: served.clone(),
        task: tokio::spawn(async move { server.serve(router, &served, &tls, &limits).await }),
    };
    (running, authority)
}

async fn connect(address: SocketAddr, trusted: &Authority) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(trusted.pem().as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(NAME).unwrap(), stream)
        .await
}

fn head(length: usize) -> String {
    format!(
        "POST /validate HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

async fn ask(address: SocketAddr, trusted: &Authority) -> io::Result<String> {
    let mut stream = connect(address, trusted).await?;
    let body = body("networkpolicies", POLICY, None);
    stream.write_all(head(body.len()).as_bytes()).await?;
    stream.write_all(&body).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn a_policy_is_refused_through_tls() {
    let (running, trusted) = start(Limits::default());
    let text = ask(running.address, &trusted).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(
        text.contains("kubernetes.io/metadata.name: kube-system"),
        "{text}"
    );
}

#[tokio::test]
async fn another_pair_is_served_from_the_next_connection_on() {
    let (running, trusted) = start(Limits::default());
    let (other, leaf) = pair();
    assert!(
        ask(running.address, &other).await.is_err(),
        "it is not trusted yet"
    );
    running.served.set(&leaf).unwrap();
    ask(running.address, &other).await.unwrap();
    assert!(ask(running.address, &trusted).await.is_err());
}

#[tokio::test]
async fn once_stopped_it_answers_what_is_in_flight_and_takes_nothing_new() {
    let (running, trusted) = start(Limits::default());
    let mut stream = connect(running.address, &trusted).await.unwrap();
    let body = body("networkpolicies", POLICY, None);
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body[..10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.stopper.stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        connect(running.address, &trusted).await.is_err(),
        "nothing new is taken"
    );
    stream.write_all(&body[10..]).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_while_it_is_leaving_is_answered_and_sent_elsewhere() {
    let (running, trusted) = start(Limits::default());
    let mut stream = connect(running.address, &trusted).await.unwrap();
    let body = body("networkpolicies", POLICY, None);
    let head = head(body.len()).replace("connection: close\r\n", "");
    for leaving in [false, true] {
        if leaving {
            running.app.leave();
        }
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut text = String::new();
        while !text.contains("kube-system\\n") {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert_eq!(text.contains("connection: close"), leaving, "{text}");
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_come_free_again() {
    let (running, trusted) = start(Limits {
        connections: 1,
        ..Limits::default()
    });
    let first = connect(running.address, &trusted).await.unwrap();
    assert!(connect(running.address, &trusted).await.is_err());
    drop(first);
    let mut again = connect(running.address, &trusted).await;
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = connect(running.address, &trusted).await;
    }
    again.unwrap();
}

#[tokio::test]
async fn who_stays_silent_is_cut_off_before_during_and_after_the_handshake() {
    let (running, trusted) = start(Limits {
        handshake_seconds: 1,
        header_seconds: 1,
        idle_seconds: 2,
        ..Limits::default()
    });
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    let mut quiet = connect(running.address, &trusted).await.unwrap();
    let mut partial = connect(running.address, &trusted).await.unwrap();
    partial
        .write_all(b"POST /validate HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    let ends = async {
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        // An error (reset, no close_notify) is an end as good as any.
        let _ = tokio::join!(
            plain.read_to_end(&mut a),
            quiet.read_to_end(&mut b),
            partial.read_to_end(&mut c)
        );
    };
    tokio::time::timeout(Duration::from_secs(6), ends)
        .await
        .expect("all three are cut off");
}
