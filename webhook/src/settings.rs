//! What can be set. The defaults are what `deploy/` installs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringfence_certs::plan::Lifetimes;
use ringfence_netpol::lint::Severities;
use ringfence_runtime::settings::Invalid;
use ringfence_runtime::telemetry::Log;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    pub log: Log,
    /// Where admission requests come in, over TLS.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are, without TLS.
    pub health: SocketAddr,
    pub service: Service,
    pub certificates: Certificates,
    pub limits: Limits,
    pub review: Review,
    /// How long it stays up after it was asked to end and said not to be ready: until then, endpoints still lead here.
    pub drain_seconds: u64,
    /// How long it waits at start for the cluster to come in view before it says to be ready without.
    pub view_grace_seconds: u64,
}

/// By which names the API server knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    pub name: String,
    pub namespace: String,
    /// Further names or addresses for the certificate.
    pub extra_names: Vec<String>,
    /// The webhook configurations, validating and mutating, that are given the CA's bundle.
    pub configuration: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Certificates {
    pub authority_secret: String,
    pub leaf_secret: String,
    pub authority_days: u32,
    pub leaf_days: u32,
}

/// What one client, or many, can cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// An object is at most 1.5 MiB where it is stored, and an update carries two.
    pub body_bytes: usize,
    /// How long a body may take to come in, and to wait for its turn.
    pub body_seconds: u64,
    pub handshake_seconds: u64,
    /// How long an HTTP/1 connection may go without the head of a next request. API servers close theirs after 90 s, and
    /// it must be they who close: a request that crosses our closing fails.
    pub header_seconds: u64,
    /// How long a connection may be silent altogether.
    pub idle_seconds: u64,
    pub connections: usize,
    /// How many requests are read and judged at once; others wait for their turn.
    pub requests: usize,
}

/// How objects are judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Review {
    /// What each rule weighs, by code, as `NP003: off`; absent: as the rule says.
    pub severities: Severities,
    /// Namespaces that are not judged, beside Kubernetes's own and ours.
    pub excluded_namespaces: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: Log::default(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            health: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            service: Service::default(),
            certificates: Certificates::default(),
            limits: Limits::default(),
            review: Review::default(),
            drain_seconds: 5,
            view_grace_seconds: 30,
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: "ringfence-webhook".to_owned(),
            namespace: "ringfence-system".to_owned(),
            extra_names: Vec::new(),
            configuration: "ringfence".to_owned(),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            authority_secret: "ringfence-ca".to_owned(),
            leaf_secret: "ringfence-webhook-tls".to_owned(),
            authority_days: 5 * 365,
            leaf_days: 90,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 7 << 19, // 3.5 MiB
            body_seconds: 3,
            handshake_seconds: 5,
            header_seconds: 120,
            idle_seconds: 180,
            connections: 256,
            requests: 32,
        }
    }
}

impl Service {
    /// The names that the certificate is for, the one that the API server asks for first.
    pub fn names(&self) -> Vec<String> {
        let Self { name, namespace, .. } = self;
        let mut names = vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
        ];
        names.extend(self.extra_names.iter().cloned());
        names
    }
}

impl Settings {
    pub fn keeper(&self) -> ringfence_certs::Settings {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        let lifetimes = Lifetimes {
            authority: time::Duration::try_from(days(self.certificates.authority_days))
                .unwrap_or(time::Duration::MAX),
            leaf: time::Duration::try_from(days(self.certificates.leaf_days)).unwrap_or(time::Duration::MAX),
            ..Lifetimes::default()
        };
        ringfence_certs::Settings {
            namespace: self.service.namespace.clone(),
            authority_secret: self.certificates.authority_secret.clone(),
            leaf_secret: self.certificates.leaf_secret.clone(),
            names: self.service.names(),
            configuration: self.service.configuration.clone(),
            lifetimes,
        }
    }
}

impl ringfence_runtime::settings::Settings for Settings {
    const COMPONENT: &'static str = "webhook";

    fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, reason: String| Err(Invalid { field, reason });
        if let Err(error) = self.review.severities.validate() {
            return invalid("review.severities", error.to_string());
        }
        let Certificates {
            authority_days,
            leaf_days,
            ..
        } = self.certificates;
        if leaf_days == 0 {
            return invalid("certificates.leafDays", "must be at least 1".to_owned());
        }
        if authority_days > 50 * 365 {
            return invalid(
                "certificates.authorityDays",
                "must be at most 50 years".to_owned(),
            );
        }
        if authority_days < leaf_days.saturating_mul(4) {
            return invalid(
                "certificates.authorityDays",
                format!(
                    "must be at least 4 times leafDays ({leaf_days}), so that nothing which an old CA signed is in use when it goes"
                ),
            );
        }
        if self.limits.header_seconds <= 90 || self.limits.idle_seconds <= 90 {
            return invalid(
                "limits.headerSeconds",
                "it and idleSeconds must be above 90, after which API servers close idle connections themselves".to_owned(),
            );
        }
        let limits = [
            ("limits.bodyBytes", self.limits.body_bytes),
            ("limits.connections", self.limits.connections),
            ("limits.requests", self.limits.requests),
        ];
        match limits.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => invalid(field, "must not be 0".to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::Jail;
    use ringfence_runtime::settings::{Settings as _, VARIABLE, load};

    #[allow(clippy::result_large_err)] // the closure's error is figment's
    fn loaded(file: &str) -> Result<Settings, String> {
        let mut result = None;
        Jail::expect_with(|jail| {
            jail.create_file("settings.yaml", file)?;
            jail.set_env(VARIABLE, "settings.yaml");
            jail.set_env("RINGFENCE_WEBHOOK_SERVICE__NAMESPACE", "elsewhere");
            result = Some(load::<Settings>().map_err(|e| e.to_string()));
            Ok(())
        });
        result.unwrap()
    }

    #[test]
    fn the_defaults_hold_and_file_and_environment_change_them() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let settings = loaded("review: {severities: {NP003: off}, excludedNamespaces: [lab]}").unwrap();
        assert_eq!(settings.service.names()[0], "ringfence-webhook.elsewhere.svc");
        assert_eq!(settings.review.excluded_namespaces, ["lab"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (file, expected) in [
            (
                "review: {severities: {NP999: off}}",
                "review.severities: no rule has the code",
            ),
            ("review: {severities: {NP001: loud}}", "one of deny, warn, off"),
            (
                "certificates: {authorityDays: 90}",
                "certificates.authorityDays: must be at least 4 times",
            ),
            (
                "limits: {headerSeconds: 5}",
                "limits.headerSeconds: it and idleSeconds must be above 90",
            ),
            ("limits: {requests: 0}", "limits.requests: must not be 0"),
            ("listen: nowhere", "listen"),
        ] {
            let error = loaded(file).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
