//! Settings that change while the process runs.

use std::time::Duration;

use ringfence_runtime::settings::{self, Error};

use crate::metrics::Metrics;
use crate::routes::App;
use crate::settings::Settings;

/// How often the settings are looked at: Kubernetes swaps a link above a mounted file, which says nothing to whoever watches it.
const EVERY: Duration = Duration::from_secs(5);

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    /// What stands under `review` is in force from now on.
    Taken,
    /// Something changed that is read at the start only; what stands under `review` is in force.
    Stale,
    /// What is there cannot be used; what was in force is.
    Unusable,
}

/// Takes over what changes under `review`, and says if anything else does. What cannot be used changes nothing.
pub struct Reload {
    current: Settings,
    app: App,
    metrics: Metrics,
    /// What was said last, so that it is said once.
    said: String,
}

impl Reload {
    pub fn new(current: Settings, app: App, metrics: Metrics) -> Self {
        Self {
            current,
            app,
            metrics,
            said: String::new(),
        }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look(settings::load());
        }
    }

    /// Takes over what was read.
    pub fn look(&mut self, read: Result<Settings, Error>) -> Outcome {
        let fresh = match read {
            Ok(fresh) => fresh,
            Err(error) => {
                let error = error.to_string();
                if self.is_news(&error) {
                    tracing::error!(%error, "the settings cannot be used any more; those from before stay in force");
                }
                self.metrics.settings(false);
                return Outcome::Unusable;
            }
        };
        let taken = fresh.review != self.current.review;
        if taken {
            self.app.set_review(fresh.review.clone());
            tracing::info!("the settings under review were read again and are in force");
            self.current.review = fresh.review.clone();
        }
        let stale = fresh != self.current;
        self.metrics.settings(!stale);
        if stale {
            if self.is_news("stale") {
                tracing::warn!("settings changed that are read at the start only; restart this process");
            }
            return Outcome::Stale;
        }
        self.said.clear();
        if taken { Outcome::Taken } else { Outcome::Unchanged }
    }

    fn is_news(&mut self, what: &str) -> bool {
        let news = self.said != what;
        if news {
            what.clone_into(&mut self.said);
        }
        news
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err)] // what figment hands to a test's closure
mod tests {
    use super::*;
    use crate::envelope::open;
    use crate::review::testing::{body, cluster};
    use crate::review::{Seen, review};
    use figment::Jail;
    use prometheus::{Registry, TextEncoder};
    use ringfence_runtime::settings::VARIABLE;
    use ringfence_runtime::view::View;

    const BAD: &str = "{metadata: {name: web}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}}";

    /// Follows a file, as it is written now and then.
    #[test]
    fn what_stands_under_review_is_taken_over_and_what_cannot_be_used_changes_nothing() {
        Jail::expect_with(|jail| {
            jail.set_env(VARIABLE, "webhook.yaml");
            jail.create_file("webhook.yaml", "")?;
            let registry = Registry::new();
            let metrics = Metrics::new(&registry).unwrap();
            let settings: Settings = settings::load().unwrap();
            let view = View::of(cluster(), &registry).unwrap();
            let app = App::new(
                view,
                settings.review.clone(),
                settings.limits.clone(),
                metrics.clone(),
            );
            let mut reload = Reload::new(settings, app.clone(), metrics);
            let request = open(&body("networkpolicies", BAD, None)).unwrap();
            let admits = || review(&request, &app.review(), Some(&Seen::of(&cluster())), 0).allowed();
            let is_current = || {
                let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
                text.contains("\nringfence_webhook_settings_current 1\n")
            };
            // The file; what comes of it; whether the policy is admitted then; whether what is in force is what the file says.
            let steps = [
                ("", Outcome::Unchanged, false, true),
                ("review: {severities: {NP002: warn}}", Outcome::Taken, true, true),
                (
                    "review: {severities: {NP002: wrn}}",
                    Outcome::Unusable,
                    true,
                    false,
                ),
                (
                    "review: {severities: {NP002: warn}",
                    Outcome::Unusable,
                    true,
                    false,
                ),
                ("reviw: {}", Outcome::Unusable, true, false),
                (
                    "review: {exemptions: [{rules: [NP002], until: soon, reason: x}]}",
                    Outcome::Unusable,
                    true,
                    false,
                ),
                ("listen: 127.0.0.1:9443", Outcome::Stale, false, false),
                (
                    "{listen: '127.0.0.1:9443', review: {mode: audit}}",
                    Outcome::Stale,
                    true,
                    false,
                ),
                ("review: {mode: audit}", Outcome::Unchanged, true, true),
                ("", Outcome::Taken, false, true),
            ];
            for (file, outcome, admitted, current) in steps {
                jail.create_file("webhook.yaml", file)?;
                assert_eq!(reload.look(settings::load()), outcome, "{file}");
                assert_eq!((admits(), is_current()), (admitted, current), "{file}");
            }
            std::fs::remove_file("webhook.yaml").unwrap();
            assert_eq!(
                reload.look(settings::load()),
                Outcome::Unusable,
                "the file is gone"
            );
            assert!(!admits(), "what was in force is in force");
            Ok(())
        });
    }

    #[test]
    fn what_is_wrong_is_said_once_until_it_is_another() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let settings = Settings::default();
        let view = View::new(&registry).unwrap();
        let app = App::new(
            view,
            settings.review.clone(),
            settings.limits.clone(),
            metrics.clone(),
        );
        let mut reload = Reload::new(settings, app, metrics);
        assert!(reload.is_news("one") && !reload.is_news("one") && reload.is_news("another"));
        reload.look(Ok(Settings::default()));
        assert!(reload.is_news("another"), "it was right in between");
    }
}
