//! The judgement: a request, the settings, what is known of the cluster and the time in, a decision out. No HTTP, no I/O.
//!
//! [`review`] judges, [`hold`] keeps namespaces in their baselines, [`fill_in`] says what an object is given that comes without,
//! [`gate`] which pods wait for their baseline. All are
//! functions of their arguments only.

mod fill_in;
mod gate;
mod labels;
mod memory;
mod policy;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::core::admission::Operation;
use ringfence_netpol::api::{self, LabelStandard, NamespaceBaseline};
use ringfence_netpol::catalogue;
use ringfence_netpol::cluster::{self, Cluster, Key};
use ringfence_netpol::finding::{Finding, Severity};
use ringfence_netpol::guard::{self, REASON};
use ringfence_netpol::requester::Requester;
use ringfence_netpol::rollout::{Local, Mode, Silent, weigh};
use ringfence_netpol::selector::Labels;
use ringfence_netpol::standard::{self, SYSTEM_NAMESPACES, judge_standard};
use serde::de::DeserializeOwned;

use crate::envelope::Request;
use crate::settings::Review;

pub use fill_in::fill_in;
pub use gate::gate;
pub(crate) use labels::Meta;
pub use memory::{Memory, Seen};

/// What is judged; the label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NetworkPolicy,
    Namespace,
    LabelStandard,
    NamespaceBaseline,
    /// A pod, or what places one.
    Pod,
    /// What makes pods from a template.
    Workload,
    /// A kind that the webhook configuration should not have sent.
    Other,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::NetworkPolicy,
        Self::Namespace,
        Self::LabelStandard,
        Self::NamespaceBaseline,
        Self::Pod,
        Self::Workload,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Namespace => "Namespace",
            Self::LabelStandard => "LabelStandard",
            Self::NamespaceBaseline => "NamespaceBaseline",
            Self::Pod => "Pod",
            Self::Workload => "workload",
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
        } else if is::<NamespaceBaseline>(request) {
            Self::NamespaceBaseline
        } else if labels::is_binding(request) {
            Self::Pod
        } else {
            match api::Kind::of(&request.kind.group, &request.kind.kind) {
                Some(api::Kind::Pod) => Self::Pod,
                Some(_) => Self::Workload,
                None => Self::Other,
            }
        }
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub kind: Kind,
    /// What whoever sent the object is told.
    pub findings: Vec<Finding>,
    /// What is only kept account of.
    pub silent: Vec<Silent>,
    /// The object is not what its kind says, and is refused for it.
    pub unreadable: Option<String>,
    /// What else whoever sent it should know.
    pub notes: Vec<&'static str>,
    /// What would have been refused to anybody else, and the reason that was given, if one was.
    pub glass_broken: Option<Broken>,
    /// What the object is given.
    pub patch: Option<json_patch::Patch>,
    /// Whether the view may just not know yet what this rests on.
    pub early: bool,
}

/// An emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub codes: Vec<&'static str>,
    pub reason: Option<String>,
}

/// Said while the cluster is not in view.
pub const NO_VIEW: &str = "Ringfence has no view of the cluster yet: this was judged without comparing it with what \
                           lives there, and without label standards";
/// Said where nothing is counted because of what was not looked at.
pub const NOT_ALL: &str = "Ringfence did not work out all that this change does: there is more to look at than review.simulation allows";
/// Said of a kind that is not judged.
pub const NOT_JUDGED: &str = "Ringfence does not judge this kind; leave it out of the webhook configuration";
/// Said when what would be refused is let pass.
pub const GLASS_BROKEN: &str =
    "Ringfence would have refused this to anybody else; it was let pass as an emergency, and recorded";

impl Decision {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            findings: Vec::new(),
            silent: Vec::new(),
            unreadable: None,
            notes: Vec::new(),
            glass_broken: None,
            patch: None,
            early: false,
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
            // What standards ask is in view long before; what they are asked of may not be.
            let labels = finding.code.starts_with("LB");
            self.early || (!labels && catalogue::entry(finding.code).is_some_and(|entry| entry.needs_cluster))
        };
        self.unreadable.is_none() && !self.allowed() && self.denials().all(from_view)
    }
}

/// The object is not what its kind says.
struct Unreadable(String);

/// What is found, before it is weighed.
#[derive(Default)]
struct Judged {
    findings: Vec<Finding>,
    /// Where what is said of a namespace is looked up.
    namespace: String,
    early: bool,
    /// What the object, or the one that was, says of an emergency.
    reason: Option<String>,
    notes: Vec<&'static str>,
}

/// What everything is judged with.
#[derive(Clone, Copy)]
struct Judge<'a> {
    request: &'a Request,
    settings: &'a Review,
    seen: Option<&'a Seen<'a>>,
    cluster: Option<&'a Cluster>,
    requester: &'a Requester,
}

/// Judges a request, at a time in seconds of the Unix time; `seen` is `None` while the cluster is not in view.
pub fn review(request: &Request, settings: &Review, seen: Option<&Seen<'_>>, now: i64) -> Decision {
    let kind = Kind::of(request);
    let mut decision = Decision::of(kind);
    let requester = request.requester();
    let judge = Judge {
        request,
        settings,
        seen,
        cluster: seen.map(|seen| seen.cluster),
        requester: &requester,
    };
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    let judged = match kind {
        Kind::NetworkPolicy if written || request.operation == Operation::Delete => judge.network_policy(),
        _ if !written => return decision, // what goes away cannot be wrong
        Kind::Namespace => judge.namespace(),
        Kind::LabelStandard => judge.label_standard(),
        Kind::NamespaceBaseline => judge.baseline(),
        Kind::Pod | Kind::Workload => judge.pods(),
        _ => {
            decision.notes.push(NOT_JUDGED);
            return decision;
        }
    };
    match judged {
        Ok(judged) => decide(&mut decision, judged, &judge, now),
        Err(Unreadable(reason)) if settings.mode == Mode::Enforce => decision.unreadable = Some(reason),
        Err(Unreadable(_)) => {}
    }
    if seen.is_none() && !matches!(kind, Kind::LabelStandard | Kind::NamespaceBaseline) {
        decision.notes.push(NO_VIEW);
    }
    decision
}

/// Holds a namespace in its baseline: the part of the judgement that the platform team is not asked for, by a hook of its own.
pub fn hold(request: &Request, settings: &Review, seen: Option<&Seen<'_>>, now: i64) -> Decision {
    let mut decision = Decision::of(Kind::of(request));
    let requester = request.requester();
    let judge = Judge {
        request,
        settings,
        seen,
        cluster: seen.map(|seen| seen.cluster),
        requester: &requester,
    };
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return decision;
    }
    if decision.kind != Kind::Namespace {
        decision.notes.push(NOT_JUDGED);
        return decision;
    }
    match judge.held() {
        Ok(judged) => decide(&mut decision, judged, &judge, now),
        Err(Unreadable(reason)) if settings.mode == Mode::Enforce => decision.unreadable = Some(reason),
        Err(Unreadable(_)) => {}
    }
    if seen.is_none() {
        decision.notes.push(NO_VIEW);
    }
    decision
}

fn decide(decision: &mut Decision, judged: Judged, judge: &Judge<'_>, now: i64) {
    let local = judge.local(&judged.namespace);
    let weighed = weigh(
        judged.findings,
        judge.settings.rollout(),
        &local,
        &judged.namespace,
        now,
    );
    decision.findings = weighed.told;
    decision.silent = weighed.silent;
    decision.early = judged.early;
    decision.notes.extend(judged.notes);
    let guard = &judge.settings.guard;
    let codes: Vec<&'static str> = decision.denials().map(|finding| finding.code).collect();
    let excused = !codes.is_empty() && codes.iter().all(|code| is_glass(code));
    let reason = judged.reason;
    if !excused || !guard.breaks_glass(judge.requester) || (reason.is_none() && guard.reason_required) {
        return;
    }
    warn_only(&mut decision.findings);
    decision.notes.push(GLASS_BROKEN);
    decision.glass_broken = Some(Broken { codes, reason });
}

/// Whether a finding is about who does something, and not about what: only that can be an emergency's.
fn is_glass(code: &str) -> bool {
    (code.starts_with("BG") && ![guard::UNREADABLE, guard::MISWRITTEN].contains(&code))
        || matches!(code, standard::IMMUTABLE | standard::PROTECTED)
}

impl<'a> Judge<'a> {
    fn label_standard(&self) -> Result<Judged, Unreadable> {
        let object: LabelStandard = self.object()?;
        // One that could not be read any more is no reason to keep it from being mended.
        let before: Option<LabelStandard> = self.old_object().ok().flatten();
        let mut findings = judge_standard(&object);
        if before.is_some_and(|before| before.spec == object.spec) {
            warn_only(&mut findings);
        }
        Ok(Judged {
            findings,
            ..Judged::default()
        })
    }

    fn baseline(&self) -> Result<Judged, Unreadable> {
        let object: NamespaceBaseline = self.object()?;
        Ok(Judged {
            findings: guard::judge_baseline(&object),
            ..Judged::default()
        })
    }

    /// The namespace as it is in view.
    fn known_namespace(&self, name: &str) -> Option<&'a cluster::Namespace> {
        self.cluster?.namespaces.get(&Key::cluster(name))
    }

    /// What the platform team says of a namespace.
    fn local(&self, namespace: &str) -> Local {
        self.known_namespace(namespace)
            .map(|namespace| Local::read(&namespace.annotations))
            .unwrap_or_default()
    }

    fn excluded(&self, namespace: &str) -> bool {
        SYSTEM_NAMESPACES.contains(&namespace)
            || self
                .settings
                .excluded_namespaces
                .iter()
                .any(|name| name == namespace)
    }

    fn object<K: DeserializeOwned>(&self) -> Result<K, Unreadable> {
        let object = self.request.object().map_err(|e| self.unreadable("object", &e))?;
        object.ok_or_else(|| Unreadable("the request carries no object".to_owned()))
    }

    /// `None` where there was none before. One that cannot be read is an error: what is judged by what was there must not be
    /// judged as if nothing was.
    fn old_object<K: DeserializeOwned>(&self) -> Result<Option<K>, Unreadable> {
        self.request
            .old_object()
            .map_err(|e| self.unreadable("old object", &e))
    }

    fn unreadable(&self, what: &str, error: &serde_json::Error) -> Unreadable {
        let kind = &self.request.kind.kind;
        Unreadable(format!("the {what} cannot be read as a {kind}: {error}"))
    }
}

/// Who only adds an annotation, or lets go of what is being deleted, must not be stopped by what was there before. What changes is judged
/// as ever: until it is gone, a policy is enforced, a pod runs, and a namespace holds both.
fn warn_only(findings: &mut [Finding]) {
    for finding in findings {
        finding.severity = Severity::Warn;
    }
}

/// Why, if it is an emergency.
fn reason<'a>(annotations: impl IntoIterator<Item = Option<&'a Labels>>) -> Option<String> {
    let given = annotations.into_iter().flatten();
    let reason = given.filter_map(|annotations| annotations.get(REASON)).next()?;
    Some(reason.chars().filter(|c| !c.is_control()).take(512).collect())
}

/// What the guard needs of the cluster: nothing, while it is not in view.
fn baselines(cluster: Option<&Cluster>) -> impl Iterator<Item = &api::NamespaceBaseline> {
    cluster.into_iter().flat_map(|cluster| cluster.baselines.values())
}

/// Whether the namespace controller may just be ahead of the view.
fn may_be_ahead(findings: &[Finding], requester: &Requester) -> bool {
    requester.username.starts_with("system:") && findings.iter().any(|finding| finding.code == guard::DELETED)
}
