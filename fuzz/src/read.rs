//! Whatever a file holds is read to an end: into objects, or into problems that name a place in it.

use std::collections::BTreeMap;

use ringfence_cli::lint::findings;
use ringfence_cli::read::{Options, Reading, read_texts};
use ringfence_netpol::connections::{self, Connections};
use ringfence_netpol::lint::Severities;
use ringfence_netpol::policy::Policy;

const FILE: &str = "a.yaml";
/// More pods or policies than this cost more time than they find.
const FEW: usize = 50;
/// Of a larger text it is enough that it is read to an end.
const LARGE: usize = 100_000;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lenient = read(&text, true);
    if text.len() > LARGE {
        return;
    }
    let strict = read(&text, false);
    assert!(
        strict.problems.len() >= lenient.problems.len(),
        "what is refused was forgotten: {:?}",
        lenient.problems
    );
    let lines = text.split('\n').count() + text.matches('\r').count() + 1;
    for problem in strict.problems.iter().chain(&lenient.problems) {
        assert_eq!(problem.file, FILE);
        assert!(!problem.reason.is_empty(), "{problem:?}");
        assert!(
            problem.line.is_none_or(|line| (1..=lines).contains(&line)),
            "of {lines} lines: {problem:?}"
        );
    }
    assert!(lenient.policies.len() <= lenient.taken);
    if lenient.policies.len() > FEW || lenient.cluster.pods.iter().count() > FEW {
        return;
    }
    again(&lenient);
    Connections::of(&lenient.cluster, connections::Options::default())
        .iter()
        .for_each(drop);
    for located in findings(lenient, &Severities::default(), true) {
        assert!(
            (1..=lines).contains(&located.line),
            "of {lines} lines: {located:?}"
        );
        assert!(!located.finding.line().contains('\n'));
    }
}

fn read(text: &str, keep_refused: bool) -> Reading {
    let options = Options {
        keep_refused,
        ..Options::default()
    };
    read_texts([(FILE, text)], &options)
}

/// What was read can be written down and read as the same.
fn again(reading: &Reading) {
    let policies: Vec<String> = reading
        .policies
        .iter()
        .map(|source| serde_json::to_string(&source.object).expect("an object can be written"))
        .collect();
    let texts = policies.iter().map(|text| (FILE, text.as_str()));
    let options = Options {
        keep_refused: true,
        ..Options::default()
    };
    let second = read_texts(texts, &options);
    assert_eq!(second.problems, [], "{policies:?}");
    let parsed = |reading: &Reading| -> BTreeMap<_, _> {
        reading
            .policies
            .iter()
            .map(|source| Policy::parse(&source.object))
            .map(|policy| (policy.key.clone(), policy))
            .collect()
    };
    assert_eq!(parsed(&second), parsed(reading));
}
