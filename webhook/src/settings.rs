//! What can be set. The defaults are what `deploy/` installs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ringfence_certs::plan::Lifetimes;
use ringfence_certs::{Clients, MountedClients, Oldest};
use ringfence_netpol::catalogue;
use ringfence_netpol::guard::Guard;
use ringfence_netpol::lint::Severities;
use ringfence_netpol::rollout::{Exemption, Mode, Rollout};
use ringfence_netpol::simulation::Bounds;
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
    pub tls: Tls,
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
    /// How long such a day lasts; less than 86,400 only to see years of rotation in minutes.
    pub day_seconds: u32,
    /// A folder with `tls.crt` and `tls.key` that somebody else keeps right, as cert-manager does in a mounted Secret. Then no CA
    /// is kept, and the caBundle is the injector's.
    pub mounted: Option<PathBuf>,
}

/// How TLS is spoken on the admission port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// `1.3` or `1.2`.
    pub oldest_version: Oldest,
    /// A file with the CAs, as PEM, one of which must have signed the certificate that the API server shows. (It shows one if its
    /// `AdmissionConfiguration` names a kubeconfig that has it.) The file may change while it runs. Without, whoever reaches the port may ask.
    pub client_ca: Option<PathBuf>,
}

/// What one client, or many, can cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// An object is at most 1.5 MiB where it is stored, and an update carries two. (As JSON they can be larger: what is larger than this is
    /// refused, since it cannot be judged.)
    pub body_bytes: usize,
    /// How much the bodies of all requests may hold that come in or wait for their turn. One address may hold as much of it as is left free.
    pub bodies_bytes: usize,
    /// How long a body may take to come in, and to wait for its turn.
    pub body_seconds: u64,
    pub handshake_seconds: u64,
    /// How long an HTTP/1 connection may go without the head of a next request. API servers close theirs after 90 s, and
    /// it must be they who close: a request that crosses our closing fails.
    pub header_seconds: u64,
    /// How long a connection may be silent altogether.
    pub idle_seconds: u64,
    /// How many connections there may be. Beyond that, the address that has the most of them loses one that is silent.
    pub connections: usize,
    /// How many requests are judged at once; others wait for their turn.
    pub requests: usize,
}

/// How objects are judged. What stands here is read again while the process runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Review {
    /// What becomes of findings, all in all: `enforce`, `warn` or `audit`.
    pub mode: Mode,
    /// The same for single rules, by code; the milder counts.
    pub modes: BTreeMap<String, Mode>,
    /// What each rule weighs, by code, as `NP003: off`; absent: as the rule says. Of labels the standard says, and this
    /// can only lower it.
    pub severities: Severities,
    /// What is let pass, until when, and why.
    pub exemptions: Vec<Exemption>,
    /// Namespaces that are not judged, beside Kubernetes's own and ours.
    pub excluded_namespaces: Vec<String>,
    /// Who may do what the others may not.
    pub guard: Guard,
    pub simulation: Simulation,
    /// Has pods wait, by a scheduling gate, until the baseline of their namespace is stored. For clusters in which another than Ringfence's
    /// enforcer enforces; it takes `deploy/options/scheduling-gates`.
    pub scheduling_gates: bool,
}

/// What a change of a policy does to the cluster as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Simulation {
    pub enabled: bool,
    /// How many pairs of pods are looked at for one change, at most.
    pub pairs: usize,
    /// How many connections that it opens or cuts are counted; beyond that there are "at least" so many.
    pub counted: usize,
    /// How many kinds of pods in the policy's namespace.
    pub pods: usize,
    /// How many connections are named, of those that are counted.
    pub told: usize,
}

/// Fewer than where nobody waits: whoever changes a policy for a whole large cluster learns of the first few and that there are more, and
/// all others are not kept waiting meanwhile.
const PAIRS: usize = 512;
const COUNTED: usize = 100;

impl Default for Simulation {
    fn default() -> Self {
        let Bounds { pods, told, .. } = Bounds::default();
        Self {
            enabled: true,
            pairs: PAIRS,
            counted: COUNTED,
            pods,
            told,
        }
    }
}

impl Simulation {
    pub fn bounds(&self) -> Bounds {
        let Self {
            pairs,
            counted,
            pods,
            told,
            ..
        } = *self;
        Bounds {
            pairs,
            pods,
            counted,
            told,
        }
    }
}

impl Review {
    pub fn rollout(&self) -> Rollout<'_> {
        Rollout {
            mode: self.mode,
            modes: &self.modes,
            severities: &self.severities,
            exemptions: &self.exemptions,
        }
    }

    /// The first field whose value cannot be used.
    fn invalid(&self) -> Option<Invalid> {
        let known: Vec<&str> = catalogue::entries().map(|entry| entry.code).collect();
        let unknown = |field, code: &str| Invalid {
            field,
            reason: format!(
                "no rule has the code {code:?}; the codes are {}",
                known.join(", ")
            ),
        };
        if let Some(code) = self.severities.codes().find(|code| !known.contains(code)) {
            return Some(unknown("review.severities", code));
        }
        if let Some(code) = self.modes.keys().find(|code| !known.contains(&code.as_str())) {
            return Some(unknown("review.modes", code));
        }
        self.exemptions.iter().find_map(|exemption| {
            let reason = exemption.validate(known.iter().copied()).err()?;
            Some(Invalid {
                field: "review.exemptions",
                reason,
            })
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: Log::default(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            health: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            service: Service::default(),
            certificates: Certificates::default(),
            tls: Tls::default(),
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
            day_seconds: 86_400,
            mounted: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 7 << 19,    // 3.5 MiB
            bodies_bytes: 64 << 20, // 64 MiB
            body_seconds: 3,
            handshake_seconds: 5,
            header_seconds: 120,
            idle_seconds: 180,
            connections: 1024,
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

impl Tls {
    /// Reads the file that it names, and says how to follow it.
    ///
    /// # Errors
    /// If it cannot be read, or holds no CA.
    pub fn read(&self) -> std::io::Result<(ringfence_certs::Tls, Option<MountedClients>)> {
        let mut tls = ringfence_certs::Tls {
            oldest: self.oldest_version,
            clients: None,
        };
        let Some(path) = &self.client_ca else {
            return Ok((tls, None));
        };
        let named = |kind, error: &dyn std::fmt::Display| {
            std::io::Error::new(kind, format!("tls.clientCa, {}: {error}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|error| named(error.kind(), &error))?;
        let clients = Clients::of(&pem).map_err(|error| named(std::io::ErrorKind::InvalidData, &error))?;
        tls.clients = Some(clients.clone());
        Ok((tls, Some(MountedClients::new(path, clients, pem))))
    }
}

impl Settings {
    pub fn keeper(&self) -> ringfence_certs::Settings {
        let Certificates {
            authority_days,
            leaf_days,
            day_seconds,
            ..
        } = self.certificates;
        let days = |days: u32| time::Duration::seconds(i64::from(days) * i64::from(day_seconds));
        let leaf = days(leaf_days);
        let lifetimes = Lifetimes {
            authority: days(authority_days),
            leaf,
            settle: Lifetimes::default().settle.min(leaf / 6_i32),
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
        if let Some(invalid) = self.review.invalid() {
            return Err(invalid);
        }
        let Certificates {
            authority_days,
            leaf_days,
            ..
        } = self.certificates;
        if !(1..=86_400).contains(&self.certificates.day_seconds) {
            return invalid(
                "certificates.daySeconds",
                "must be between 1 and 86400".to_owned(),
            );
        }
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
        if self.limits.bodies_bytes / 4 < self.limits.body_bytes {
            return invalid(
                "limits.bodiesBytes",
                "must be at least 4 times bodyBytes, so that the largest body has room beside another's"
                    .to_owned(),
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
        let settings =
            loaded("review: {severities: {NP003: off, LB001: warn, SM003: deny}, excludedNamespaces: [lab]}")
                .unwrap();
        assert_eq!(settings.service.names()[0], "ringfence-webhook.elsewhere.svc");
        assert_eq!(settings.review.excluded_namespaces, ["lab"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (file, expected) in [
            (
                "review: {modes: {NP999: warn}}",
                "review.modes: no rule has the code",
            ),
            ("review: {mode: loud}", "mode"),
            (
                "review: {serverities: {}}",
                "did you mean severities instead of serverities?",
            ),
            (
                "review: {exemptions: [{rules: [NP002], until: 2027-01-31, reason: ''}]}",
                "review.exemptions: an exemption has a reason",
            ),
            (
                "review: {exemptions: [{rules: [NP002], until: soon, reason: x}]}",
                "no date",
            ),
            (
                "review: {guard: {breakGlas: {}}}",
                "did you mean breakGlass instead of breakGlas?",
            ),
            ("tls: {oldestVersion: '1.1'}", "1.1"),
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
                "certificates: {daySeconds: 0}",
                "certificates.daySeconds: must be between 1 and 86400",
            ),
            (
                "limits: {headerSeconds: 5}",
                "limits.headerSeconds: it and idleSeconds must be above 90",
            ),
            ("limits: {requests: 0}", "limits.requests: must not be 0"),
            (
                "limits: {bodiesBytes: 1000000}",
                "limits.bodiesBytes: must be at least 4 times bodyBytes",
            ),
            ("listen: nowhere", "listen"),
        ] {
            let error = loaded(file).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
