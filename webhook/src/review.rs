//! The judgement: a request, the settings and what is known of the cluster in, findings out. No HTTP, no I/O.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DynamicObject;
use kube::core::admission::Operation;
use kube::{Resource, ResourceExt};
use ringfence_netpol::api::LabelStandard;
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::finding::{Finding, Severity};
use ringfence_netpol::lint::{lint, rules};
use ringfence_netpol::standard::{SYSTEM_NAMESPACES, judge_change, judge_standard};
use serde::de::DeserializeOwned;

use crate::envelope::Request;
use crate::settings::Review;

/// What is judged; the label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NetworkPolicy,
    Namespace,
    LabelStandard,
    /// A kind that the webhook configuration should not have sent.
    Other,
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::NetworkPolicy,
        Self::Namespace,
        Self::LabelStandard,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Namespace => "Namespace",
            Self::LabelStandard => "LabelStandard",
            Self::Other => "other",
        }
    }

    fn of(request: &Request) -> Self {
        fn is<K: Resource<DynamicType = ()>>(request: &Request) -> bool {
            request.kind.group == K::group(&()) && request.kind.kind == K::kind(&())
        }
        if is::<NetworkPolicy>(request) {
            Self::NetworkPolicy
        } else if is::<Namespace>(request) {
            Self::Namespace
        } else if is::<LabelStandard>(request) {
            Self::LabelStandard
        } else {
            Self::Other
        }
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub kind: Kind,
    pub findings: Vec<Finding>,
    /// The object is not what its kind says, and is refused for it.
    pub unreadable: Option<String>,
    /// What else whoever sent it should know.
    pub notes: Vec<&'static str>,
}

/// Said while the cluster is not in view.
pub const NO_VIEW: &str = "Ringfence has no view of the cluster yet: this was judged without comparing it with what \
                           lives there, and without label standards";
/// Said of a kind that is not judged.
pub const NOT_JUDGED: &str = "Ringfence does not judge this kind; leave it out of the webhook configuration";

impl Decision {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            findings: Vec::new(),
            unreadable: None,
            notes: Vec::new(),
        }
    }

    pub fn allowed(&self) -> bool {
        self.unreadable.is_none() && self.denials().next().is_none()
    }

    /// The findings for which the object is refused.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.of_severity(Severity::Deny)
    }

    /// The findings that whoever sent the object is told of.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.of_severity(Severity::Warn)
    }

    fn of_severity(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    }

    /// Whether a refusal rests on what the cluster looked like. The view runs a moment behind: what was created just
    /// before may be missing from it.
    pub fn rests_on_view(&self) -> bool {
        let from_view = |finding: &Finding| {
            let rule = rules::ALL.iter().find(|rule| rule.code == finding.code);
            rule.is_some_and(|rule| rule.needs_cluster())
        };
        self.unreadable.is_none() && !self.allowed() && self.denials().all(from_view)
    }
}

/// Judges a request; `cluster` is `None` while it is not in view.
pub fn review(request: &Request, settings: &Review, cluster: Option<&Cluster>) -> Decision {
    let kind = Kind::of(request);
    let mut decision = Decision::of(kind);
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return decision; // what goes away cannot be wrong
    }
    let result = match kind {
        Kind::NetworkPolicy => network_policy(request, settings, cluster),
        Kind::Namespace => namespace(request, settings, cluster),
        Kind::LabelStandard => label_standard(request),
        Kind::Other => {
            decision.notes.push(NOT_JUDGED);
            return decision;
        }
    };
    match result {
        Ok(findings) => decision.findings = findings,
        Err(Unreadable(reason)) => decision.unreadable = Some(reason),
    }
    if cluster.is_none() && matches!(kind, Kind::NetworkPolicy | Kind::Namespace) {
        decision.notes.push(NO_VIEW);
    }
    decision
}

/// The object is not what its kind says.
struct Unreadable(String);

fn network_policy(
    request: &Request,
    settings: &Review,
    cluster: Option<&Cluster>,
) -> Result<Vec<Finding>, Unreadable> {
    let mut object: NetworkPolicy = object(request)?;
    // Where the request goes is what counts, also for an object that does not say it itself.
    if request.namespace.is_some() {
        object.metadata.namespace.clone_from(&request.namespace);
    }
    if excluded(&object.namespace().unwrap_or_default(), settings) {
        return Ok(Vec::new());
    }
    let mut findings = lint(&object, cluster, &settings.severities);
    let before: Option<NetworkPolicy> = old_object(request);
    let untouched = before.is_some_and(|before| before.spec == object.spec);
    if untouched || object.metadata.deletion_timestamp.is_some() {
        warn_only(&mut findings);
    }
    Ok(findings)
}

fn namespace(
    request: &Request,
    settings: &Review,
    cluster: Option<&Cluster>,
) -> Result<Vec<Finding>, Unreadable> {
    let object: Namespace = object(request)?;
    let name = object.name_any();
    let Some(cluster) = cluster else {
        return Ok(Vec::new());
    };
    if excluded(&name, settings) {
        return Ok(Vec::new());
    }
    let before: Option<Namespace> = old_object(request);
    let before = before.as_ref().map(|before| before.labels());
    let mut findings = judge_change(&name, object.labels(), before, cluster);
    if object.metadata.deletion_timestamp.is_some() {
        warn_only(&mut findings);
    }
    Ok(findings)
}

fn label_standard(request: &Request) -> Result<Vec<Finding>, Unreadable> {
    let object: LabelStandard = object(request)?;
    let mut findings = judge_standard(&object);
    if object.metadata.deletion_timestamp.is_some() {
        warn_only(&mut findings);
    }
    Ok(findings)
}

/// Who only adds an annotation, or lets go of what is being deleted, must not be stopped by what was there before.
fn warn_only(findings: &mut [Finding]) {
    for finding in findings {
        finding.severity = Severity::Warn;
    }
}

fn excluded(namespace: &str, settings: &Review) -> bool {
    SYSTEM_NAMESPACES.contains(&namespace)
        || settings.excluded_namespaces.iter().any(|name| name == namespace)
}

fn object<K: DeserializeOwned>(request: &Request) -> Result<K, Unreadable> {
    let object = request.object.as_ref();
    let object = object.ok_or_else(|| Unreadable("the request carries no object".to_owned()))?;
    typed(object).map_err(|e| {
        let kind = &request.kind.kind;
        Unreadable(format!("the object cannot be read as a {kind}: {e}"))
    })
}

/// `None` where there was none before, or none that can be read.
fn old_object<K: DeserializeOwned>(request: &Request) -> Option<K> {
    typed(request.old_object.as_ref()?).ok()
}

fn typed<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(object)?)
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    //! Admission requests and a small cluster for this crate's tests.

    use ringfence_netpol::api::LabelStandard;
    use ringfence_netpol::cluster::{Cluster, Key, Namespace, Pod};
    use serde_json::{Value, json};

    /// The body of a request to create (or update, if there is an old object) what is given as YAML.
    pub fn body(resource: &str, object: &str, old: Option<&str>) -> Vec<u8> {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Value>(yaml).unwrap();
        let (group, version, kind) = match resource {
            "networkpolicies" => ("networking.k8s.io", "v1", "NetworkPolicy"),
            "namespaces" => ("", "v1", "Namespace"),
            "labelstandards" => ("ringfence.dev", "v1alpha1", "LabelStandard"),
            _ => ("", "v1", "ConfigMap"),
        };
        let namespace = (resource == "networkpolicies").then_some("shop");
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "uid-1",
                "kind": {"group": group, "version": version, "kind": kind},
                "resource": {"group": group, "version": version, "resource": resource},
                "name": "x",
                "namespace": namespace,
                "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
                "userInfo": {"username": "alice"},
                "object": read(object),
                "oldObject": old.map(read),
                "dryRun": false,
            }
        });
        serde_json::to_vec(&review).unwrap()
    }

    /// `kube-system` with DNS, `shop` with a frontend, `monitoring` with Prometheus, and a standard that asks for `tier`.
    pub fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for (namespace, label, value) in [
            ("kube-system", "k8s-app", "kube-dns"),
            ("monitoring", "app", "prometheus"),
            ("shop", "app", "frontend"),
        ] {
            let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into_iter().collect();
            cluster.namespaces.apply(
                Key::cluster(namespace),
                Namespace {
                    labels: labels("kubernetes.io/metadata.name", namespace),
                    ..Namespace::default()
                },
            );
            let pod = Pod {
                labels: labels(label, value),
                ..Pod::default()
            };
            cluster.pods.apply(Key::new(namespace, "pod"), pod);
        }
        let spec = "{labels: [{key: tier, allowedValues: [gold, silver]}]}";
        cluster.standards.apply(
            Key::cluster("tiers"),
            LabelStandard::new("tiers", serde_yaml_ng::from_str(spec).unwrap()),
        );
        cluster
    }
}
