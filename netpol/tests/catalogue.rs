//! `docs/rules.md` lists the rules as they are.
//!
//! `UPDATE=1 cargo test -p ringfence-netpol --test catalogue` writes it anew.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test, of a file

use std::fmt::Write as _;
use std::path::Path;

use ringfence_netpol::finding::Severity;
use ringfence_netpol::lint::{Needs, rules};

const HEAD: &str = "\
# The rules for policies

<!-- Written from the rules in netpol/src/lint/rules; change them there, then:
     UPDATE=1 cargo test -p ringfence-netpol --test catalogue -->

What `ringfence lint` and the webhook find in NetworkPolicies. `ringfence rules CODE` tells more of one, with a policy that it finds something in
and one in which it does not. What a rule weighs is the platform team's to say: `--level NP006=off` on the command line, `review.severities` in the
webhook's settings.

A rule compares the policy with what is in view:

- *nothing*: it judges by the text of the policy, and looks at other policies of the namespace where they are in view;
- *some*: it finds what is there, in files as in a live cluster;
- *all*: it finds that something is nowhere, so that files must be said to be everything (`--complete`).

| Code | Name | Weighs | In view | Finds |
|---|---|---|---|---|
";

#[test]
fn the_table_in_the_docs_lists_the_rules_as_they_are() {
    let mut expected = HEAD.to_owned();
    for rule in rules::ALL {
        let severity = match rule.severity {
            Severity::Deny => "deny",
            Severity::Warn => "warn",
        };
        let needs = match rule.needs {
            Needs::Nothing => "nothing",
            Needs::Cluster => "some",
            Needs::WholeCluster => "all",
        };
        let (code, name, finds) = (rule.code, rule.name, rule.finds.replace('|', "\\|"));
        writeln!(expected, "| {code} | {name} | {severity} | {needs} | {finds} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "docs/rules.md is not what the rules say; run with UPDATE=1"
    );
}
