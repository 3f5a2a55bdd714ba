//! netpol is pure: it must be possible to judge a policy without a runtime, a socket or a kernel.

#![allow(clippy::disallowed_methods)] // it asks cargo

use std::process::Command;

#[test]
fn netpol_depends_on_no_runtime_socket_or_kernel_library() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--package",
            "ringfence-netpol",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    assert!(tree.contains("kube-core"), "this is the tree: {tree}");
    const IMPURE: [&str; 12] = [
        "tokio",
        "mio",
        "socket2",
        "async-std",
        "smol",
        "hyper",
        "reqwest",
        "rustls",
        "kube-client",
        "kube-runtime",
        "libbpf-sys",
        "nix",
    ];
    for package in tree.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(
            !IMPURE.contains(&package),
            "netpol must not depend on {package}:\n{tree}"
        );
    }
}
