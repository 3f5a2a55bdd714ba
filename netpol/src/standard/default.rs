//! What is filled in for an object that comes without a label.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use super::judge::{Subject, holds};
use crate::api::{Kind, LabelStandard};
use crate::cluster::Store;
use crate::selector::Labels;

/// The labels that an object lacks and is given: when it is created, and when an update takes them away. An object that
/// was stored without them is left as it is: a new label in a template would replace every pod.
///
/// What a controller makes of another object's template is left alone too: the controllers compare both, and would make
/// it again for ever.
pub fn defaults(subject: &Subject<'_>, controlled: bool, standards: &Store<LabelStandard>) -> Labels {
    let mut added = Labels::new();
    if controlled && subject.kind.makes_pods() {
        return added;
    }
    let mut labels = subject.labels.clone();
    // A label that is filled in may bring a namespace under another standard. Each round adds a label, so that there is an end.
    loop {
        let namespace_labels = match subject.kind {
            Kind::Namespace => Some(&labels),
            _ => subject.namespace_labels,
        };
        // Of a namespace that is not known, nothing is filled in: it may be under another standard, or none.
        let Some(namespace_labels) = namespace_labels else {
            return added;
        };
        let next = standards
            .values()
            .filter(|standard| subject.kind.is_among(&standard.spec.kinds))
            .filter(|standard| holds(&standard.spec, subject.namespace, Some(namespace_labels)))
            .flat_map(|standard| &standard.spec.labels)
            .filter(|asked| !asked.forbidden && !labels.contains_key(&asked.key))
            .filter(|asked| {
                subject
                    .before
                    .is_none_or(|before| before.labels.contains_key(&asked.key))
            })
            .find_map(|asked| Some((asked.key.clone(), asked.default.clone()?)));
        let Some((key, value)) = next else {
            return added;
        };
        labels.insert(key.clone(), value.clone());
        added.insert(key, value);
    }
}

/// The patch that adds labels to an object; empty if there are none to add.
pub fn patch(kind: Kind, object: &Value, labels: &Labels) -> Patch {
    let add = |path: &[&str], value: Value| {
        PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        })
    };
    let mut operations = Vec::new();
    if labels.is_empty() {
        return Patch(operations);
    }
    let path = kind.labels_at();
    let mut at = Some(object);
    for (depth, token) in path.iter().enumerate() {
        at = at.and_then(|at| at.get(token)).filter(|value| value.is_object());
        if at.is_none() {
            operations.push(add(&path[..=depth], json!({})));
        }
    }
    for (key, value) in labels {
        let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        operations.push(add(&path, Value::from(value.as_str())));
    }
    Patch(operations)
}
