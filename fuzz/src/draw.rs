//! Choices out of bytes. Where the bytes are at an end, every choice is the first: an input can be cut short and still means something.

use arbitrary::Unstructured;
use serde_json::{Map, Value, json};

/// Makes choices.
pub struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether the bytes are at an end.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        self.0.int_in_range(0..=most).unwrap_or(0)
    }

    /// True in one of `of` cases.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.up_to(of - 1) + 1 == of
    }

    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.up_to(choices.len() - 1)].clone()
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn number(&mut self) -> i32 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Up to `most` of something.
    pub fn list<T>(&mut self, most: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.up_to(most)).map(|_| item(self)).collect()
    }

    /// Any text of at most `most` bytes.
    pub fn text(&mut self, most: usize) -> String {
        let length = self.up_to(most);
        let bytes = self.0.bytes(length.min(self.0.len())).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// An object with those of the fields that are drawn.
    pub fn fields<const N: usize>(&mut self, fields: [(&str, Option<Value>); N]) -> Value {
        let present = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(present.collect::<Map<_, _>>())
    }

    /// Something, or nothing in one of `of` cases.
    pub fn unless_one_in<T>(&mut self, of: usize, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(of) { None } else { Some(some(self)) }
    }
}

/// Label keys and values that objects share, so that selectors meet what they select.
pub const KEYS: [&str; 3] = ["app", "tier", "example.com/zone"];
pub const VALUES: [&str; 3] = ["a", "b", ""];
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub const PORT_NAMES: [&str; 2] = ["web", "dns"];
pub const PORTS: [u16; 6] = [53, 80, 81, 8080, 1, 65535];
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Labels out of those that are shared.
pub fn labels(draw: &mut Draw<'_>) -> Map<String, Value> {
    let pairs = draw.list(3, |draw| (draw.of(&KEYS).to_owned(), json!(draw.of(&VALUES))));
    pairs.into_iter().collect()
}

/// A selector that an API server takes.
pub fn selector(draw: &mut Draw<'_>) -> Value {
    let match_labels = draw.unless_one_in(3, labels);
    let expressions = draw.unless_one_in(2, |draw| draw.list(3, expression));
    draw.fields([
        ("matchLabels", match_labels.map(Value::Object)),
        ("matchExpressions", expressions.map(Value::Array)),
    ])
}

fn expression(draw: &mut Draw<'_>) -> Value {
    let key = draw.of(&KEYS);
    match draw.up_to(3) {
        0 => json!({"key": key, "operator": "Exists"}),
        1 => json!({"key": key, "operator": "DoesNotExist"}),
        other => {
            let mut values = draw.list(2, |draw| draw.of(&VALUES));
            values.push(draw.of(&VALUES));
            json!({"key": key, "operator": if other == 2 { "In" } else { "NotIn" }, "values": values})
        }
    }
}
