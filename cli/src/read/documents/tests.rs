//! Documents, their lines and their limits.

use super::*;
use serde_json::json;

fn all(text: &str) -> Vec<Result<Json, Fault>> {
    let mut documents = Documents::of(text);
    std::iter::from_fn(|| documents.next_document(&mut |_, _| {}))
        .map(|document| document.map(Node::into_json))
        .collect()
}

fn fault(text: &str) -> String {
    let fault = all(text).into_iter().find_map(Result::err).unwrap();
    format!("{}: {}", fault.line, fault.reason)
}

#[test]
fn documents_aliases_and_merges_are_read() {
    let text = "a: &x {k: 1}\nb: *x\n---\nbase: &b {p: 1, q: 2}\nc:\n  <<: *b\n  q: 3\n---\n";
    assert_eq!(
        all(text),
        [
            Ok(json!({"a": {"k": 1}, "b": {"k": 1}})),
            Ok(json!({"base": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}})),
            Ok(Json::Null),
        ]
    );
}

#[test]
fn json_is_read_with_tabs_long_keys_and_escapes() {
    let text = format!(
        "{{\n\t\"a\":\"\\ud83d\\ude00\\/\",\n\t\"{}\": [1, null]\n}}",
        "k".repeat(2000)
    );
    assert_eq!(all(&text), [Ok(json!({"a": "😀/", "k".repeat(2000): [1, null]}))]);
}

#[test]
fn the_documents_after_a_fault_are_read() {
    let read = all("a: 1\n---\nb: [\n---\nc: 3\n");
    assert_eq!(
        (read.len(), &read[0], &read[2]),
        (3, &Ok(json!({"a": 1})), &Ok(json!({"c": 3})))
    );
    assert!(read[1].is_err());
}

#[test]
fn items_are_handed_out_with_what_stood_before_them() {
    let mut seen = Vec::new();
    let mut documents = Documents::of("kind: PodList\nitems:\n- a: 1\n- a: 2\napiVersion: v1\n");
    let root = documents.next_document(&mut |root, item| {
        seen.push((
            root.get("kind").and_then(Node::text).unwrap().to_owned(),
            item.line(),
        ));
    });
    assert_eq!(seen, [("PodList".to_owned(), 3), ("PodList".to_owned(), 4)]);
    let root = root.unwrap().unwrap().into_json();
    assert_eq!(root, json!({"kind": "PodList", "items": [], "apiVersion": "v1"}));
}

#[test]
fn what_would_cost_without_bound_is_refused() {
    let deep = "[".repeat(100_000);
    assert!(fault(&deep).starts_with("1: "), "{}", fault(&deep));
    let nested: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(fault(&nested).contains("limit"), "{}", fault(&nested));
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    assert!(
        fault(&laughs).contains("anchors and aliases make more than"),
        "{}",
        fault(&laughs)
    );
    assert!(fault("a: &a [*a]").contains("inside of what it stands for"));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert_eq!(
        fault("spec:\n  ports: 1\n  x: 2\n  ports: 3\n"),
        "4: the key \"ports\" stands twice in one map, first on line 2; one of the two would be lost"
    );
}

#[test]
fn the_line_of_a_field_is_that_of_its_key_or_item() {
    let text = "metadata:\n  labels:\n    app.kubernetes.io/name: x\nspec:\n  ingress:\n  - from:\n    - a: 1\n    - podSelector:\n        b: 2\n";
    let root = Documents::of(text)
        .next_document(&mut |_, _| {})
        .unwrap()
        .unwrap();
    let table = [
        ("spec.ingress[0].from[1].podSelector", 8),
        ("spec.ingress[0].from[0]", 7),
        ("spec.ingress[0]", 6),
        ("spec.ingress[0].ports[0].port", 6),
        ("spec.egress", 4),
        ("metadata.labels.app.kubernetes.io/name", 3),
        ("", 1),
    ];
    for (path, line) in table {
        assert_eq!(root.line_of(path), line, "{path}");
    }
}

#[test]
fn every_value_knows_the_bytes_that_it_stands_in() {
    let text = "é: {k: [1, 'two']}  # why\nlist:\n- a: x y\n  b: \"q\"\n\n- |\n  long\nz: &a [1]\n";
    let root = Documents::of(text)
        .next_document(&mut |_, _| {})
        .unwrap()
        .unwrap();
    fn walk<'t>(node: &Node, text: &'t str, seen: &mut Vec<&'t str>) {
        seen.push(&text[node.place.start..node.place.end]);
        match &node.value {
            Value::Scalar(_) => {}
            Value::List(list) => list.iter().for_each(|node| walk(node, text, seen)),
            Value::Map(entries) => {
                for entry in entries {
                    seen.push(&text[entry.place.start..entry.place.end]);
                    walk(&entry.node, text, seen);
                }
            }
        }
    }
    let mut seen = Vec::new();
    walk(&root, text, &mut seen);
    insta::assert_debug_snapshot!(seen);
}
