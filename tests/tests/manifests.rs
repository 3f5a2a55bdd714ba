//! What a user applies is what its parts say.

use std::process::Command;

#[test]
fn install_yaml_is_rendered_from_its_parts() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let rendered = std::env::temp_dir().join(format!("ringfence-install-{}.yaml", std::process::id()));
    let status = Command::new(format!("{deploy}/render"))
        .arg(&rendered)
        .status()
        .expect("deploy/render runs");
    assert!(status.success());
    let fresh = std::fs::read_to_string(&rendered).expect("it was rendered");
    std::fs::remove_file(&rendered).expect("it can be removed");
    let stored =
        std::fs::read_to_string(format!("{deploy}/install.yaml")).expect("deploy/install.yaml is there");
    assert!(
        stored == fresh,
        "deploy/install.yaml is not what its parts say; run deploy/render"
    );
}
