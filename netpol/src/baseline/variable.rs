//! Variables in the values of a template: `${namespace.name}`, `${namespace.labels.KEY}`, `${namespace.annotations.KEY}`.

use crate::cluster::Namespace;

/// A text with variables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Name,
    Label(String),
    Annotation(String),
}

/// Why a text with variables cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unknown variable ${{{name}}}; did you mean ${{{nearest}}}?")]
    Unknown { name: String, nearest: &'static str },
    #[error("${{{0}}} names no key; write for example ${{{0}team}}")]
    NoKey(String),
    #[error("${{ without a closing }}")]
    Unclosed,
    #[error("variables can stand only in the values of labels and in ipBlock")]
    NotHere,
}

/// A variable that has no value in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unset {
    #[error("the namespace has no label {0}")]
    Label(String),
    #[error("the namespace has no annotation {0}")]
    Annotation(String),
}

const NAME: &str = "namespace.name";
const LABELS: &str = "namespace.labels.";
const ANNOTATIONS: &str = "namespace.annotations.";

impl Text {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, variable)) = rest.split_once("${") {
            let (name, behind) = variable.split_once('}').ok_or(Error::Unclosed)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Variable(Variable::parse(name)?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub(super) fn fill(&self, name: &str, namespace: &Namespace) -> Result<String, Unset> {
        let mut text = String::new();
        for part in &self.0 {
            text.push_str(match part {
                Part::Literal(literal) => literal,
                Part::Variable(Variable::Name) => name,
                Part::Variable(Variable::Label(key)) => namespace
                    .labels
                    .get(key)
                    .ok_or_else(|| Unset::Label(key.clone()))?,
                Part::Variable(Variable::Annotation(key)) => namespace
                    .annotations
                    .get(key)
                    .ok_or_else(|| Unset::Annotation(key.clone()))?,
            });
        }
        Ok(text)
    }
}

impl Variable {
    fn parse(name: &str) -> Result<Self, Error> {
        let key = |key: &str| match key {
            "" => Err(Error::NoKey(name.to_owned())),
            key => Ok(key.to_owned()),
        };
        if name == NAME {
            Ok(Self::Name)
        } else if let Some(label) = name.strip_prefix(LABELS) {
            Ok(Self::Label(key(label)?))
        } else if let Some(annotation) = name.strip_prefix(ANNOTATIONS) {
            Ok(Self::Annotation(key(annotation)?))
        } else {
            // Judged by the first two levels: the key behind them is the user's own.
            let stem = name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
            let distance = |known: &&str| strsim::osa_distance(&stem, known.trim_end_matches('.'));
            let nearest = [NAME, LABELS, ANNOTATIONS]
                .into_iter()
                .min_by_key(distance)
                .unwrap_or(NAME);
            let nearest = match nearest {
                LABELS => "namespace.labels.KEY",
                ANNOTATIONS => "namespace.annotations.KEY",
                _ => NAME,
            };
            Err(Error::Unknown {
                name: name.to_owned(),
                nearest,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace {
            labels: [("example.com/team".to_owned(), "red".to_owned())].into(),
            annotations: [("office".to_owned(), "192.0.2.0/24".to_owned())].into(),
            ..Namespace::default()
        }
    }

    fn fill(text: &str) -> Result<String, String> {
        let parsed = Text::parse(text).map_err(|e| e.to_string())?;
        parsed.fill("shop", &namespace()).map_err(|e| e.to_string())
    }

    #[test]
    fn variables_are_filled_in_wherever_they_stand() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("${namespace.name}", "shop"),
            (
                "a-${namespace.name}-${namespace.labels.example.com/team}-z",
                "a-shop-red-z",
            ),
            ("${namespace.annotations.office}", "192.0.2.0/24"),
            ("$ {} $5", "$ {} $5"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let mut namespace = namespace();
        namespace
            .labels
            .insert("evil".to_owned(), "${namespace.name}".to_owned());
        let text = Text::parse("${namespace.labels.evil}").unwrap();
        assert_eq!(text.fill("shop", &namespace).as_deref(), Ok("${namespace.name}"));
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_known_one() {
        for (text, expected) in [
            (
                "${namespace.nmae}",
                "unknown variable ${namespace.nmae}; did you mean ${namespace.name}?",
            ),
            (
                "${name}",
                "unknown variable ${name}; did you mean ${namespace.name}?",
            ),
            (
                "${namespace.label.team}",
                "unknown variable ${namespace.label.team}; did you mean ${namespace.labels.KEY}?",
            ),
            (
                "${namespace.labels.}",
                "${namespace.labels.} names no key; write for example ${namespace.labels.team}",
            ),
            ("${namespace.name", "${ without a closing }"),
        ] {
            assert_eq!(fill(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_variable_without_a_value_is_named() {
        assert_eq!(
            fill("${namespace.labels.tier}"),
            Err("the namespace has no label tier".to_owned())
        );
    }
}
