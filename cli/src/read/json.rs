//! Where JSON and YAML differ: YAML's reader is used for both, since it knows the lines.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// JSON takes any character from U+0020 on within its strings, YAML not quite; these are written as escapes, which both
/// understand. Text that is no JSON stays as it is.
pub fn readable(text: &str) -> Cow<'_, str> {
    let is_odd = |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    let is_json =
        || text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if !text.contains(is_odd) || !is_json() {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match is_odd(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::super::{Options, read_texts};

    #[test]
    fn every_character_that_json_takes_is_read() {
        let value: String = (0x20..=0xffff).filter_map(char::from_u32).chain(['🦀']).collect();
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"v": value}}});
        let reading = read_texts([("a.json", pod.to_string().as_str())], &Options::default());
        assert_eq!(reading.problems, []);
        let pod = reading.cluster.pods.values().next().unwrap();
        assert!(pod.labels["v"] == value, "a character was lost");
    }
}
