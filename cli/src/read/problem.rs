//! Why some input cannot be used: where, what, and the reason.

use std::fmt;

/// Something that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named or found; `-` for standard input.
    pub file: String,
    pub line: Option<usize>,
    /// As `NetworkPolicy shop/web`, if it is known.
    pub object: Option<String>,
    /// As `spec.ingress[0].ports[0].port`.
    pub field: Option<String>,
    pub reason: String,
}

impl Problem {
    pub fn of_file(file: &str, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            object: None,
            field: None,
            reason: reason.into(),
        }
    }

    pub fn at(file: &str, line: usize, reason: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::of_file(file, reason)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
