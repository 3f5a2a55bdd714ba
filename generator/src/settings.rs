//! What can be set. The defaults are what `deploy/` installs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringfence_runtime::lease::Election;
use ringfence_runtime::settings::Invalid;
use ringfence_runtime::telemetry::Log;
use serde::{Deserialize, Serialize};

use crate::schedule::Pace;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    pub log: Log,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub health: SocketAddr,
    /// By what its replicas agree on the one that acts.
    pub election: Election,
    pub writes: Writes,
    /// Takes the scheduling gates off that the webhook gives to pods whose namespace is not ready; see `deploy/options/scheduling-gates`.
    pub scheduling_gates: bool,
}

/// How it writes to the API server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Writes {
    /// How many namespaces are written to at once.
    pub concurrency: usize,
    /// How many writes to policies are made in a second, once twice as many were made at once.
    pub per_second: u32,
    /// How long one request may take.
    pub request_seconds: u64,
    /// How long a namespace waits after its first attempt; doubled with each further one that follows soon, whether it failed
    /// or somebody undid it.
    pub backoff_milliseconds: u64,
    /// How long it waits at most.
    pub backoff_limit_seconds: u64,
    /// How often a baseline's status is written at most.
    pub status_milliseconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: Log::default(),
            health: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            election: Election {
                name: "ringfence-generator".to_owned(),
                ..Election::default()
            },
            writes: Writes::default(),
            scheduling_gates: false,
        }
    }
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            concurrency: 16,
            per_second: 1000,
            request_seconds: 15,
            backoff_milliseconds: 50,
            backoff_limit_seconds: 10,
            status_milliseconds: 500,
        }
    }
}

impl Writes {
    pub fn pace(&self) -> Pace {
        Pace {
            first: Duration::from_millis(self.backoff_milliseconds),
            limit: Duration::from_secs(self.backoff_limit_seconds),
        }
    }
}

impl ringfence_runtime::settings::Settings for Settings {
    const COMPONENT: &'static str = "generator";

    fn validate(&self) -> Result<(), Invalid> {
        let positive = |field, value: u64| match value {
            0 => Err(Invalid {
                field,
                reason: "must be at least 1".to_owned(),
            }),
            _ => Ok(()),
        };
        self.election.validate()?;
        positive(
            "writes.concurrency",
            self.writes.concurrency.try_into().unwrap_or(u64::MAX),
        )?;
        positive("writes.perSecond", u64::from(self.writes.per_second))?;
        positive("writes.requestSeconds", self.writes.request_seconds)?;
        positive("writes.backoffMilliseconds", self.writes.backoff_milliseconds)?;
        positive("writes.backoffLimitSeconds", self.writes.backoff_limit_seconds)
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err)] // figment's jail wants its own
mod tests {
    use super::*;
    use figment::Jail;
    use ringfence_runtime::settings::{VARIABLE, load};

    fn with(file: &str) -> Result<Settings, String> {
        let mut result = None;
        Jail::expect_with(|jail| {
            jail.create_file("settings.yaml", file)?;
            jail.set_env(VARIABLE, "settings.yaml");
            result = Some(load::<Settings>().map_err(|error| error.to_string()));
            Ok(())
        });
        result.unwrap()
    }

    #[test]
    fn the_defaults_are_valid_and_a_file_overrides_them() {
        assert_eq!(with(""), Ok(Settings::default()));
        let expected = Writes {
            concurrency: 4,
            ..Writes::default()
        };
        assert_eq!(
            with("writes: {concurrency: 4}").map(|settings| settings.writes),
            Ok(expected)
        );
    }

    #[test]
    fn a_value_that_would_stop_it_is_refused_by_name() {
        assert_eq!(
            with("writes: {concurrency: 0}"),
            Err("settings of generator: writes.concurrency: must be at least 1".to_owned())
        );
        assert_eq!(
            with("writes: {perSecond: 0}"),
            Err("settings of generator: writes.perSecond: must be at least 1".to_owned())
        );
        assert_eq!(
            with("election: {durationSeconds: 0}"),
            Err("settings of generator: election.durationSeconds: must be at least 1".to_owned())
        );
    }
}
