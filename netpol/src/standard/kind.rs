//! The kinds of objects that can be held to a standard, and where their labels stand.

use serde_json::Value;

use crate::api::Kind;
use crate::selector::Labels;

const OWN: &[&str] = &["metadata", "labels"];
const OF_TEMPLATE: &[&str] = &["spec", "template", "metadata", "labels"];
const OF_JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "metadata", "labels"];

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Namespace,
        Self::Pod,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::ReplicationController,
    ];

    /// The kind of that API group and name.
    pub fn of(group: &str, name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name && kind.group() == group)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::ReplicationController => "ReplicationController",
        }
    }

    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Pod | Self::ReplicationController => "",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps",
            Self::Job | Self::CronJob => "batch",
        }
    }

    /// Whether objects of it make pods from a template.
    pub fn makes_pods(self) -> bool {
        !matches!(self, Self::Namespace | Self::Pod)
    }

    /// Whether a standard for these kinds is one for this kind. Who asks it of pods asks it of what makes them: else a template
    /// would be the way around it.
    pub(super) fn is_among(self, kinds: &[Self]) -> bool {
        kinds.contains(&self) || (self.makes_pods() && kinds.contains(&Self::Pod))
    }

    /// Where the labels stand that policies see: the object's own, or its pod template's.
    pub fn labels_at(self) -> &'static [&'static str] {
        match self {
            Self::Namespace | Self::Pod => OWN,
            Self::CronJob => OF_JOB_TEMPLATE,
            _ => OF_TEMPLATE,
        }
    }

    /// As `spec.template.metadata.labels`.
    pub fn field(self) -> String {
        self.labels_at().join(".")
    }

    /// The labels that policies see, of an object of this kind.
    pub fn labels(self, object: &Value) -> Labels {
        let labels = self
            .labels_at()
            .iter()
            .try_fold(object, |at, token| at.get(token));
        let pairs = labels.and_then(Value::as_object).into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }
}
