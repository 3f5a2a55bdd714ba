//! The pair that TLS serves, exchangeable at any time: connections that are open keep theirs, new ones get the new.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use crate::authority::Leaf;

/// A pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the serving pair is no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the serving pair cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// What is served. Clones serve the same.
#[derive(Debug, Clone, Default)]
pub struct Served {
    current: Arc<ArcSwapOption<CertifiedKey>>,
}

impl Served {
    /// Serves another pair from now on. A bad pair changes nothing.
    ///
    /// # Errors
    /// If certificate or key cannot be read or do not belong together.
    pub fn set(&self, leaf: &Leaf) -> Result<(), Error> {
        let chain = CertificateDer::pem_slice_iter(leaf.certificate.pem.as_bytes());
        let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?;
        let pair = CertifiedKey::from_der(chain, key, &provider())?;
        self.current.store(Some(Arc::new(pair)));
        Ok(())
    }

    /// The configuration of a server that serves it, by HTTP/2 or HTTP/1.1.
    ///
    /// # Errors
    /// If the provider of cryptography supports no version of TLS.
    pub fn config(&self) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Until the first pair is set, handshakes fail.
impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

fn provider() -> CryptoProvider {
    crypto::ring::default_provider()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use time::{Duration, OffsetDateTime};

    #[test]
    fn a_bad_pair_leaves_the_good_one_in_place() {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::issue(&[], now, Duration::days(2)).unwrap();
        let leaf = || Leaf::issue(&authority, &["a.svc".to_owned()], now, Duration::days(1)).unwrap();
        let served = Served::default();
        let good = leaf();
        served.set(&good).unwrap();
        let before = served.current.load_full();
        let bad = Leaf {
            key: leaf().key,
            ..good
        };
        assert!(served.set(&bad).is_err());
        assert!(Arc::ptr_eq(
            &before.unwrap(),
            &served.current.load_full().unwrap()
        ));
    }
}
