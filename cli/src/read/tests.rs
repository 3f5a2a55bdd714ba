//! What reading makes of good and bad input.

use super::*;

fn read_one(text: &str) -> Reading {
    read_texts([("a.yaml", text)], &Options::default())
}

fn problems(text: &str) -> Vec<String> {
    read_one(text).problems.iter().map(ToString::to_string).collect()
}

fn pods(reading: &Reading) -> Vec<String> {
    let pods = reading.cluster.pods.iter();
    pods.map(|(key, _)| key.to_string()).collect()
}

#[test]
fn documents_lists_and_workloads_are_taken_and_other_kinds_counted() {
    let reading = read_one(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n\
         ---\n# nothing\n---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: x}, spec: {selector: {}, template: {}}}\n\
         ---\n{apiVersion: crd.projectcalico.org/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {selector: all()}}\n",
    );
    assert_eq!(reading.problems, []);
    assert_eq!(pods(&reading), ["default/a", "x/d[Deployment]"]);
    assert_eq!(reading.taken, 2);
    let passed: Vec<_> = reading
        .passed_over
        .iter()
        .map(|(kind, n)| (kind.as_str(), *n))
        .collect();
    assert_eq!(passed, [("ConfigMap", 1), ("NetworkPolicy", 1)]);
}

#[test]
fn items_of_a_typed_list_need_no_kind_wherever_the_list_says_its_own() {
    for text in [
        "kind: PodList\napiVersion: v1\nitems: [{metadata: {name: a}}]",
        "items: [{metadata: {name: a}}]\nkind: PodList\napiVersion: v1",
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"a"}}]}"#,
    ] {
        let reading = read_one(text);
        assert_eq!(
            (pods(&reading), reading.problems),
            (vec!["default/a".to_owned()], vec![]),
            "{text}"
        );
    }
}

#[test]
fn bad_input_is_named_with_file_line_and_reason() {
    let table = [
        ("a: 1\n", "a.yaml:1: has no kind, so it is no Kubernetes object"),
        (
            "\n- x\n",
            "a.yaml:2: is no Kubernetes object: a map with apiVersion and kind",
        ),
        ("kind: Pod\n", "a.yaml:1: the Pod has no apiVersion"),
        (
            "apiVersion: v1\nkind: Pod\n",
            "a.yaml:1: the Pod has no metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    on: x\n    app: 1\n",
            "a.yaml:7: Pod a: metadata.labels.app: invalid type: integer `1`, expected a string",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  ingress:\n  - ports:\n    - port: 0\n",
            "a.yaml:7: NetworkPolicy shop/p: spec.ingress[0].ports[0].port: port 0 is not between 1 and 65535; the API server would refuse this policy",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}",
            "a.yaml:3: Pod default/a is defined twice, first at a.yaml:1; only one of the two can be meant",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(
        problems("a: [1\n").concat().starts_with("a.yaml:"),
        "{:?}",
        problems("a: [1\n")
    );
    assert!(
        problems("\u{0}").concat().starts_with("a.yaml:1: "),
        "{:?}",
        problems("\u{0}")
    );
}

#[test]
fn nulls_mean_what_they_mean_to_an_api_server() {
    let reading = read_one(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, labels: }\nspec:\n  podSelector: {matchLabels: {a: }}\n  ingress: [null]\n  egress:\n",
    );
    assert_eq!(reading.problems, []);
    let policy = reading.cluster.policies.values().next().unwrap();
    assert_eq!(policy.pods.to_string(), "a=");
    let rules = policy.ingress.as_deref().unwrap();
    assert_eq!(
        (rules.len(), &rules[0].peers),
        (1, &ringfence_netpol::policy::Peers::Any)
    );
    assert!(policy.egress.is_none());
}

#[test]
fn what_is_good_is_read_beside_what_is_bad() {
    let reading = read_one("a: 1\n---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\nb: [\n");
    assert_eq!((pods(&reading).len(), reading.problems.len()), (1, 2));
}

#[test]
fn a_file_that_a_link_leads_to_as_well_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";
    std::fs::write(path("a.yaml"), pod).unwrap();
    std::os::unix::fs::symlink(path("a.yaml"), path("in-force.yaml")).unwrap();
    let sources = ["", "a.yaml"].map(|name| path(name).to_string_lossy().into_owned());
    let reading = read(&sources, &Options::default());
    assert_eq!(
        (reading.taken, reading.problems.len()),
        (1, 0),
        "{:?}",
        reading.problems
    );
}

#[test]
fn folders_are_read_with_all_below_and_special_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pod = |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
    std::fs::create_dir_all(path("sub/deep")).unwrap();
    std::fs::create_dir_all(path(".hidden")).unwrap();
    std::fs::write(path("a.yaml"), pod("a")).unwrap();
    std::fs::write(
        path("sub/deep/b.json"),
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"}}"#,
    )
    .unwrap();
    std::fs::write(path("notes.txt"), "no manifest").unwrap();
    std::fs::write(path(".hidden/c.yaml"), "no: manifest").unwrap();
    std::fs::write(path("large.yml"), "#".repeat(3000)).unwrap();
    std::fs::write(path("latin.yaml"), b"a: 1\nb: \xe4\n").unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe.yaml"))
        .status();
    std::os::unix::fs::symlink(folder.path(), path("sub/loop")).unwrap();
    std::os::unix::fs::symlink("/nowhere", path("dangling.yaml")).unwrap();
    let options = Options {
        max_file_size: 2000,
        ..Options::default()
    };
    let reading = read(&[folder.path().to_string_lossy().into_owned()], &options);
    assert_eq!(pods(&reading), ["default/a", "default/b"]);
    let prefix = format!("{}/", folder.path().display());
    let problems: Vec<String> = reading
        .problems
        .iter()
        .map(|problem| {
            problem
                .to_string()
                .replace(&prefix, "")
                .replace(&prefix[..prefix.len() - 1], ".")
        })
        .collect();
    let starts = |text: &str| problems.iter().any(|problem| problem.starts_with(text));
    assert!(starts("dangling.yaml: "), "{problems:#?}");
    assert!(starts("large.yml: is larger than 0 MiB"), "{problems:#?}");
    assert!(starts("latin.yaml: is no UTF-8 text (line 2)"), "{problems:#?}");
    assert!(starts("sub/loop: a link back to ."), "{problems:#?}");
    if made.is_ok_and(|status| status.success()) {
        assert!(starts("pipe.yaml: is no regular file"), "{problems:#?}");
    }
    assert!(
        read(&["/no/such/folder".to_owned()], &options).problems[0]
            .reason
            .contains("No such file")
    );
}
