//! Certificates: issuing them, and reading what was issued.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Clocks differ: what is issued now was valid a little before, as long as its life is not about as short as that.
pub(crate) fn skew(lifetime: Duration) -> Duration {
    Ord::min(lifetime / 10_i32, Duration::minutes(10))
}

/// A certificate cannot be issued or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} cannot be issued: {source}")]
    Issue {
        what: &'static str,
        source: rcgen::Error,
    },
    #[error("{what} is no certificate in PEM form: {reason}")]
    Unreadable { what: &'static str, reason: String },
    #[error("{what} has no certificate in it")]
    Empty { what: &'static str },
}

/// A CA: certificates that are trusted, newest first, and the key of the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub bundle: Vec<Certificate>,
    pub key: String,
}

/// A serving certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub certificate: Certificate,
    pub key: String,
}

/// A certificate, with what is needed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub pem: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub names: Vec<String>,
}

impl Authority {
    /// A new CA, before which `older` ones keep being trusted.
    ///
    /// # Errors
    /// If no key can be made, or the time is none that a certificate can hold.
    pub fn issue(older: &[Certificate], now: OffsetDateTime, lifetime: Duration) -> Result<Self, Error> {
        let issue = |source| Error::Issue {
            what: "the CA",
            source,
        };
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::default();
        // The time in the name tells two CAs of one bundle apart, for people and for verifiers.
        params.distinguished_name = named(&format!("Ringfence CA {}", now.unix_timestamp()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - skew(lifetime);
        params.not_after = now + lifetime;
        let newest = params.self_signed(&key).map_err(issue)?.pem();
        let mut bundle = read("the CA", newest.as_bytes())?;
        bundle.extend(older.iter().filter(|older| older.not_after > now).cloned());
        Ok(Self {
            bundle,
            key: key.serialize_pem(),
        })
    }

    /// Reads what [`Self::pem`] and the key were written as.
    ///
    /// # Errors
    /// If there is no certificate, or one that cannot be read, or the key is none.
    pub fn read(bundle: &[u8], key: &[u8]) -> Result<Self, Error> {
        let key = String::from_utf8_lossy(key).into_owned();
        let pair = KeyPair::from_pem(&key).map_err(|source| Error::Unreadable {
            what: "the CA's key",
            reason: source.to_string(),
        })?;
        let bundle = read("the CA's bundle", bundle)?;
        let newest = bundle.first().ok_or(Error::Empty {
            what: "the CA's bundle",
        })?;
        let matches = with_x509(newest, |x509| x509.public_key().raw == pair_public(&pair)).unwrap_or(false);
        if !matches {
            return Err(Error::Unreadable {
                what: "the CA's key",
                reason: "it is not that of the newest certificate".to_owned(),
            });
        }
        Ok(Self { bundle, key })
    }

    /// The CA that signs: the newest.
    pub fn newest(&self) -> Option<&Certificate> {
        self.bundle.first()
    }

    /// The whole bundle, for whoever is to trust it.
    pub fn pem(&self) -> String {
        self.bundle
            .iter()
            .map(|certificate| certificate.pem.as_str())
            .collect()
    }

    /// Whether a certificate of the bundle that is valid at that time signed this one.
    pub fn vouches_for(&self, certificate: &Certificate, now: OffsetDateTime) -> bool {
        let valid = self.bundle.iter().filter(|ca| ca.not_after > now);
        valid.into_iter().any(|ca| {
            with_x509(ca, |ca| {
                with_x509(certificate, |leaf| {
                    leaf.issuer().as_raw() == ca.subject().as_raw()
                        && leaf.verify_signature(Some(ca.public_key())).is_ok()
                })
            })
            .flatten()
            .unwrap_or(false)
        })
    }
}

impl Leaf {
    /// A serving certificate for these names, signed by the newest CA; it ends before its CA does.
    ///
    /// # Errors
    /// If the CA's key cannot be read, no key can be made, or a name is none.
    pub fn issue(
        authority: &Authority,
        names: &[String],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let issue = |source| Error::Issue {
            what: "the serving certificate",
            source,
        };
        let ca = authority.newest().ok_or(Error::Empty {
            what: "the CA's bundle",
        })?;
        let signer = KeyPair::from_pem(&authority.key).map_err(issue)?;
        let issuer = Issuer::from_ca_cert_pem(&ca.pem, signer).map_err(issue)?;
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::new(names).map_err(issue)?;
        params.distinguished_name = named(names.first().map_or("ringfence", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - skew(lifetime);
        params.not_after = (now + lifetime).min(ca.not_after);
        let pem = params.signed_by(&key, &issuer).map_err(issue)?.pem();
        Self::read(pem.as_bytes(), key.serialize_pem().as_bytes())
    }

    /// # Errors
    /// If there is no certificate, or one that cannot be read, or the key is none.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let what = "the serving certificate";
        let certificate = read(what, chain)?
            .into_iter()
            .next()
            .ok_or(Error::Empty { what })?;
        let key = String::from_utf8_lossy(key).into_owned();
        let pair = KeyPair::from_pem(&key).map_err(|source| Error::Unreadable {
            what: "the serving key",
            reason: source.to_string(),
        })?;
        if with_x509(&certificate, |x509| x509.public_key().raw == pair_public(&pair)) != Some(true) {
            return Err(Error::Unreadable {
                what: "the serving key",
                reason: "it is not that of the certificate".to_owned(),
            });
        }
        Ok(Self { certificate, key })
    }
}

fn pair_public(pair: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    pair.subject_public_key_info()
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // The standard's upper bound for a common name; verifiers go by the alternative names.
    let short: String = name.chars().take(64).collect();
    distinguished.push(DnType::CommonName, short);
    distinguished
}

/// The certificates of a PEM file.
pub(crate) fn read(what: &'static str, pem: &[u8]) -> Result<Vec<Certificate>, Error> {
    let unreadable = |reason: String| Error::Unreadable { what, reason };
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|e| unreadable(e.to_string()))?;
        let (_, x509) = X509Certificate::from_der(&der).map_err(|e| unreadable(e.to_string()))?;
        let time = |at: i64| {
            OffsetDateTime::from_unix_timestamp(at).map_err(|e| unreadable(format!("its validity: {e}")))
        };
        certificates.push(Certificate {
            pem: encode(&der),
            not_before: time(x509.validity().not_before.timestamp())?,
            not_after: time(x509.validity().not_after.timestamp())?,
            names: names(&x509),
        });
    }
    Ok(certificates)
}

fn names(x509: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = x509.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
        GeneralName::IPAddress(bytes) => {
            let bytes: [u8; 16] = (*bytes).try_into().ok()?;
            Some(std::net::Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    };
    alternative.value.general_names.iter().filter_map(name).collect()
}

/// PEM in one form, whatever the form it was read in.
fn encode(der: &[u8]) -> String {
    let pem = pem::Pem::new("CERTIFICATE", der);
    pem::encode_config(
        &pem,
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

fn with_x509<T>(certificate: &Certificate, ask: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let der = CertificateDer::from_pem_slice(certificate.pem.as_bytes()).ok()?;
    let (_, x509) = X509Certificate::from_der(&der).ok()?;
    Some(ask(&x509))
}
