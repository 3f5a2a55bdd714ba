//! Settings: defaults, then a file, then the environment.
//!
//! A component's settings are one struct with `#[serde(default, deny_unknown_fields)]`, so that its `Default` documents what
//! holds when nothing is said, and a misspelt key is an error and no silence.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Yaml};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Settings that can check themselves beyond their types.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// The component, as `webhook`: names the file and the prefix of the environment's variables.
    const COMPONENT: &'static str;

    /// # Errors
    /// The first field whose value cannot be used, with the mend.
    fn validate(&self) -> Result<(), Invalid>;
}

/// A field whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    pub field: &'static str,
    pub reason: String,
}

/// Settings cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("settings of {component}: {source}{}", near(source))]
    Unreadable {
        component: &'static str,
        source: Box<figment::Error>,
    },
    #[error("settings of {component}: {invalid}")]
    Invalid {
        component: &'static str,
        invalid: Invalid,
    },
    #[error("settings of {component}: {} (named by {VARIABLE}) is not there", path.display())]
    Absent { component: &'static str, path: PathBuf },
    #[error("{argument:?} is no argument of ringfence-{component}; there is one: {PRINT}")]
    Argument {
        component: &'static str,
        argument: String,
    },
    #[error("settings of {component} cannot be printed: {reason}")]
    Unprintable { component: &'static str, reason: String },
}

/// The one argument that components take: prints the settings as they are in force, with all that is left to defaults.
pub const PRINT: &str = "--print-settings";

/// What the process was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start<S> {
    Run(S),
    /// To print this, and no more.
    Print(String),
}

/// Loads the settings, and looks what the process was started for.
///
/// # Errors
/// As [`load`], or for an argument that there is not.
pub fn start<S: Settings>(arguments: impl IntoIterator<Item = String>) -> Result<Start<S>, Error> {
    let component = S::COMPONENT;
    let arguments: Vec<String> = arguments.into_iter().collect();
    if let Some(argument) = arguments.iter().find(|argument| *argument != PRINT) {
        let argument = argument.clone();
        return Err(Error::Argument { component, argument });
    }
    let settings: S = load()?;
    if arguments.is_empty() {
        return Ok(Start::Run(settings));
    }
    serde_yaml_ng::to_string(&settings)
        .map(Start::Print)
        .map_err(|error| Error::Unprintable {
            component,
            reason: error.to_string(),
        })
}

/// What was probably meant by keys that are not known.
fn near(error: &figment::Error) -> String {
    let mut hints = String::new();
    for error in error.clone() {
        let figment::error::Kind::UnknownField(key, known) = &error.kind else {
            continue;
        };
        let distance = |known: &&&str| strsim::osa_distance(&known.to_lowercase(), &key.to_lowercase());
        let nearest = known.iter().min_by_key(distance);
        if let Some(nearest) = nearest.filter(|nearest| distance(nearest) <= key.len().div_ceil(2)) {
            hints.push_str(&format!("; did you mean {nearest} instead of {key}?"));
        }
    }
    hints
}

/// The variable that names the settings' file. Without it `/etc/ringfence/<component>.yaml` is read if it is there.
pub const VARIABLE: &str = "RINGFENCE_SETTINGS";

/// Loads a component's settings: its defaults, then its file, then variables such as `RINGFENCE_WEBHOOK_LOG__LEVEL`
/// (two underscores part the levels).
///
/// # Errors
/// An absent file that was asked for by name, a key that is not known, a value of the wrong type or one that
/// [`Settings::validate`] refuses.
pub fn load<S: Settings>() -> Result<S, Error> {
    let component = S::COMPONENT;
    let file = match std::env::var_os(VARIABLE).map(PathBuf::from) {
        Some(path) if !path.exists() => return Err(Error::Absent { component, path }),
        Some(path) => path,
        None => Path::new("/etc/ringfence").join(format!("{component}.yaml")),
    };
    let prefix = format!("RINGFENCE_{}_", component.to_uppercase());
    let settings: S = Figment::from(Serialized::defaults(S::default()))
        .merge(Yaml::file(file))
        .merge(
            Env::prefixed(&prefix)
                .filter(|key| !is_service_link(key.as_str()))
                .map(|key| camel(key.as_str()).into())
                .split("__")
                .lowercase(false), // last, since each step above sets it anew
        )
        .extract()
        .map_err(|source| Error::Unreadable {
            component,
            source: Box::new(source),
        })?;
    settings
        .validate()
        .map_err(|invalid| Error::Invalid { component, invalid })?;
    Ok(settings)
}

/// Whether the kubelet set it, and not a person: for a Service named `ringfence-webhook` every container of its namespace
/// gets `RINGFENCE_WEBHOOK_PORT`, `…_PORT_443_TCP_ADDR`, `…_SERVICE_HOST` and the like.
fn is_service_link(key: &str) -> bool {
    let key = key.to_uppercase();
    let port =
        |rest: &str| rest.is_empty() || rest.strip_prefix('_').is_some_and(|rest| !rest.starts_with('_'));
    key == "SERVICE_HOST"
        || key.strip_prefix("SERVICE_PORT").is_some_and(port)
        || key.strip_prefix("PORT").is_some_and(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix('_')
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
}

/// `LOG__DROP_FIELDS` to `log__dropFields`: single underscores join words, doubled ones part levels.
fn camel(key: &str) -> String {
    let level = |part: &str| {
        let mut words = part.split('_').map(str::to_lowercase);
        let first = words.next().unwrap_or_default();
        words.fold(first, |name, word| {
            let mut letters = word.chars();
            let initial = letters.next().map(|c| c.to_ascii_uppercase());
            name + &initial.into_iter().chain(letters).collect::<String>()
        })
    };
    key.split("__").map(level).collect::<Vec<_>>().join("__")
}

#[cfg(test)]
#[allow(clippy::result_large_err)] // what figment hands to a test's closure
mod tests {
    use super::*;
    use crate::telemetry::Log;
    use figment::Jail;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    struct Example {
        listen_port: u16,
        log: Log,
    }

    impl Settings for Example {
        const COMPONENT: &'static str = "example";

        fn validate(&self) -> Result<(), Invalid> {
            if self.listen_port == 1 {
                return Err(Invalid {
                    field: "listenPort",
                    reason: "1 is tcpmux's".to_owned(),
                });
            }
            Ok(())
        }
    }

    fn with(file: &str, variables: &[(&str, &str)]) -> Result<Example, String> {
        let mut result = None;
        Jail::expect_with(|jail| {
            jail.create_file("settings.yaml", file)?;
            jail.set_env(VARIABLE, "settings.yaml");
            for (name, value) in variables {
                jail.set_env(name, value);
            }
            result = Some(load::<Example>().map_err(|e| e.to_string()));
            Ok(())
        });
        result.unwrap()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "listenPort: 80\nlog: {level: warn}";
        let settings = with(file, &[("RINGFENCE_EXAMPLE_LOG__LEVEL", "debug")]).unwrap();
        assert_eq!((settings.listen_port, settings.log.level.as_str()), (80, "debug"));
        assert_eq!(
            with("", &[("RINGFENCE_EXAMPLE_LISTEN_PORT", "81")])
                .unwrap()
                .listen_port,
            81
        );
    }

    #[test]
    fn an_unknown_key_a_wrong_type_and_an_invalid_value_are_errors_that_name_the_field() {
        let error = with("listenPrt: 80", &[]).unwrap_err();
        assert!(
            error.ends_with("did you mean listenPort instead of listenPrt?"),
            "{error}"
        );
        let error = with("log: {levle: info}", &[]).unwrap_err();
        assert!(error.ends_with("did you mean level instead of levle?"), "{error}");
        let error = with("somethingElse: 1", &[]).unwrap_err();
        assert!(
            error.contains("somethingElse") && !error.contains("did you mean"),
            "{error}"
        );
        assert!(with("listenPort: many", &[]).unwrap_err().contains("listenPort"));
        assert_eq!(
            with("listenPort: 1", &[]).unwrap_err(),
            "settings of example: listenPort: 1 is tcpmux's"
        );
    }

    #[test]
    fn settings_are_printed_as_they_are_in_force_and_read_back_the_same() {
        Jail::expect_with(|jail| {
            jail.create_file("settings.yaml", "listenPort: 80")?;
            jail.set_env(VARIABLE, "settings.yaml");
            let started = |arguments: &[&str]| {
                let arguments = arguments.iter().map(|argument| (*argument).to_owned());
                start::<Example>(arguments).map_err(|error| error.to_string())
            };
            let Ok(Start::Print(text)) = started(&[PRINT]) else {
                panic!("it prints");
            };
            let read: Example = serde_yaml_ng::from_str(&text).unwrap();
            assert_eq!((read.listen_port, text.contains("level: info")), (80, true));
            assert!(matches!(
                started(&[]),
                Ok(Start::Run(Example { listen_port: 80, .. }))
            ));
            let error = started(&["--prnt"]).unwrap_err();
            assert!(error.contains("--prnt") && error.contains(PRINT), "{error}");
            Ok(())
        });
    }

    #[test]
    fn what_the_kubelet_sets_for_a_service_of_the_same_name_is_no_setting() {
        let links = [
            ("RINGFENCE_EXAMPLE_SERVICE_HOST", "10.96.0.7"),
            ("RINGFENCE_EXAMPLE_SERVICE_PORT", "443"),
            ("RINGFENCE_EXAMPLE_SERVICE_PORT_HTTPS", "443"),
            ("RINGFENCE_EXAMPLE_PORT", "tcp://10.96.0.7:443"),
            ("RINGFENCE_EXAMPLE_PORT_443_TCP", "tcp://10.96.0.7:443"),
            ("RINGFENCE_EXAMPLE_PORT_443_TCP_ADDR", "10.96.0.7"),
        ];
        assert_eq!(with("", &links), Ok(Example::default()));
        assert!(
            with("", &[("RINGFENCE_EXAMPLE_PORTS", "1")])
                .unwrap_err()
                .contains("ports")
        );
    }

    #[test]
    fn a_file_that_was_asked_for_and_is_absent_is_an_error() {
        Jail::expect_with(|jail| {
            jail.set_env(VARIABLE, "nowhere.yaml");
            assert!(
                load::<Example>()
                    .unwrap_err()
                    .to_string()
                    .contains("nowhere.yaml")
            );
            Ok(())
        });
    }
}
