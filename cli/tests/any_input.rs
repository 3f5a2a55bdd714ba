//! Whatever is read, reading ends, with no panic and in bounded time; and what is written like YAML by other writers is read as what it was.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test

use proptest::prelude::*;
use ringfence_cli::read::{Options, read_texts};
use ringfence_netpol::connections::{self, Connections};

const SHOP: &str = include_str!("shop.yaml");

/// Pieces that YAML's grammar stumbles over when they meet.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a: "),
        Just("- "),
        Just("? "),
        Just(": "),
        Just("&x "),
        Just("*x"),
        Just("<<: "),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(", "),
        Just("\n"),
        Just("\n  "),
        Just("\n---\n"),
        Just("\n...\n"),
        Just("|\n"),
        Just(">-\n"),
        Just("\""),
        Just("'"),
        Just("#"),
        Just("!!str "),
        Just("%YAML 1.2\n"),
        Just("\t"),
        Just("~"),
        Just("kind: Pod"),
        Just("items:"),
        Just("apiVersion: v1\n"),
        Just("\u{feff}"),
        Just("é"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![soup(), any::<String>()]) {
        read_texts([("any.yaml", text.as_str())], &Options::default());
    }

    #[test]
    fn a_manifest_with_an_edit_is_read_or_refused(at in 0..SHOP.len(), remove in 0..40_usize, insert in soup()) {
        let mut text = SHOP.to_owned();
        let start = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (start + remove..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.replace_range(start..end, &insert);
        let reading = read_texts([("edited.yaml", text.as_str())], &Options::default());
        // Whatever was made of it can be worked with.
        let connections = Connections::of(&reading.cluster, connections::Options::default());
        prop_assert!(connections.iter().count() < 10_000);
        for source in &reading.policies {
            source.node.line_of("spec.ingress[0].from[0].podSelector");
        }
    }

    #[test]
    fn json_is_read_as_what_it_says(value in json()) {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": {"v": value.to_string()}}, "x": value});
        for text in [serde_json::to_string(&object).unwrap(), serde_json::to_string_pretty(&object).unwrap()] {
            let reading = read_texts([("a.json", text.as_str())], &Options::default());
            prop_assert_eq!((reading.problems, reading.taken), (vec![], 1), "{}", text);
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}
