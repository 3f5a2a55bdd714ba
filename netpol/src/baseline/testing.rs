//! What the tests of this module have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::NamespaceBaseline;
use crate::cluster::Namespace;

use super::template::Template;

pub fn baseline(name: &str, spec: &str) -> NamespaceBaseline {
    NamespaceBaseline {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: serde_yaml_ng::from_str(spec).unwrap(),
        status: None,
    }
}

pub fn template(name: &str, spec: &str) -> Template {
    Template::parse(&baseline(name, spec)).unwrap()
}

pub fn namespace(labels: &[(&str, &str)]) -> Namespace {
    Namespace {
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..Namespace::default()
    }
}
