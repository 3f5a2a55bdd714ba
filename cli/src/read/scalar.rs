//! What a plain scalar means: as the API's own clients read it, which is YAML 1.1.
//!
//! A reader of YAML 1.2 would take `yes` for a string where `kubectl apply` sends `true`, and so would accept what an API
//! server refuses.

use serde_json::{Number, Value as Json};

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Json::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Json::Bool(false)
        }
        _ => number(text).map_or_else(|| Json::String(text.to_owned()), Json::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let starts = text.as_bytes().first()?;
    if !(starts.is_ascii_digit() || matches!(starts, b'-' | b'+' | b'.')) {
        return None;
    }
    let bare = text.replace('_', "");
    integer(&bare).or_else(|| {
        let decimal = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
        let has_digit = bare.contains(|c: char| c.is_ascii_digit());
        if !has_digit || !bare.chars().all(decimal) {
            return None;
        }
        let value: f64 = bare.parse().ok()?;
        // What has no fraction is sent as an integer: `80.0` is port 80.
        let whole = value.fract() == 0.0 && value.abs() < 9e15;
        if whole {
            Some(Number::from(value as i64))
        } else {
            Number::from_f64(value)
        }
    })
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'b', ..] => (&digits[2..], 2),
        [b'0', b'o', ..] => (&digits[2..], 8),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    i64::try_from(value)
        .map(Number::from)
        .or_else(|_| u64::try_from(value).map(Number::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_kubectl_makes_of_them() {
        let table = [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("n", json!(false)),
            ("", json!(null)),
            ("~", json!(null)),
            ("80", json!(80)),
            ("-1", json!(-1)),
            ("0777", json!(511)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.0/8", json!("10.0.0.0/8")),
            ("-", json!("-")),
            ("--1", json!("--1")),
            ("0x", json!("0x")),
            ("2024-01-01", json!("2024-01-01")),
            ("app", json!("app")),
            ("08", json!(8)),
            ("80.0", json!(80)),
        ];
        for (text, value) in table {
            assert_eq!(resolve(text), value, "{text:?}");
        }
    }
}
