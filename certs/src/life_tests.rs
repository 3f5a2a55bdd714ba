//! Days in the life of certificates, in seconds: two replicas keep and serve them, real handshakes try them, and only the clock is not real.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::serve::Tls;

/// The clock of all clients, in seconds of the Unix time.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

/// A handshake of a client that trusts a bundle, as the configuration has it, with what a replica serves.
async fn shake(server: &Arc<ServerConfig>, bundle: &str, clock: &Arc<Clock>) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_details(provider, Arc::clone(clock) as Arc<dyn TimeProvider>)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(1 << 14);
    let name = ServerName::try_from("hook.system.svc").unwrap();
    let connect = TlsConnector::from(Arc::new(client)).connect(name, near);
    let accept = TlsAcceptor::from(Arc::clone(server)).accept(far);
    let (connected, _) = tokio::join!(connect, accept);
    connected.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn through_days_of_rotation_no_handshake_fails_with_any_replica() {
    let lifetimes = Lifetimes {
        authority: Duration::hours(24),
        leaf: Duration::hours(6),
        settle: Duration::minutes(30),
    };
    let server = Server::default();
    server.install_configuration();
    let served = [Served::default(), Served::default()];
    let mut replicas = served.clone().map(|served| server.keeper_with(lifetimes, served));
    let configs = served.map(|served| Arc::new(served.config(&Tls::default()).unwrap()));
    let clock = Arc::new(Clock::default());
    // What an API server has heard of: one at once, another ten minutes later.
    let mut heard: Vec<String> = Vec::new();
    let (mut leaves, mut authorities, mut shaken) = (Vec::new(), Vec::new(), 0);
    for minute in (0..4 * 24 * 60).step_by(10) {
        let at = now() + Duration::minutes(minute);
        clock
            .0
            .store(at.unix_timestamp().unsigned_abs(), Ordering::Relaxed);
        // They do not look at the same time; in the beginning both do.
        for (index, replica) in replicas.iter_mut().enumerate() {
            if minute == 0 || minute / 10 % 2 == index as i64 {
                replica.reconcile(at).await.unwrap();
            }
        }
        let trusted = server.trusted().remove(0);
        let bundle: k8s_openapi::ByteString = serde_json::from_value(trusted).unwrap();
        heard.push(String::from_utf8(bundle.0).unwrap());
        leaves.push(server.secret("tls", "tls.crt"));
        authorities.push(server.secret("ca", "ca.key"));
        for config in &configs {
            for bundle in heard.iter().rev().take(2) {
                let result = shake(config, bundle, &clock).await;
                assert_eq!(result, Ok(()), "after {minute} minutes");
                shaken += 1;
            }
        }
    }
    leaves.dedup();
    authorities.dedup();
    assert!(
        leaves.len() > 15 && authorities.len() > 4 && shaken > 2_000,
        "{} serving certificates, {} CAs, {shaken} handshakes",
        leaves.len(),
        authorities.len()
    );
    // And the clients do look: what nobody trusts is turned down, and so is what has ended.
    let stranger = Authority::issue(&[], now(), Duration::days(9)).unwrap().pem();
    assert!(shake(&configs[0], &stranger, &clock).await.is_err());
    clock.0.fetch_add(7 * 3600, Ordering::Relaxed);
    let said = shake(&configs[0], &heard[heard.len() - 1], &clock)
        .await
        .unwrap_err();
    assert!(said.contains("expired"), "{said}");
}
