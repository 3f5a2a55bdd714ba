//! Every target holds for what is kept of earlier runs, and for hostile input that is too large to be kept.

#![allow(clippy::unwrap_used)] // a test

use std::path::Path;
use std::time::{Duration, Instant};

use ringfence_fuzz::{TARGETS, read, review};

/// More than any input takes, by far, on a busy machine and without optimisation; what is worse than linear takes hours.
const PATIENCE: Duration = Duration::from_secs(300);

fn timed(what: &str, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
}

#[test]
fn every_target_holds_for_what_is_kept() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, run) in TARGETS {
        let entries: Result<Vec<_>, _> = std::fs::read_dir(corpus.join(target)).unwrap().collect();
        let entries = entries.unwrap();
        assert!(!entries.is_empty(), "nothing is kept for {target}");
        for entry in entries {
            let path = entry.path();
            let data = std::fs::read(&path).unwrap();
            timed(&path.display().to_string(), || run(&data));
        }
    }
}

/// Bytes without structure: a generator of its own, so that a failure comes again.
#[test]
fn every_target_holds_for_noise() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for round in 0..400_usize {
        let noise: Vec<u8> = (0..round).flat_map(|_| next()).take(16 + 2 * round).collect();
        for (_, run) in TARGETS {
            run(&noise);
        }
    }
}

#[test]
fn hostile_files_are_read_to_an_end() {
    let policy = |rules: String| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p}}, spec: {{podSelector: {{}}, ingress: [{rules}]}}}}"
        )
    };
    let bomb: String = (0..30)
        .map(|level| {
            format!(
                "a{}: &a{} [*a{level}, *a{level}, *a{level}, *a{level}]\n",
                level + 1,
                level + 1
            )
        })
        .collect();
    let files = [
        ("nested flow", "[".repeat(3 << 20)),
        ("nested flow maps", "{a: ".repeat(1 << 20)),
        (
            "nested blocks",
            (0..2_000)
                .map(|depth| format!("{}a:\n", " ".repeat(depth)))
                .collect(),
        ),
        ("nested lists", "- ".repeat(1 << 20)),
        ("one string", format!("a: \"{}\"", "x".repeat(3 << 20))),
        ("one key", format!("{}: 1", "k".repeat(3 << 20))),
        ("one plain scalar of many lines", "a\n".repeat(1 << 20)),
        (
            "many keys",
            (0..200_000).map(|key| format!("k{key}: 1\n")).collect(),
        ),
        ("many documents", "---\na: 1\n".repeat(100_000)),
        (
            "many anchors",
            format!(
                "[{}]",
                (0..200_000).map(|n| format!("&a{n} 1,")).collect::<String>()
            ),
        ),
        ("anchors that multiply", format!("a0: &a0 [1, 2, 3, 4]\n{bomb}")),
        ("an anchor within itself", "a: &a [*a]".to_owned()),
        ("one key a hundred thousand times", "a: 1\n".repeat(100_000)),
        ("question marks", "? ".repeat(1 << 20)),
        ("an open quote", format!("a: '{}", "x\n".repeat(1 << 20))),
        ("comments", "# x\n".repeat(1 << 20)),
        (
            "an object of 3 MB",
            policy("{ports: [{port: 80}]},".repeat(130_000)),
        ),
        ("a large number", format!("a: {}", "9".repeat(3 << 20))),
        ("NULs", "\0".repeat(3 << 20)),
        ("tags", "!!str ".repeat(500_000)),
    ];
    for (what, text) in files {
        timed(what, || read::run(text.as_bytes()));
    }
}

#[test]
fn hostile_bodies_are_answered() {
    let review_of = |object: String| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"group":"networking.k8s.io","version":"v1","kind":"NetworkPolicy"}},
            "resource":{{"group":"networking.k8s.io","version":"v1","resource":"networkpolicies"}},"namespace":"x","operation":"CREATE","userInfo":{{}},"object":{object}}}}}"#
        )
    };
    let policy = |rules: String| {
        review_of(format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"podSelector":{{}},"ingress":[{}]}}}}"#,
            rules.trim_end_matches(',')
        ))
    };
    let bodies = [
        ("nested lists", "[".repeat(3 << 20)),
        ("nested maps", r#"{"a":"#.repeat(1 << 20)),
        (
            "a nested object",
            review_of(format!("{}{}", r#"{"a":"#.repeat(100_000), "1")),
        ),
        (
            "a wide object",
            review_of(format!(
                "{{{}\"z\":1}}",
                (0..200_000)
                    .map(|key| format!("\"k{key}\":1,"))
                    .collect::<String>()
            )),
        ),
        (
            "rules of 3 MB",
            policy(r#"{"ports":[{"port":80}]},"#.repeat(130_000)),
        ),
        (
            "bad peers of 3 MB",
            policy(r#"{"from":[{"ipBlock":{"cidr":"x"}}]},"#.repeat(80_000)),
        ),
        (
            "dead peers of 3 MB",
            policy(r#"{"from":[{"podSelector":{"matchLabels":{"app":"nobody"}}}]},"#.repeat(50_000)),
        ),
        (
            "one long value",
            policy(format!(
                r#"{{"from":[{{"podSelector":{{"matchLabels":{{"a":"{}"}}}}}}]}}"#,
                "v".repeat(3 << 20)
            )),
        ),
        (
            "one long operator",
            policy(format!(
                r#"{{"from":[{{"podSelector":{{"matchExpressions":[{{"key":"a","operator":"{}"}}]}}}}]}}"#,
                "\\n".repeat(1 << 20)
            )),
        ),
    ];
    for (what, body) in bodies {
        timed(what, || review::run(body.as_bytes()));
    }
}
