//! Compiles the kernel side and generates its skeleton, with the Rust types of the maps' keys and values.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

#[allow(clippy::expect_used)] // a build script's way to fail
fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("datapath.skel.rs");
    let clang = env::var_os("CLANG").unwrap_or_else(|| OsString::from("clang"));
    SkeletonBuilder::new()
        .source("src/bpf/datapath.bpf.c")
        .clang(clang)
        // v3: 32-bit instructions, which the verifier follows better.
        .clang_args(["-mcpu=v3", "-Wall", "-Werror"])
        .build_and_generate(&out)
        .expect("the kernel side compiles; is clang installed?");
    println!("cargo:rerun-if-changed=src/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
}
