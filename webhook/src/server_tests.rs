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
    registry: Registry,
    stopper: Stopper,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
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
    let app = App::new(view, Review::default(), limits.clone(), metrics.clone());
    let router = app.clone().router();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let running = Running {
        address: server.address().unwrap(),
        app,
        registry,
        stopper: server.stopper(),
        served: served.clone(),
        task: tokio::spawn(async move { server.serve(router, &served, &tls, &limits, &metrics).await }),
    };
    (running, authority)
}

async fn connect(address: SocketAddr, trusted: &Authority) -> io::Result<TlsStream<TcpStream>> {
    connect_as(address, client(trusted).with_no_client_auth()).await
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

fn client(
    trusted: &Authority,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    client_of(trusted, rustls::DEFAULT_VERSIONS)
}

fn client_of(
    trusted: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(trusted.pem().as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

async fn connect_as(address: SocketAddr, config: rustls::ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    secured(TcpStream::connect(address).await?, config).await
}

async fn secured(stream: TcpStream, config: rustls::ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(NAME).unwrap(), stream)
        .await
}

/// Asks over a connection; under TLS 1.3 a server tells only then that it does not like the client.
async fn answered(mut stream: TlsStream<TcpStream>, body: &[u8]) -> io::Result<String> {
    stream.write_all(head(body.len()).as_bytes()).await?;
    stream.write_all(body).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn policy() -> Vec<u8> {
    body("networkpolicies", POLICY, None)
}

#[tokio::test]
async fn an_older_tls_is_spoken_only_if_the_settings_say_so() {
    let old = |trusted: &Authority| client_of(trusted, &[&rustls::version::TLS12]).with_no_client_auth();
    let (running, trusted) = start(Limits::default());
    assert!(connect_as(running.address, old(&trusted)).await.is_err());
    let tls = Tls {
        oldest: ringfence_certs::Oldest::Tls12,
        ..Tls::default()
    };
    let (running, trusted) = start_with(Limits::default(), tls);
    let stream = connect_as(running.address, old(&trusted)).await.unwrap();
    assert!(
        answered(stream, &policy())
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200 OK")
    );
    ask(running.address, &trusted).await.unwrap();
}

#[tokio::test]
async fn who_shows_no_certificate_of_the_clients_ca_is_turned_away_if_one_is_asked_for() {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let issued = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["api-server".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (ca, params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (ca, certificate, key) = issued();
    let (strange_ca, strange, strange_key) = issued();
    let clients = ringfence_certs::Clients::of(ca.as_bytes()).unwrap();
    let tls = Tls {
        clients: Some(clients.clone()),
        ..Tls::default()
    };
    let (running, trusted) = start_with(Limits::default(), tls);
    let with = |certificate: &rcgen::Certificate, key: &rcgen::KeyPair| {
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        client(&trusted)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap()
    };
    let asked = async |config| answered(connect_as(running.address, config).await?, &policy()).await;
    assert!(
        asked(with(&certificate, &key))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200 OK")
    );
    assert!(asked(with(&strange, &strange_key)).await.is_err());
    assert!(asked(client(&trusted).with_no_client_auth()).await.is_err());
    // From the next connection on another CA counts.
    clients.set(strange_ca.as_bytes()).unwrap();
    asked(with(&strange, &strange_key)).await.unwrap();
    assert!(asked(with(&certificate, &key)).await.is_err());
}

#[tokio::test]
async fn plain_http_at_the_tls_port_is_cut_off_and_the_others_are_served() {
    let (running, trusted) = start(Limits::default());
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(head(2).as_bytes()).await.unwrap();
    plain.write_all(b"{}").await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(4), plain.read_to_end(&mut answer));
    let _ = end.await.expect("it is cut off at once"); // a reset is an end too
    assert!(
        !String::from_utf8_lossy(&answer).contains("HTTP/1.1"),
        "{answer:?}"
    );
    ask(running.address, &trusted).await.unwrap();
    let metrics = running.metrics();
    assert!(
        metrics.contains(r#"ringfence_webhook_refused_connections_total{reason="tls"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn who_does_not_read_the_answers_is_cut_off_and_the_others_are_served() {
    let (running, trusted) = start(Limits {
        header_seconds: 2,
        idle_seconds: 2,
        ..Limits::default()
    });
    // With little room for what it does not read.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(running.address).await.unwrap();
    let mut stream = secured(stream, client(&trusted).with_no_client_auth())
        .await
        .unwrap();
    let many = format!("GET / HTTP/1.1\r\nhost: {NAME}\r\n\r\n").repeat(100);
    // It asks, and never reads: until its own sending comes to a stand, and then until it is closed.
    let asks = async {
        for _ in 0..100_000 {
            if stream.write_all(many.as_bytes()).await.is_err() {
                return;
            }
        }
        panic!("there is no end to what it takes from one that reads no answer");
    };
    let others = async {
        for _ in 0..10 {
            ask(running.address, &trusted).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let both = async { tokio::join!(asks, others) };
    // The other side has room for megabytes of answers, so on a busy machine it takes a while until it notices.
    tokio::time::timeout(Duration::from_secs(240), both)
        .await
        .expect("it is cut off");
}

#[tokio::test]
async fn who_closes_only_the_own_side_frees_the_place() {
    let (running, trusted) = start(Limits {
        connections: 1,
        ..Limits::default()
    });
    let mut half = connect(running.address, &trusted).await.unwrap();
    half.write_all(&head(1000).as_bytes()[..40]).await.unwrap();
    half.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(4), half.read_to_end(&mut rest));
    let _ = end.await.expect("it is closed from the other side too");
    drop(half);
    let mut again = ask(running.address, &trusted).await;
    for _ in 0..100 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = ask(running.address, &trusted).await;
    }
    again.unwrap();
}

#[tokio::test]
async fn an_object_at_the_limit_is_judged_and_one_beyond_it_is_not() {
    let (running, trusted) = start(Limits::default());
    let of_size = |size: usize| {
        let peers = "{podSelector: {matchLabels: {app: frontend}}}, ".repeat(size / 50);
        let object = format!(
            "{{metadata: {{name: web, annotations: {{note: '{}'}}}}, spec: {{podSelector: {{matchLabels: {{app: none}}}}, \
             ingress: [{{from: [{peers}]}}]}}}}",
            "x".repeat(1 << 20)
        );
        body("networkpolicies", &object, None)
    };
    let large = of_size(2_000_000);
    assert!(large.len() > 3_000_000 && large.len() < Limits::default().body_bytes);
    let stream = connect(running.address, &trusted).await.unwrap();
    let text = answered(stream, &large).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.contains(r#""allowed":true"#),
        "{text:.500}"
    );
    let mut stream = connect(running.address, &trusted).await.unwrap();
    let beyond = Limits::default().body_bytes + 1;
    stream.write_all(head(beyond).as_bytes()).await.unwrap();
    let beginning =
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"uid-7","#;
    let beginning = format!("{beginning}{}", " ".repeat(1 << 10));
    stream.write_all(beginning.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = stream.read(&mut text).await.unwrap();
    let text = String::from_utf8_lossy(&text[..read]);
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("uid-7") && text.contains(r#""allowed":false"#),
        "{text}"
    );
}

#[tokio::test]
async fn ten_thousand_connections_that_say_nothing_pass_by_and_who_was_there_is_served_meanwhile() {
    let (running, trusted) = start(Limits {
        connections: 64,
        handshake_seconds: 1,
        ..Limits::default()
    });
    let mut there = connect(running.address, &trusted).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        let Ok(socket) = tokio::net::TcpSocket::new_v4() else {
            break;
        };
        match socket.bind("127.0.0.2:0".parse().unwrap()) {
            Err(error) if error.raw_os_error() == Some(24) => break,
            bound => bound.unwrap(),
        }
        match socket.connect(running.address).await {
            Ok(stream) => idle.push(stream),
            // No more descriptors than this machine lets a process have: as many as that are idle then.
            Err(error) if error.raw_os_error() == Some(24) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(idle.len() > 400, "{}", idle.len());
    // Another API server finds a place at once, though all are taken.
    ask(running.address, &trusted).await.unwrap();
    let body = policy();
    let head = head(body.len());
    there.write_all(head.as_bytes()).await.unwrap();
    there.write_all(&body).await.unwrap();
    let mut text = String::new();
    let served = tokio::time::timeout(Duration::from_secs(5), there.read_to_string(&mut text));
    served.await.expect("it is served meanwhile").unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    let mut again = ask(running.address, &trusted).await;
    for _ in 0..100 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = ask(running.address, &trusted).await;
    }
    again.expect("once the handshakes are given up, there are places again");
    drop(idle);
}
