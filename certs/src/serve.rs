//! The pair that TLS serves, exchangeable at any time: connections that are open keep theirs, new ones get the new.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, crypto,
};
use serde::{Deserialize, Serialize};

use crate::authority::Leaf;

/// A pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the serving pair is no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the serving pair cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the CA that clients' certificates must come from cannot be used: {0}")]
    Clients(#[from] VerifierBuilderError),
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oldest {
    #[serde(rename = "1.2")]
    Tls12,
    #[default]
    #[serde(rename = "1.3")]
    Tls13,
}

/// How TLS is spoken.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub oldest: Oldest,
    /// The CAs one of which must have signed the certificate that a client shows; `None`: clients need none.
    pub clients: Option<Clients>,
}

/// Whom clients' certificates must come from, exchangeable at any time. Clones are the same.
#[derive(Debug, Clone)]
pub struct Clients {
    current: Arc<ArcSwap<Arc<dyn ClientCertVerifier>>>,
}

impl Clients {
    /// CAs, as PEM.
    ///
    /// # Errors
    /// If they cannot be read, or there are none.
    pub fn of(pem: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(verifier(pem)?)),
        })
    }

    /// Takes others from the next connection on. What cannot be read changes nothing.
    ///
    /// # Errors
    /// If they cannot be read, or there are none.
    pub fn set(&self, pem: &[u8]) -> Result<(), Error> {
        self.current.store(Arc::new(verifier(pem)?));
        Ok(())
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem) {
        roots.add(der?)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
    Ok(builder.build()?)
}

impl ClientCertVerifier for Clients {
    /// None: a client shows what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current
            .load()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().supported_verify_schemes()
    }
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
        self.set_pem(leaf.certificate.pem.as_bytes(), leaf.key.as_bytes())
    }

    /// The same for a chain, the serving certificate first, and a key in any of the usual forms.
    ///
    /// # Errors
    /// If certificate or key cannot be read or do not belong together.
    pub fn set_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), Error> {
        let chain = CertificateDer::pem_slice_iter(chain);
        let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let pair = CertifiedKey::from_der(chain, key, &provider())?;
        self.current.store(Some(Arc::new(pair)));
        Ok(())
    }

    /// The configuration of a server that serves it, by HTTP/2 or HTTP/1.1.
    ///
    /// # Errors
    /// If the provider of cryptography supports no version of TLS.
    pub fn config(&self, tls: &Tls) -> Result<ServerConfig, Error> {
        let versions: &[&'static SupportedProtocolVersion] = match tls.oldest {
            Oldest::Tls12 => &[&TLS13, &TLS12],
            Oldest::Tls13 => &[&TLS13],
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(versions)?;
        let builder = match &tls.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients.clone())),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.clone()));
        if tls.clients.is_some() {
            // A connection that goes on with what an earlier one agreed on would not be asked for its certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
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
    fn clients_cas_that_are_none_are_an_error_and_not_no_check() {
        for pem in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        ] {
            assert!(Clients::of(pem.as_bytes()).is_err(), "{pem}");
        }
    }

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
