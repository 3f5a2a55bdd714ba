//! Label selectors: typed, canonical, comparable.
//!
//! The meaning is that of Kubernetes's `metav1.LabelSelector`: all requirements must hold; an empty selector
//! matches every object; `NotIn` and `DoesNotExist` match objects that lack the key.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use crate::syntax::{is_label_key, is_label_value};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector in canonical form: two selectors that were written with the same requirements in another
/// order, or `matchLabels` instead of an `In` with one value, are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Sorted, each once.
    requirements: Box<[Requirement]>,
}

/// One condition on one label key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    pub key: String,
    pub condition: Condition,
}

/// The four operators of a label selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The key is present with one of these values.
    In(Values),
    /// The key is absent, or present with none of these values.
    NotIn(Values),
    Exists,
    DoesNotExist,
}

/// The values of a requirement, sorted and each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Values(Box<[String]>);

impl Values {
    pub fn contains(&self, value: &str) -> bool {
        self.0.binary_search_by(|own| own.as_str().cmp(value)).is_ok()
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|value| other.contains(value))
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        !self.iter().any(|value| other.contains(value))
    }
}

impl std::ops::Deref for Values {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl FromIterator<String> for Values {
    fn from_iter<I: IntoIterator<Item = String>>(values: I) -> Self {
        Self(sorted(values.into_iter().collect()))
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// In the tightest form: a cluster has thousands of selectors, most of one requirement with one value.
fn sorted<T: Ord>(mut list: Vec<T>) -> Box<[T]> {
    list.sort_unstable();
    list.dedup();
    list.into_boxed_slice()
}

/// Why a selector cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct Error {
    /// The field within the selector, as `matchExpressions[0].values`.
    pub at: String,
    pub reason: Reason,
}

/// What is wrong with a field of a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("unknown operator {0:?}; use In, NotIn, Exists or DoesNotExist")]
    UnknownOperator(String),
    #[error("{0} needs at least one value")]
    NoValues(&'static str),
    #[error("{0} takes no values")]
    UnexpectedValues(&'static str),
    #[error("{0:?} is no label key; write NAME or DNS.PREFIX/NAME")]
    NotAKey(String),
    #[error("{0:?} is no label value; at most 63 letters, digits, '-', '_' and '.'")]
    NotAValue(String),
}

impl Selector {
    /// The selector that matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The selector with one `matchLabels` entry.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::from_iter([(key.into(), value.into())])
    }

    /// Reads Kubernetes's form. `None` for the API's "no selector" is the caller's to interpret.
    ///
    /// # Errors
    /// The first requirement that cannot be understood; a caller must then fail closed.
    pub fn parse(selector: &LabelSelector) -> Result<Self, Error> {
        check_names(selector)?;
        let mut requirements: Vec<Requirement> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Requirement::equals(key, value))
            .collect();
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let values: Values = expression.values.iter().flatten().cloned().collect();
            let condition = match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Condition::In(values),
                ("NotIn", false) => Condition::NotIn(values),
                ("Exists", true) => Condition::Exists,
                ("DoesNotExist", true) => Condition::DoesNotExist,
                ("In", true) => return Err(wrong(index, "values", Reason::NoValues("In"))),
                ("NotIn", true) => return Err(wrong(index, "values", Reason::NoValues("NotIn"))),
                ("Exists", false) => {
                    return Err(wrong(index, "values", Reason::UnexpectedValues("Exists")));
                }
                ("DoesNotExist", false) => {
                    return Err(wrong(index, "values", Reason::UnexpectedValues("DoesNotExist")));
                }
                (other, _) => {
                    let reason = Reason::UnknownOperator(other.to_owned());
                    return Err(wrong(index, "operator", reason));
                }
            };
            requirements.push(Requirement {
                key: expression.key.clone(),
                condition,
            });
        }
        let requirements = sorted(requirements);
        Ok(Self { requirements })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(labels))
    }

    /// Whether this selector has no requirement, and so matches every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it is sure that every object which this one selects is selected by the other too. What it takes several
    /// requirements together to see is not seen.
    pub fn implies(&self, other: &Self) -> bool {
        let met = |wanted: &Requirement| self.requirements.iter().any(|given| given.implies(wanted));
        other.requirements.iter().all(met)
    }

    /// The labels that it asks for with one value, as a Service's selector knows no others.
    pub fn equalities(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.requirements()
            .filter_map(|requirement| match &requirement.condition {
                Condition::In(values) => values
                    .first()
                    .map(|value| (requirement.key.clone(), value.clone())),
                _ => None,
            })
    }

    /// The requirements in canonical order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }
}

/// What is wrong with a field of an expression.
fn wrong(index: usize, field: &str, reason: Reason) -> Error {
    let at = format!("matchExpressions[{index}].{field}");
    Error { at, reason }
}

/// What the API server would not store can only be a mistake.
fn check_names(selector: &LabelSelector) -> Result<(), Error> {
    let check = |at: &dyn Fn() -> String, holds: bool, reason: fn(String) -> Reason, text: &str| match holds {
        true => Ok(()),
        false => Err(Error {
            at: at(),
            reason: reason(text.to_owned()),
        }),
    };
    for (key, value) in selector.match_labels.iter().flatten() {
        let at = || "matchLabels".to_owned();
        check(&at, is_label_key(key), Reason::NotAKey, key)?;
        let at = || format!("matchLabels.{key}");
        check(&at, is_label_value(value), Reason::NotAValue, value)?;
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = || format!("matchExpressions[{index}].key");
        check(
            &at,
            is_label_key(&expression.key),
            Reason::NotAKey,
            &expression.key,
        )?;
        for (value_index, value) in expression.values.iter().flatten().enumerate() {
            let at = || format!("matchExpressions[{index}].values[{value_index}]");
            check(&at, is_label_value(value), Reason::NotAValue, value)?;
        }
    }
    Ok(())
}

impl FromIterator<(String, String)> for Selector {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self {
            requirements: labels
                .into_iter()
                .map(|(k, v)| Requirement::equals(&k, &v))
                .collect(),
        }
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self {
            requirements: sorted(requirements.into_iter().collect()),
        }
    }
}

impl Requirement {
    fn equals(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            condition: Condition::In(Values(Box::new([value.to_owned()]))),
        }
    }

    /// Whether an object with these labels meets this requirement.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.condition {
            Condition::In(values) => value.is_some_and(|value| values.contains(value)),
            Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
        }
    }

    /// Whether everything that meets this requirement meets the other.
    fn implies(&self, other: &Self) -> bool {
        use Condition::{DoesNotExist, Exists, In, NotIn};
        self.key == other.key
            && match (&self.condition, &other.condition) {
                (In(given), In(wanted)) => given.is_subset(wanted),
                (In(_) | Exists, Exists) | (DoesNotExist, DoesNotExist | NotIn(_)) => true,
                (In(given), NotIn(wanted)) => given.is_disjoint(wanted),
                (NotIn(given), NotIn(wanted)) => wanted.is_subset(given),
                _ => false,
            }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// The form that `kubectl get -l` takes.
impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let list = |values: &Values| values.join(",");
        match &self.condition {
            Condition::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Condition::In(values) => write!(f, "{key} in ({})", list(values)),
            Condition::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Condition::Exists => write!(f, "{key}"),
            Condition::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: (!values.is_empty()).then(|| values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: None,
        }
    }

    fn matches(selector: &LabelSelector, pairs: &[(&str, &str)]) -> bool {
        Selector::parse(selector).unwrap().matches(&labels(pairs))
    }

    #[test]
    fn each_operator_means_what_kubernetes_says() {
        type Pairs = &'static [(&'static str, &'static str)];
        let table: &[(&str, &[&str], Pairs, bool)] = &[
            ("In", &["a", "b"], &[("k", "a")], true),
            ("In", &["a", "b"], &[("k", "c")], false),
            ("In", &["a"], &[], false),
            ("NotIn", &["a"], &[("k", "a")], false),
            ("NotIn", &["a"], &[("k", "b")], true),
            ("NotIn", &["a"], &[], true),
            ("Exists", &[], &[("k", "")], true),
            ("Exists", &[], &[("other", "a")], false),
            ("DoesNotExist", &[], &[("k", "a")], false),
            ("DoesNotExist", &[], &[("other", "a")], true),
        ];
        for (operator, values, pairs, expected) in table {
            let selector = expression("k", operator, values);
            assert_eq!(
                matches(&selector, pairs),
                *expected,
                "{operator} {values:?} on {pairs:?}"
            );
        }
    }

    #[test]
    fn several_keys_are_anded() {
        let selector: Selector = labels(&[("app", "web"), ("tier", "front")]).into_iter().collect();
        assert!(selector.matches(&labels(&[("app", "web"), ("tier", "front"), ("more", "")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("tier", "front")])));
    }

    #[test]
    fn a_selector_implies_what_is_met_whenever_it_is() {
        let parse = |yaml: &str| -> Selector {
            Selector::parse(&serde_yaml_ng::from_str::<LabelSelector>(yaml).unwrap()).unwrap()
        };
        let conditions = [
            "{}",
            "{matchLabels: {k: a}}",
            "{matchLabels: {k: a, other: a}}",
            "{matchExpressions: [{key: k, operator: In, values: [a, b]}]}",
            "{matchExpressions: [{key: k, operator: NotIn, values: [c]}]}",
            "{matchExpressions: [{key: k, operator: NotIn, values: [a, c]}]}",
            "{matchExpressions: [{key: k, operator: Exists}]}",
            "{matchExpressions: [{key: k, operator: DoesNotExist}]}",
        ];
        // Enough objects to tell all of these apart.
        let values = [None, Some("a"), Some("b"), Some("c"), Some("d")];
        let objects: Vec<Labels> = values
            .iter()
            .flat_map(|k| [None, Some("a")].map(|other| [("k", *k), ("other", other)]))
            .map(|pairs| {
                let held = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
                labels(&held.collect::<Vec<_>>())
            })
            .collect();
        for a in conditions.map(parse) {
            for b in conditions.map(parse) {
                let always = objects
                    .iter()
                    .all(|object| !a.matches(object) || b.matches(object));
                assert_eq!(a.implies(&b), always, "{a} implies {b}");
            }
        }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(matches(&LabelSelector::default(), &[]));
        assert!(matches(&LabelSelector::default(), &[("a", "b")]));
    }

    #[test]
    fn the_two_spellings_of_one_value_are_equal() {
        let spelled = LabelSelector {
            match_labels: Some(labels(&[("k", "a")])),
            match_expressions: None,
        };
        assert_eq!(
            Selector::parse(&spelled),
            Selector::parse(&expression("k", "In", &["a"]))
        );
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_that_names_its_place() {
        let error = Selector::parse(&expression("k", "Like", &["a"])).unwrap_err();
        assert_eq!(
            error,
            Error {
                at: "matchExpressions[0].operator".to_owned(),
                reason: Reason::UnknownOperator("Like".to_owned())
            }
        );
        assert!(Selector::parse(&expression("k", "In", &[])).is_err());
        assert!(Selector::parse(&expression("k", "Exists", &["a"])).is_err());
    }
}
