//! What a check has to say: data, for the webhook, the command line and reports alike to render.
//!
//! A finding is no error: it names the object and the field, what is found there, what happens because of it, and
//! the mend.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::Key;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is taken, and whoever sent it is told.
    Warn,
    /// The object is refused.
    Deny,
}

/// One thing that is wrong, or probably wrong, with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `NP…` for policies, `LB…` for labels, `LS…` for label standards; never reused for another meaning.
    pub code: &'static str,
    pub severity: Severity,
    pub object: Object,
    /// As `spec.ingress[0].from[1].podSelector`.
    pub field: String,
    /// What is there.
    pub message: String,
    /// What happens because of it.
    pub consequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<Mend>,
}

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    pub kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
}

/// What to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mend {
    /// In words, as a request: "write …".
    pub text: String,
    /// As it would stand in the object, where one can say it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<Value>,
    /// The changes that do it, in this order, where there is one way to mend it that is surely meant; a program may make them unasked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<Fix>,
}

/// One change of an object. Fields are named as in [`Finding::field`]: parts joined by dots, indices in brackets. A key may
/// have dots itself (`matchLabels.example.com/team`): of the keys that are there, the longest that fits is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum Fix {
    /// Writes another value where one stands.
    Replace { field: String, value: Value },
    /// Takes away a key with what stands under it, or an item of a list.
    Remove { field: String },
    /// Writes a key that is not there yet into the map `field`.
    Insert {
        field: String,
        key: String,
        value: Value,
    },
    /// Writes an item behind those of the list `field`.
    Append { field: String, value: Value },
    /// Gives a key another name, and leaves what stands under it.
    Rename { field: String, key: String },
}

impl Fix {
    /// Where the change is made.
    pub fn field(&self) -> &str {
        match self {
            Self::Replace { field, .. }
            | Self::Remove { field }
            | Self::Insert { field, .. }
            | Self::Append { field, .. }
            | Self::Rename { field, .. } => field,
        }
    }
}

impl Object {
    pub fn new(kind: &'static str, key: &Key) -> Self {
        Self {
            kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.kind,
            Key::new(self.namespace.as_str(), self.name.as_str())
        )
    }
}

impl Mend {
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            yaml: None,
            fixes: Vec::new(),
        }
    }

    pub fn yaml(text: impl Into<String>, yaml: Value) -> Self {
        Self {
            text: text.into(),
            yaml: Some(yaml),
            fixes: Vec::new(),
        }
    }

    /// The same mend, with changes that surely do what was meant.
    #[must_use]
    pub fn sure(mut self, fixes: impl IntoIterator<Item = Fix>) -> Self {
        self.fixes.extend(fixes);
        self
    }
}

impl Finding {
    /// Everything on one line, for places that take no line breaks: admission warnings (the API server drops a
    /// warning that has a control character), logs, editors.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} {}: {}; {}",
            self.code, self.field, self.message, self.consequence
        );
        if let Some(mend) = &self.mend {
            let _ = write!(line, "; mend: {}", mend.text); // writing to a String cannot fail
            if let Some(yaml) = &mend.yaml {
                let _ = write!(line, ": {}", flow(yaml));
            }
        }
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

/// Several lines, the mend as YAML that can be copied.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.code, self.field)?;
        writeln!(f, "  found:       {}", self.message)?;
        write!(f, "  consequence: {}", self.consequence)?;
        if let Some(mend) = &self.mend {
            write!(f, "\n  mend:        {}", mend.text)?;
            if let Some(yaml) = &mend.yaml {
                let block = serde_yaml_ng::to_string(yaml).unwrap_or_else(|_| flow(yaml));
                for line in block.lines() {
                    write!(f, "\n    {line}")?;
                }
            }
        }
        Ok(())
    }
}

/// YAML on one line.
pub fn flow(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Object(map) => format!(
            "{{{}}}",
            list(
                map.iter()
                    .map(|(key, value)| format!("{}: {}", scalar(key), flow(value)))
                    .collect()
            )
        ),
        Value::Array(items) => format!("[{}]", list(items.iter().map(flow).collect())),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A string, quoted unless every reader of YAML takes it for one as it stands.
fn scalar(text: &str) -> String {
    /// What YAML 1.1, the API server's, reads as something else than a string.
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    if starts && plain && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finding(message: &str, yaml: Value) -> Finding {
        Finding {
            code: "NP000",
            severity: Severity::Warn,
            object: Object::new("NetworkPolicy", &Key::new("shop", "web")),
            field: "spec.ingress[0]".to_owned(),
            message: message.to_owned(),
            consequence: "nobody comes in".to_owned(),
            mend: Some(Mend::yaml("write", yaml)),
        }
    }

    #[test]
    fn a_line_has_no_control_character_whatever_was_found() {
        let line = finding("a\nb\u{7}", json!({"k": "v\n"})).line();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }

    #[test]
    fn a_mend_reads_back_as_what_it_says_on_one_line_and_on_several() {
        let tricky =
            json!([{"y": "n", "on": "1", "a/b.c": "yes", "l": ["true", "x: y", "", "0x1f", "~", "1e3"]}]);
        assert_eq!(serde_yaml_ng::from_str::<Value>(&flow(&tricky)).unwrap(), tricky);
        for word in ["y", "n", "on", "off", "yes", "no"] {
            assert_eq!(scalar(word), format!("{word:?}"));
        }
        let shown = finding("x", tricky.clone()).to_string();
        let block: String = shown.lines().skip(4).map(|line| format!("{line}\n")).collect();
        assert_eq!(serde_yaml_ng::from_str::<Value>(&block).unwrap(), tricky);
    }

    #[test]
    fn the_long_form_names_code_field_consequence_and_mend() {
        insta::assert_snapshot!(finding("a peer", json!([{"podSelector": {"matchLabels": {"app": "web"}}}])), @r"
        NP000 spec.ingress[0]
          found:       a peer
          consequence: nobody comes in
          mend:        write
            - podSelector:
                matchLabels:
                  app: web
        ");
    }
}
