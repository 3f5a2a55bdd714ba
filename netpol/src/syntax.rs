//! What the API server takes for a name, by Kubernetes's rules.

/// A label's key: a name of at most 63 characters, which may follow a DNS name and a slash.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_qualified(key),
        Some((prefix, name)) => is_dns_name(prefix) && is_qualified(name),
    }
}

/// A label's value: as the name in a key, or empty.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

/// A port's name (IANA's rule): at most 15 of `a-z`, `0-9` and `-`, with a letter, and no `-` at an end or beside another.
pub fn is_port_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_qualified(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(allowed)
}

/// A DNS subdomain, as most objects are named: at most 253 characters, in parts of `a-z`, `0-9` and inner `-`.
pub fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_the_api_server_tells_them() {
        for key in ["a", "A.b_c-1", "app.kubernetes.io/name", "x/y", &"k".repeat(63)] {
            assert!(is_label_key(key), "{key}");
        }
        for key in [
            "",
            "-a",
            "a-",
            "a b",
            "a/b/c",
            "/a",
            "a/",
            "A.b/c",
            "-x/y",
            "a..b/c",
            &"k".repeat(64),
        ] {
            assert!(!is_label_key(key), "{key}");
        }
        assert!(
            is_label_value("") && is_label_value("x.Y_1") && !is_label_value("x y") && !is_label_value("-")
        );
        for name in ["http", "8a", "http-alt", "abcdefghijklmno"] {
            assert!(is_port_name(name), "{name}");
        }
        for name in ["", "80", "a_b", "HTTP", "a--b", "-a", "a-", "abcdefghijklmnop"] {
            assert!(!is_port_name(name), "{name}");
        }
    }
}
