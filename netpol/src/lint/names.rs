//! The names that findings give to what is in view.

use crate::cluster::{Key, Pod};

/// How many of many are named.
const SHOWN: usize = 3;

/// The first few of many names.
pub(super) fn some_of<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let mut shown = String::new();
    for (index, name) in names.by_ref().take(SHOWN).enumerate() {
        if index > 0 {
            shown.push_str(", ");
        }
        shown.push_str(name.as_ref());
    }
    let more = names.count();
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    shown
}

/// What a pod is called among people: its owner, if it has one.
pub(super) fn called(key: &Key, pod: &Pod) -> String {
    match &pod.owner {
        Some(owner) => format!("{}/{owner}", key.namespace),
        None => key.to_string(),
    }
}

/// A number with what is counted.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
