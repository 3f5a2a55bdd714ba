//! NetworkPolicies: what they say, what they do to the cluster, and whose they are.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::admission::Operation;
use ringfence_netpol::cluster::Key;
use ringfence_netpol::finding::{Finding, Severity};
use ringfence_netpol::guard::{Attempt, judge_policy};
use ringfence_netpol::lint::{self, Level, Severities};
use ringfence_netpol::policy::Policy;
use ringfence_netpol::simulation::{Change, findings};
use serde_json::Value;

use super::{Judge, Judged, NOT_ALL, Seen, Unreadable, baselines, may_be_ahead, reason, warn_only};

/// Where `kubectl apply` leaves what it was given, before the API server dropped what it does not know.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Judge<'_> {
    pub(super) fn network_policy(&self) -> Result<Judged, Unreadable> {
        // Where the request goes is what counts, also for an object that does not say it itself.
        let placed = |mut object: NetworkPolicy| {
            if self.request.namespace.is_some() {
                object.metadata.namespace.clone_from(&self.request.namespace);
            }
            object
        };
        let before: Option<NetworkPolicy> = self.old_object()?.map(placed);
        let after: Option<NetworkPolicy> = match self.request.operation {
            Operation::Delete => None,
            _ => Some(placed(self.object()?)),
        };
        let attempt = match (&before, &after) {
            (None, Some(after)) => Attempt::Create(after),
            (Some(before), Some(after)) => Attempt::Update { before, after },
            (Some(before), None) => Attempt::Delete(before),
            (None, None) => {
                return Err(Unreadable(
                    "the request carries neither object nor old object".to_owned(),
                ));
            }
        };
        let Some(object) = after.as_ref().or(before.as_ref()) else {
            return Ok(Judged::default());
        };
        let namespace = object.namespace().unwrap_or_default();
        let mut judged = Judged {
            reason: reason([&after, &before].map(|object| object.as_ref()?.metadata.annotations.as_ref())),
            namespace: namespace.clone(),
            ..Judged::default()
        };
        if self.excluded(&namespace) {
            return Ok(judged);
        }
        let key = Key::new(namespace.as_str(), object.name_any());
        let around = self.known_namespace(&namespace);
        judged.early = self.cluster.is_some() && around.is_none();
        judged.findings = judge_policy(
            attempt,
            &key,
            self.requester,
            around,
            baselines(self.cluster),
            &self.settings.guard,
        );
        judged.early |= may_be_ahead(&judged.findings, self.requester);
        // What is deleted in a namespace that goes would go anyway; what is changed there still counts for the pods that run on.
        let emptied = after.is_none() && around.is_some_and(|namespace| namespace.terminating);
        let severities = self
            .settings
            .severities
            .overlaid(&self.local(&namespace).severities);
        if let Some(after) = &after {
            let untouched = before.as_ref().is_some_and(|before| before.spec == after.spec);
            let mut found = self.lint(before.as_ref(), after, &severities);
            // A policy that is being deleted is enforced until it is gone, so what is new in it counts.
            if untouched {
                warn_only(&mut found);
            }
            judged.findings.append(&mut found);
            if untouched {
                return Ok(judged);
            }
        }
        if let Some(seen) = self.seen.filter(|_| self.settings.simulation.enabled && !emptied) {
            let (before, after) = (
                before.as_ref().map(Policy::parse),
                after.as_ref().map(Policy::parse),
            );
            let change = Change {
                key: &key,
                before: before.as_ref(),
                after: after.as_ref(),
            };
            self.simulated(seen, change, &severities, &mut judged);
        }
        Ok(judged)
    }

    /// What was written is known where `kubectl apply` left it by this very request.
    fn lint(
        &self,
        before: Option<&NetworkPolicy>,
        after: &NetworkPolicy,
        severities: &Severities,
    ) -> Vec<Finding> {
        let applied = |object: &NetworkPolicy| object.annotations().get(LAST_APPLIED).cloned();
        let written = applied(after)
            .filter(|text| before.and_then(applied).as_ref() != Some(text))
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let survey = self.seen.map(Seen::survey);
        lint::judge(after, written.as_ref(), survey.as_ref(), severities)
    }

    fn simulated(&self, seen: &Seen<'_>, change: Change<'_>, severities: &Severities, judged: &mut Judged) {
        let effect = seen.simulate(change, self.settings);
        // Where something is counted, it is "at least" so many.
        if effect.incomplete && effect.opened.count + effect.cut.count == 0 {
            judged.notes.push(NOT_ALL);
        }
        let mut found = findings(change, &effect);
        for finding in &mut found {
            if severities.level(finding.code) == Some(Level::Deny) {
                finding.severity = Severity::Deny;
            }
        }
        judged.findings.append(&mut found);
    }
}
