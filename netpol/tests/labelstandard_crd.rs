//! `deploy/crds/labelstandard.yaml` is what the Rust type says, and the starter standards are what it can read.
//!
//! `UPDATE=1 cargo test -p ringfence-netpol --test labelstandard_crd` writes the file anew.
#![allow(clippy::disallowed_methods)] // a test of files reads files

use std::path::{Path, PathBuf};

use kube::CustomResourceExt;
use ringfence_netpol::api::LabelStandard;
use ringfence_netpol::standard::defects;
use serde::Deserialize;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_definition_in_deploy_is_that_of_the_type() {
    let path = root().join("deploy/crds/labelstandard.yaml");
    let expected = format!(
        "# Written from the Rust type in netpol/src/api/standard.rs; change it there, then:\n\
         # UPDATE=1 cargo test -p ringfence-netpol --test labelstandard_crd\n{}",
        serde_yaml_ng::to_string(&LabelStandard::crd()).unwrap()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{} is not what the type says; run with UPDATE=1",
        path.display()
    );
}

#[test]
fn the_starter_standards_can_be_read_and_understood() {
    let mut read = 0;
    for entry in std::fs::read_dir(root().join("policies/standards")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let standard =
                LabelStandard::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(defects(&standard.spec), [], "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 0, "there is a starter standard");
}
