//! Labels: namespaces against the standards of the input, and the standards themselves.

use ringfence_netpol::api::Kind;
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::finding::{Finding, Object};
use ringfence_netpol::requester::Requester;
use ringfence_netpol::selector::Labels;
use ringfence_netpol::standard::{PROTECTED, Subject, defaults, judge, judge_standard};

use super::Located;
use crate::read::LabelSource;

/// What is wrong with the labels of namespaces that stand in the input, and with its standards. Namespaces that are only implied by what
/// is in them have no labels that anybody wrote.
pub fn findings(sources: &[LabelSource], cluster: &Cluster) -> Vec<Located> {
    let located = |source: &LabelSource| {
        let place = |finding: Finding| Located {
            line: source.node.line_of(&field(&finding)),
            start: source.node.place.start,
            file: source.file.clone(),
            finding,
        };
        of_source(source, cluster)
            .into_iter()
            .map(place)
            .collect::<Vec<_>>()
    };
    sources.iter().flat_map(located).collect()
}

fn of_source(source: &LabelSource, cluster: &Cluster) -> Vec<Finding> {
    match (
        cluster.namespaces.get(&source.key),
        cluster.standards.get(&source.key),
    ) {
        (_, Some(standard)) if source.kind == "LabelStandard" => judge_standard(standard),
        (Some(namespace), _) if source.kind == "Namespace" => {
            of_namespace(source, &namespace.labels, cluster)
        }
        _ => Vec::new(),
    }
}

/// The namespace as it will be stored: with what the standards fill in. Who will apply it is not known, so that what only some may
/// set is left to admission.
fn of_namespace(source: &LabelSource, written: &Labels, cluster: &Cluster) -> Vec<Finding> {
    let requester = Requester::default();
    let subject = |labels| Subject {
        kind: Kind::Namespace,
        object: Object::new("Namespace", &source.key),
        namespace: &source.key.name,
        namespace_labels: Some(labels),
        labels,
        before: None,
        requester: &requester,
        by_controller: false,
    };
    let mut labels = written.clone();
    for (key, value) in defaults(&subject(written), false, &cluster.standards) {
        labels.entry(key).or_insert(value);
    }
    let mut findings = judge(&subject(&labels), &cluster.standards);
    findings.retain(|finding| finding.code != PROTECTED);
    findings
}

/// A label's key stands in brackets in a finding, and after a dot in a path.
fn field(finding: &Finding) -> String {
    match finding.field.strip_prefix("metadata.labels[") {
        Some(key) => format!("metadata.labels.{}", key.trim_end_matches(']')),
        None => finding.field.clone(),
    }
}
