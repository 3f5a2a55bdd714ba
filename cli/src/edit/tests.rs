//! Changes in every form of text, and that they say what they should.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn replace(field: &str, value: Json) -> Fix {
    Fix::Replace {
        field: field.to_owned(),
        value,
    }
}

fn remove(field: &str) -> Fix {
    Fix::Remove {
        field: field.to_owned(),
    }
}

fn insert(field: &str, key: &str, value: Json) -> Fix {
    Fix::Insert {
        field: field.to_owned(),
        key: key.to_owned(),
        value,
    }
}

fn append(field: &str, value: Json) -> Fix {
    Fix::Append {
        field: field.to_owned(),
        value,
    }
}

fn rename(field: &str, key: &str) -> Fix {
    Fix::Rename {
        field: field.to_owned(),
        key: key.to_owned(),
    }
}

/// The first object of the text, changed.
fn changed(text: &str, fix: Fix) -> Result<String, Unfit> {
    let start = objects(text).unwrap()[0].place.start;
    let (changed, mut unfit) = apply(
        text,
        &[Change {
            start,
            fixes: vec![fix],
        }],
    )?;
    match unfit.pop() {
        Some((_, reason)) => Err(reason),
        None => Ok(changed),
    }
}

#[test]
fn block_text_keeps_its_comments_order_and_indentation() {
    let text = "\
# head
spec:   # of it
    rules:
    # the first
    - from:   # who
      - app: web   # them
        tier: a
      - app: api
      ports: []
    # the second
    - from: [{app: 'x'}]  # flow
# end
";
    let table = [
        (
            replace("spec.rules[0].from[0].app", json!("on")),
            text.replace("app: web ", "app: \"on\" "),
        ),
        (
            replace("spec.rules[1].from[0].app", json!("it is")),
            text.replace("'x'", "'it is'"),
        ),
        (
            rename("spec.rules[0].from", "to"),
            text.replace("- from:   # who", "- to:   # who"),
        ),
        (
            remove("spec.rules[0].from[0].tier"),
            text.replace("        tier: a\n", ""),
        ),
        (
            remove("spec.rules[0].from[1]"),
            text.replace("      - app: api\n", ""),
        ),
        (
            remove("spec.rules[0].ports"),
            text.replace("      ports: []\n", ""),
        ),
        (
            insert(
                "spec.rules[0].from[0]",
                "more",
                json!({"a": ["b", {"c": 1, "d": null}]}),
            ),
            text.replace(
                "tier: a\n",
                "tier: a\n        more:\n          a:\n          - b\n          - c: 1\n            d: null\n",
            ),
        ),
        (
            insert("spec.rules[1].from[0]", "b", json!([1])),
            text.replace("'x'}", "'x', b: [1]}"),
        ),
        (
            append("spec.rules[0].from", json!({"app": "new"})),
            text.replace("- app: api\n", "- app: api\n      - app: new\n"),
        ),
        (
            append("spec.rules[0].ports", json!({"port": 53})),
            text.replace("ports: []", "ports: [{port: 53}]"),
        ),
        (
            append("spec.rules", json!("x")),
            text.replace("# flow\n", "# flow\n    - x\n"),
        ),
    ];
    for (fix, expected) in table {
        assert_eq!(changed(text, fix.clone()).unwrap(), expected, "{fix:?}");
    }
}

#[test]
fn json_stays_json() {
    let text = "{\n  \"spec\": {\n    \"a\": [1, 2],\n    \"b\": {}\n  }\n}\n";
    let table = [
        (
            insert("spec", "c", json!({"k": "v"})),
            text.replace("{}\n", "{},\n    \"c\": {\"k\":\"v\"}\n"),
        ),
        (
            insert("spec.b", "k", json!("v")),
            text.replace("{}", "{\"k\": \"v\"}"),
        ),
        (append("spec.a", json!("x")), text.replace("2]", "2, \"x\"]")),
        (remove("spec.a[0]"), text.replace("1, ", "")),
        (remove("spec.b"), text.replace(",\n    \"b\": {}", "")),
        (rename("spec.a", "z"), text.replace("\"a\"", "\"z\"")),
        (replace("spec.a", json!(["y"])), text.replace("[1, 2]", "[\"y\"]")),
    ];
    for (fix, expected) in table {
        let found = changed(text, fix.clone()).unwrap();
        assert_eq!(found, expected, "{fix:?}");
        serde_json::from_str::<Json>(&found).unwrap();
    }
}

#[test]
fn the_last_of_a_kind_leaves_an_empty_one_behind() {
    let table = [
        ("a:\n- x\nb: 1\n", remove("a[0]"), "a: []\nb: 1\n"),
        ("a: {x: 1}\n", remove("a.x"), "a: {}\n"),
        ("a: [x]\n", remove("a[0]"), "a: []\n"),
        ("a:\n  x: 1  # why\n", remove("a.x"), "a: {}  # why\n"),
        ("- a:\n  - x:\n      1\n", remove("[0].a[0].x"), "- a:\n  - {}\n"),
    ];
    for (text, fix, expected) in table {
        assert_eq!(changed(text, fix).unwrap(), expected);
    }
    assert_eq!(
        changed("a:\n  # why\n  x: 1\n", remove("a.x")),
        Err(Unfit::Comment)
    );
}

#[test]
fn line_ends_of_windows_and_a_text_without_a_last_line_end_are_kept() {
    assert_eq!(
        changed("a:\r\n  b: 1\r\nc: 2\r\n", insert("a", "new", json!(1))).unwrap(),
        "a:\r\n  b: 1\r\n  new: 1\r\nc: 2\r\n"
    );
    assert_eq!(
        changed("a:\r\n  b: 1\r\n  c: 2\r\n", remove("a.b")).unwrap(),
        "a:\r\n  c: 2\r\n"
    );
    assert_eq!(
        changed("a:\n- b", append("a", json!("c"))).unwrap(),
        "a:\n- b\n- c"
    );
}

#[test]
fn what_cannot_be_said_in_the_text_is_left_and_said() {
    let anchored = "a: &x {k: 1}\nb: *x\n";
    for field in ["a.k", "b.k"] {
        assert_eq!(changed(anchored, replace(field, json!(2))), Err(Unfit::Otherwise));
    }
    let merged = "a: &x {k: 1, l: 2}\nb: {<<: *x}\n";
    assert_eq!(changed(merged, remove("b.k")), Err(Unfit::Otherwise));
    let commented = "- a: 1\n  # of b\n  b: 2\n";
    assert_eq!(changed(commented, remove("[0].a")), Err(Unfit::Comment));
    assert_eq!(changed("a: 1\n", remove("b")), Err(Unfit::Absent("b".to_owned())));
    assert_eq!(
        changed("a: 1\nb: 2\n", rename("a", "b")),
        Err(Unfit::Present("b".to_owned()))
    );
    assert!(matches!(apply("a: [", &[]), Err(Unfit::Unreadable(_))));
}

#[test]
fn changes_of_several_objects_are_made_at_once_and_each_for_itself() {
    let text = "kind: List\nitems:\n- a: 1\n- a: &x 2\n  b: *x\n---\na: 3\n";
    let starts: Vec<usize> = objects(text)
        .unwrap()
        .iter()
        .map(|node| node.place.start)
        .collect();
    let change = |index: usize, fixes: Vec<Fix>| Change {
        start: starts[index],
        fixes,
    };
    let two = [
        change(3, vec![replace("a", json!(30))]),
        change(0, vec![rename("a", "z"), replace("z", json!(10))]),
        change(1, vec![replace("a", json!(20))]),
    ];
    let (changed, unfit) = apply(text, &two).unwrap();
    // The value would be gone together with its anchor.
    assert_eq!(unfit.len(), 1, "{unfit:?}");
    assert_eq!(unfit[0].0, 2);
    assert_eq!(
        changed,
        "kind: List\nitems:\n- z: 10\n- a: &x 2\n  b: *x\n---\na: 30\n"
    );
}

/// How a value is written: by a row of choices.
struct Writer {
    choices: Vec<u8>,
    at: usize,
}

impl Writer {
    fn choice(&mut self, among: u8) -> u8 {
        self.at += 1;
        self.choices[self.at % self.choices.len()] % among
    }

    fn scalar(&mut self, value: &Json) -> String {
        match value {
            Json::String(text) if self.choice(3) == 0 => format!("'{}'", text.replace('\'', "''")),
            Json::String(_) if self.choice(2) == 0 => value.to_string(),
            other => ringfence_netpol::finding::flow(other),
        }
    }

    fn flow(&mut self, value: &Json) -> String {
        match value {
            Json::Object(map) => {
                let entries: Vec<String> = map
                    .iter()
                    .map(|(key, value)| format!("{key}: {}", self.flow(value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Json::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{}]", items.join(", "))
            }
            scalar => self.scalar(scalar),
        }
    }

    fn comment(&mut self) -> String {
        if self.choice(3) == 0 {
            format!("  # note {}", self.at)
        } else {
            String::new()
        }
    }

    /// The value in lines, each ended; the first is where the writer is.
    fn block(&mut self, value: &Json, indent: usize, must: bool) -> String {
        let pad = " ".repeat(indent);
        match value {
            Json::Object(map) if !map.is_empty() && (must || self.choice(4) > 0) => {
                let mut text = String::new();
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        text += &pad;
                    }
                    let nested = match value {
                        Json::Object(map) => !map.is_empty(),
                        Json::Array(list) => !list.is_empty(),
                        _ => false,
                    };
                    if nested && self.choice(3) > 0 {
                        let more = if value.is_array() {
                            2 * usize::from(self.choice(2))
                        } else {
                            2
                        };
                        let inner = " ".repeat(indent + more);
                        text += &format!(
                            "{key}:{}\n{inner}{}",
                            self.comment(),
                            self.block(value, indent + more, more == 0)
                        );
                    } else {
                        text += &format!("{key}: {}{}\n", self.flow(value), self.comment());
                    }
                }
                text
            }
            Json::Array(items) if !items.is_empty() && (must || self.choice(4) > 0) => {
                let mut text = String::new();
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        text += &pad;
                    }
                    text += &format!("- {}", self.block(item, indent + 2, false));
                }
                text
            }
            other => format!("{}{}\n", self.flow(other), self.comment()),
        }
    }
}

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        "[a-z]{1,5}".prop_map(Json::from),
        Just(json!("no")),
        Just(json!("a b: c # d")),
        Just(json!("it's")),
        (0..100_i64).prop_map(Json::from),
        Just(json!(true)),
        Just(json!({})),
        Just(json!([])),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map("[a-d]{1,2}", inner, 0..3)
                .prop_map(|map| Json::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Every field of a value, by name.
fn fields(value: &Json, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{key}"), all);
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                fields(item, &format!("{path}[{index}]"), all);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_changed_text_says_what_it_should_and_keeps_every_comment(
        root in prop::collection::btree_map("[a-d]{1,2}", value(), 1..4),
        new in value(),
        choices in prop::collection::vec(any::<u8>(), 8..40),
        pick in any::<prop::sample::Index>(),
        kind in 0..5,
        json_text in prop::bool::weighted(0.2),
    ) {
        let root = Json::Object(root.into_iter().collect());
        let mut writer = Writer { choices, at: 0 };
        let text = match json_text {
            true => serde_json::to_string_pretty(&root).unwrap(),
            false => format!("# head\n{}# end\n---\nother: 1  # kept\n", writer.block(&root, 0, false)),
        };
        prop_assert_eq!(&says(&text).unwrap()[0], &root, "{}", text);
        let mut all = Vec::new();
        fields(&root, "", &mut all);
        let field = all[pick.index(all.len())].clone();
        let fix = match kind {
            0 => replace(&field, new),
            1 => remove(&field),
            2 => insert(&field, "new", new),
            3 => append(&field, new),
            _ => rename(&field, "renamed"),
        };
        let mut wanted = root.clone();
        let possible = place::change(&mut wanted, &fix);
        match (possible, changed(&text, fix.clone())) {
            (Err(expected), found) => prop_assert_eq!(found, Err(expected)),
            (Ok(()), Ok(found)) => {
                prop_assert_eq!(&says(&found).unwrap()[0], &wanted, "{:?}\n{}\n{}", fix, text, found);
                prop_assert!(!json_text || serde_json::from_str::<Json>(&found).is_ok(), "{}", found);
                let comments = |text: &str| text.matches("  # note").count();
                // What is taken away or replaced takes its own comments along.
                let lossy = matches!(fix, Fix::Remove { .. } | Fix::Replace { .. });
                prop_assert!(lossy || comments(&text) == comments(&found), "{:?}\n{}\n{}", fix, text, found);
            }
            (Ok(()), Err(reason)) => {
                // Only what is written around comments, or is the whole of something.
                let whole = field.is_empty() || matches!(fix, Fix::Remove { .. } | Fix::Replace { .. });
                prop_assert!(whole, "{:?}: {}\n{}", fix, reason, text);
            }
        }
    }
}
