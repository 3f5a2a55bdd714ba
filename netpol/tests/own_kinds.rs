//! `deploy/crds/` is what the Rust types say, and what stands in `policies/` can be read and understood.
//!
//! `UPDATE=1 cargo test -p ringfence-netpol --test own_kinds` writes the definitions anew.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)] // a test, of files

use std::path::{Path, PathBuf};

use kube::CustomResourceExt;
use ringfence_netpol::api::{LabelStandard, NamespaceBaseline};
use ringfence_netpol::baseline::template::Template;
use ringfence_netpol::standard;
use serde::de::DeserializeOwned;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn holds_the_definition<K: CustomResourceExt + kube::Resource<DynamicType = ()>>(source: &str) {
    let path = root().join(format!("deploy/crds/{}.yaml", K::kind(&()).to_lowercase()));
    let expected = format!(
        "# Written from the Rust type in netpol/src/api/{source}; change it there, then:\n\
         # UPDATE=1 cargo test -p ringfence-netpol --test own_kinds\n{}",
        serde_yaml_ng::to_string(&K::crd()).unwrap()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(
        actual == expected,
        "{path} is not what the type says; run with UPDATE=1"
    );
}

/// Every object in a folder of `policies/`.
fn starters<K: DeserializeOwned>(folder: &str) -> Vec<K> {
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(root().join("policies").join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            objects.push(K::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
    assert!(!objects.is_empty(), "there is nothing in policies/{folder}");
    objects
}

#[test]
fn the_definitions_in_deploy_are_those_of_the_types() {
    holds_the_definition::<NamespaceBaseline>("baseline.rs");
    holds_the_definition::<LabelStandard>("standard.rs");
}

#[test]
fn the_starter_baselines_can_be_understood() {
    for baseline in starters::<NamespaceBaseline>("baselines") {
        Template::parse(&baseline).unwrap_or_else(|e| panic!("{:?}: {e:?}", baseline.metadata.name));
    }
}

#[test]
fn the_starter_standards_can_be_understood() {
    for object in starters::<LabelStandard>("standards") {
        assert_eq!(standard::defects(&object.spec), [], "{:?}", object.metadata.name);
    }
}
