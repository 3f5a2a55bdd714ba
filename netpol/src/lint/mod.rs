//! Rules that judge a NetworkPolicy before it is stored: at admission, and on the command line.
//!
//! One rule is one file in [`rules`], and one line in [`rules::ALL`]. A rule looks at a [`Subject`] and says what it
//! [`Found`]; code, severity and object are added here. What several rules need to know is worked out once, in
//! the subject.

mod agents;
mod cover;
mod dead;
mod names;
mod near;
mod peers;
mod places;
mod reach;
pub mod rules;
mod severity;
mod subject;
mod survey;
#[cfg(test)]
mod testing;

use k8s_openapi::api::networking::v1::NetworkPolicy;

pub use severity::{Level, Severities, UnknownCode};
pub use subject::Subject;
pub use survey::{Known, Survey};

use crate::cluster::Cluster;
use crate::finding::{Finding, Mend, Object, Severity};
use crate::policy::Policy;

/// How many findings of one rule are told of a policy. Nobody reads more, and one that is wrong in each of its ten thousands of peers would
/// fill the memory with them. A rule may stop once it has more.
const TOLD: usize = 100;

/// One thing that is checked.
#[derive(Debug)]
pub struct Rule {
    /// Never reused for another meaning.
    pub code: &'static str,
    /// As `selector-misspelt`.
    pub name: &'static str,
    /// What it finds, in one sentence.
    pub finds: &'static str,
    /// Why that matters, in a few.
    pub why: &'static str,
    /// What a finding weighs if the platform team says nothing else.
    pub severity: Severity,
    /// What has to be in view beside the policy.
    pub needs: Needs,
    /// The specification of a policy that it finds something in; the whole policy, where it is about more than that. With an
    /// ellipsis if such a policy is too large to be shown.
    pub bad: &'static str,
    /// That of another policy of the namespace, where it takes one to find it; else empty.
    pub beside: &'static str,
    /// What was probably meant.
    pub good: &'static str,
    pub check: fn(&Subject<'_, '_>) -> Vec<Found>,
}

/// What a rule has to see beside the policy that it judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing; it may tell more if a cluster is in view.
    Nothing,
    /// What lives in the cluster, or some of it: what it finds there is there.
    Cluster,
    /// Everything that lives in the cluster: it finds that something is nowhere.
    WholeCluster,
}

impl Rule {
    /// Whether it judges by the cluster, and so cannot judge without.
    pub fn needs_cluster(&self) -> bool {
        self.needs != Needs::Nothing
    }

    /// Whether it can judge with so much in view.
    fn can_judge(&self, survey: Option<&Survey<'_>>) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Cluster => survey.is_some(),
            Needs::WholeCluster => survey.is_some_and(|survey| survey.complete),
        }
    }
}

/// What a rule found in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub field: String,
    pub message: String,
    pub consequence: String,
    pub mend: Option<Mend>,
}

/// Judges a policy, with the whole cluster in view if there is one, and by the rules that need none otherwise.
pub fn lint(object: &NetworkPolicy, cluster: Option<&Cluster>, severities: &Severities) -> Vec<Finding> {
    judge(object, None, cluster.map(Survey::whole).as_ref(), severities)
}

/// The same for a policy whose text is at hand: what the API server would drop of it can still be seen there.
pub fn lint_written(
    object: &NetworkPolicy,
    written: &serde_json::Value,
    cluster: Option<&Cluster>,
    severities: &Severities,
) -> Vec<Finding> {
    judge(
        object,
        Some(written),
        cluster.map(Survey::whole).as_ref(),
        severities,
    )
}

/// The same for one of many policies, which share what has to be found out about their cluster.
pub fn judge(
    object: &NetworkPolicy,
    written: Option<&serde_json::Value>,
    survey: Option<&Survey<'_>>,
    severities: &Severities,
) -> Vec<Finding> {
    let policy = Policy::parse(object);
    let subject = Subject::new(object, &policy, survey, written);
    let about = Object::new("NetworkPolicy", &policy.key);
    let mut findings = Vec::new();
    for rule in rules::ALL {
        let Some(severity) = severities.of(rule).filter(|_| rule.can_judge(survey)) else {
            continue;
        };
        let mut found = (rule.check)(&subject);
        let more = found.len() > TOLD;
        found.truncate(TOLD);
        if let Some(last) = found.last_mut().filter(|_| more) {
            last.message.push_str(" (and there is more of this kind)");
        }
        findings.extend(found.into_iter().map(|found| Finding {
            code: rule.code,
            severity,
            object: about.clone(),
            field: found.field,
            message: found.message,
            consequence: found.consequence,
            mend: found.mend,
        }));
    }
    findings
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // how long it takes is what is tested
mod tests {
    use std::time::{Duration, Instant};

    use super::testing::{Live, policy};
    use super::*;

    /// What is found in a policy with this peer so many times, which must not take long.
    fn of_many(count: usize, peer: &str) -> Vec<Finding> {
        let peers = vec![peer; count].join(", ");
        let object = policy(&format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peers}]}}]}}"
        ));
        let live = Live::default();
        let start = Instant::now();
        let found = lint(&object, Some(&live.0), &Severities::default());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        found
    }

    #[test]
    fn a_policy_of_the_largest_size_is_judged_in_time_and_what_is_found_is_bounded() {
        for peer in [
            "{ipBlock: {cidr: 0.0.0.0/0}}",
            "{ipBlock: {cidr: 10.0.0.1/8}}",
            "{ipBlock: {cidr: nonsense}}",
            "{namespaceSelector: {}}",
        ] {
            let found = of_many(85_000, peer);
            assert!(!found.is_empty(), "{peer}");
            for rule in rules::ALL {
                let told: Vec<&Finding> = found.iter().filter(|finding| finding.code == rule.code).collect();
                assert!(told.len() <= TOLD, "{peer}: {} of {}", told.len(), rule.code);
                if told.len() == TOLD {
                    assert!(told[TOLD - 1].message.ends_with("more of this kind)"));
                }
            }
        }
    }
}
