//! The program as it is started: under its names, into pipes, and with no cluster to be reached.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringfence");

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn under_the_name_of_a_kubectl_plugin_it_says_what_people_type() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-ringfence");
    symlink(PROGRAM, &plugin).unwrap();
    let help = text(&run(&plugin, &["--help"]).stdout);
    assert!(help.contains("Usage: kubectl ringfence <COMMAND>"), "{help}");
    let help = text(&run(&plugin, &["check", "--help"]).stdout);
    assert!(help.contains("Usage: kubectl ringfence check"), "{help}");
    let help = text(&run(Path::new(PROGRAM), &["check", "--help"]).stdout);
    assert!(help.contains("Usage: ringfence check"), "{help}");

    let complete = folder.path().join("kubectl_complete-ringfence");
    symlink(PROGRAM, &complete).unwrap();
    assert_eq!(
        text(&run(&complete, &["connlist", "-o", "cs"]).stdout),
        "csv\n:4\n"
    );
}

#[test]
fn whoever_stops_reading_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let pods: String = (0..400)
        .map(|index| {
            format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: a-pod-with-a-long-name-{index}}}}}\n"
            )
        })
        .collect();
    std::fs::write(folder.path().join("pods.yaml"), pods).unwrap();
    let mut process = Command::new(PROGRAM)
        .args(["connlist", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    process.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and the pipe is closed
    let output = process.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), "")
    );
}

#[test]
fn colours_are_for_terminals_unless_they_are_asked_for() {
    let plain = run(Path::new(PROGRAM), &["rules", "NP001"]);
    assert!(!text(&plain.stdout).contains('\u{1b}'));
    let coloured = |name: &str, value: &str| {
        let output = Command::new(PROGRAM)
            .args(["rules", "NP001"])
            .env_remove("NO_COLOR")
            .env(name, value)
            .output()
            .unwrap();
        text(&output.stdout).contains('\u{1b}')
    };
    assert!(coloured("CLICOLOR_FORCE", "1"));
    assert!(!coloured("NO_COLOR", "1"));
}

#[test]
fn a_cluster_that_cannot_be_reached_is_said_soon_and_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let config = |server: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        )
    };
    let live = |arguments: &[&str]| {
        let began = Instant::now();
        let output = Command::new(PROGRAM)
            .args(["connlist", "--live"])
            .args(arguments)
            .env("KUBECONFIG", &file)
            .output()
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        (output.status.code(), text(&output.stderr))
    };
    // Nobody listens on port 1.
    std::fs::write(&file, config("http://127.0.0.1:1")).unwrap();
    let (code, error) = live(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("cannot be reached") && error.contains("127.0.0.1:1"),
        "{error}"
    );
    let (code, error) = live(&["--context", "nowhere"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("kubeconfig") && error.contains("nowhere"),
        "{error}"
    );
    std::fs::write(&file, "{[").unwrap();
    let (code, error) = live(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("kubeconfig"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let (code, error) = live(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("kubeconfig"), "{error}");
}
