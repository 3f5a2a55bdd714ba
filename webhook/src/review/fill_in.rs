//! What an object is given that comes without.

use kube::core::admission::Operation;
use ringfence_netpol::api;
use ringfence_netpol::cluster::Key;
use ringfence_netpol::finding::Object;
use ringfence_netpol::rollout::Mode;
use ringfence_netpol::selector::Labels;
use ringfence_netpol::standard::{Before, Subject, defaults, patch};
use serde::Deserialize;
use serde_json::Value;

use super::labels::Meta;
use super::{Decision, Judge, Kind, Seen};
use crate::envelope::Request;
use crate::settings::Review;

/// Fills in the labels that standards have a default for. Nothing is refused here: an object that cannot be read, or a cluster that is
/// not in view, is left to [`super::review`], which comes after. The same object twice is filled in once.
pub fn fill_in(request: &Request, settings: &Review, seen: Option<&Seen<'_>>, _: i64) -> Decision {
    let mut decision = Decision::of(Kind::of(request));
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    if written && settings.mode == Mode::Enforce {
        decision.patch = seen.and_then(|seen| wanted(request, settings, seen));
    }
    decision
}

fn wanted(request: &Request, settings: &Review, seen: &Seen<'_>) -> Option<json_patch::Patch> {
    let cluster = seen.cluster;
    if cluster.standards.is_empty() {
        return None;
    }
    let kind = api::Kind::of(&request.kind.group, &request.kind.kind)?;
    let requester = request.requester();
    let judge = Judge {
        request,
        settings,
        seen: Some(seen),
        cluster: Some(cluster),
        requester: &requester,
    };
    let object: Value = request.object().ok()??;
    let before: Option<Value> = request.old_object().ok()?;
    let Meta { metadata } = Meta::deserialize(&object).ok()?;
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = match (kind, &request.namespace) {
        (api::Kind::Namespace, _) => name.clone(),
        (_, Some(namespace)) => namespace.clone(),
        (_, None) => metadata.namespace.clone().unwrap_or_default(),
    };
    if judge.excluded(&namespace) || metadata.deletion_timestamp.is_some() {
        return None;
    }
    let labels = kind.labels(&object);
    let before: Option<Labels> = before.map(|before| kind.labels(&before));
    let subject = Subject {
        kind,
        object: Object::new(kind.as_str(), &Key::new(namespace.as_str(), name)),
        namespace: &namespace,
        namespace_labels: match kind {
            api::Kind::Namespace => Some(&labels),
            _ => cluster.namespace_labels(&namespace),
        },
        labels: &labels,
        before: before.as_ref().map(|labels| Before { labels }),
        requester: &requester,
        by_controller: false,
    };
    let controlled = metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true));
    let added = defaults(&subject, controlled, &cluster.standards);
    let patch = patch(kind, &object, &added);
    (!patch.0.is_empty()).then_some(patch)
}
