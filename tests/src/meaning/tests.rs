use std::collections::BTreeSet;

use super::*;
use crate::target::repository;

fn files() -> Vec<(String, String)> {
    let folder = repository().join("tests/corpus/meaning");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn cases() -> Vec<Case> {
    let topics = files().into_iter().filter(|(name, _)| name != "elsewhere.yaml");
    topics
        .flat_map(|(name, text)| parse(&text).unwrap_or_else(|error| panic!("{name}: {error:#}")))
        .collect()
}

#[test]
fn every_witness_says_what_the_cases_say() {
    let (mut asked, mut wrong) = (0, Vec::new());
    for case in cases() {
        let (count, differences) = case
            .judge(&Ringfence::Here)
            .unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        asked += count;
        wrong.extend(differences.iter().map(ToString::to_string));
    }
    assert!(asked > 200, "{asked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words by which the document names its lines: in bold in a list, or the first cell of a table.
fn lines_of_the_document() -> Vec<String> {
    let document = std::fs::read_to_string(repository().join("docs/semantics.md")).unwrap();
    let name = |line: &str| {
        let cell = |rest: &str| rest.split(" | ").next().map(|cell| cell.trim().to_owned());
        match (line.strip_prefix("- **"), line.strip_prefix("| ")) {
            (Some(rest), _) => rest.split("**").next().map(str::to_owned),
            (None, Some(rest)) => cell(rest).filter(|cell| !["Case", "Unreadable"].contains(&cell.as_str())),
            (None, None) => None,
        }
    };
    document.lines().filter_map(name).collect()
}

#[test]
fn every_line_of_the_document_is_covered_and_nothing_else_is_said_to_be() {
    let lines = lines_of_the_document();
    assert!(lines.len() > 25, "{lines:?}");
    let (_, elsewhere) = files()
        .into_iter()
        .find(|(name, _)| name == "elsewhere.yaml")
        .unwrap();
    let elsewhere: BTreeMap<String, Vec<String>> = serde_yaml_ng::from_str(&elsewhere).unwrap();
    let cases = cases();
    let covered: BTreeSet<&String> = cases
        .iter()
        .flat_map(|case| &case.covers)
        .chain(elsewhere.keys())
        .collect();
    let missing: Vec<&String> = lines.iter().filter(|line| !covered.contains(line)).collect();
    assert!(missing.is_empty(), "no case covers {missing:?}");
    let unknown: Vec<&&String> = covered.iter().filter(|line| !lines.contains(line)).collect();
    assert!(unknown.is_empty(), "docs/semantics.md has no line {unknown:?}");
    for test in elsewhere.values().flatten() {
        let (file, function) = test.split_once("::").unwrap();
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        assert!(text.contains(&format!("fn {function}(")), "{test} is not there");
    }
}

#[test]
fn names_of_cases_are_unique() {
    let cases = cases();
    let names: BTreeSet<&String> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
}
