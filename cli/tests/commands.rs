//! Commands as they are typed: what they print where, and how they exit.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

use std::path::Path;

use clap::Parser;
use ringfence_cli::args::Args;
use ringfence_cli::{Outcome, run};

const SHOP: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: api, namespace: shop},
 spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]}}
";

struct Ran {
    outcome: Outcome,
    out: String,
    err: String,
}

fn ringfence(folder: &Path, line: &str) -> Ran {
    let words = line
        .split_whitespace()
        .map(|word| word.replace('@', folder.to_str().unwrap()));
    let args = Args::try_parse_from(std::iter::once("ringfence".to_owned()).chain(words)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(&args, &mut out, &mut err);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        outcome,
        out: text(out),
        err: text(err),
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn what_is_fine_exits_with_0_and_says_nothing_else() {
    let folder = folder(&[("shop.yaml", SHOP)]);
    for line in [
        "connlist @ -o json",
        "connlist @/shop.yaml --focus shop/web",
        "check @ --from shop/web --to shop/api --port 80",
        "check @ --from shop/web --to shop/api --port 80 --protocol tcp",
        "lint @",
        "diff @ @",
        "rules",
        "rules NP001",
    ] {
        let ran = ringfence(folder.path(), line);
        assert_eq!((ran.outcome, ran.err.as_str()), (Outcome::Fine, ""), "{line}");
        assert!(!ran.out.is_empty(), "{line}");
    }
}

#[test]
fn findings_differences_and_denials_exit_with_1() {
    let open = SHOP.replace("from: [{podSelector: {matchLabels: {app: web}}}], ", "");
    let folder = folder(&[("a/shop.yaml", SHOP), ("b/shop.yaml", &open)]);
    for line in [
        "check @/a --from shop/web --to shop/api --port 81",
        "lint @/b",
        "diff @/a @/b",
    ] {
        let ran = ringfence(folder.path(), line);
        assert_eq!((ran.outcome, ran.err.as_str()), (Outcome::Found, ""), "{line}");
    }
    assert_eq!(
        ringfence(folder.path(), "lint @/b --fail-on deny").outcome,
        Outcome::Fine
    );
    assert_eq!(
        ringfence(folder.path(), "lint @/b --level NP006=off").outcome,
        Outcome::Fine
    );
}

#[test]
fn what_cannot_be_used_exits_with_2_and_the_rest_is_done_if_asked_for() {
    let folder = folder(&[
        ("shop.yaml", SHOP),
        ("bad.yaml", "a: [1\n"),
        ("empty/x.yaml", "# nothing\n"),
    ]);
    for line in [
        "connlist @",
        "connlist @/nowhere",
        "connlist @/empty",
        "connlist @/shop.yaml --focus shop/nobody",
        "check @/shop.yaml --from shop/nobody --to shop/api --port 80",
        "lint @",
        "lint @/shop.yaml --level NP999=off",
        "diff @/shop.yaml @/nowhere",
        "diff @/shop.yaml",
        "generate @/shop.yaml",
        "rules NP999",
    ] {
        let ran = ringfence(folder.path(), line);
        assert_eq!((ran.outcome, ran.out.as_str()), (Outcome::Unusable, ""), "{line}");
        assert!(!ran.err.is_empty(), "{line}");
    }
    let ran = ringfence(folder.path(), "connlist @ --keep-going");
    assert_eq!(ran.outcome, Outcome::Fine);
    assert!(
        ran.out.contains("shop/web[Pod] => shop/api[Pod] : TCP 80"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("bad.yaml:"), "{}", ran.err);
}

#[test]
fn what_the_generator_would_add_is_taken_into_account_if_asked_for() {
    let closed = "
{apiVersion: ringfence.dev/v1alpha1, kind: NamespaceBaseline, metadata: {name: b}, spec: {namespaceSelector: {},
  policies: [{name: deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}]}}
";
    let folder = folder(&[
        ("a/shop.yaml", SHOP),
        ("b/shop.yaml", SHOP),
        ("b/closed.yaml", closed),
    ]);
    assert_eq!(ringfence(folder.path(), "diff @/a @/b").outcome, Outcome::Fine);
    let ran = ringfence(folder.path(), "diff @/a @/b --with-baselines");
    assert_eq!(ran.outcome, Outcome::Found);
    assert!(
        ran.out.contains("- shop/web[Pod] => shop/api[Pod] : TCP 80"),
        "{}",
        ran.out
    );
    let ran = ringfence(folder.path(), "connlist @/b --with-baselines");
    assert_eq!((ran.outcome, ran.out.as_str()), (Outcome::Fine, ""));
    let ran = ringfence(
        folder.path(),
        "check @/b --with-baselines --from shop/web --to shop/api --port 80",
    );
    assert!(ran.out.contains("name: web-to-api"), "{}", ran.out);
}

#[test]
fn every_command_has_help_with_an_example() {
    use clap::CommandFactory;
    let mut command = Args::command();
    command.build();
    for sub in command
        .get_subcommands_mut()
        .filter(|sub| sub.get_name() != "help")
    {
        let help = sub.render_long_help().to_string();
        assert!(help.contains(&format!("ringfence {}", sub.get_name())), "{help}");
        assert!(help.contains("Examples:"), "{}", sub.get_name());
    }
}
