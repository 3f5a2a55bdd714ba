//! A selector matches what the specification's sentences say, whatever else it was made into.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ringfence_netpol::selector::{Labels, Selector};

use crate::draw::{self, Draw};
use crate::reference;

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let selector = draw::selector(&mut draw);
    let selector: LabelSelector = serde_json::from_value(selector).expect("a selector");
    let labels: Labels = draw::labels(&mut draw)
        .into_iter()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let parsed = Selector::parse(&selector).expect("what is drawn is a selector");
    assert_eq!(
        parsed.matches(&labels),
        reference::selects(&selector, &labels),
        "{selector:?} of {labels:?}"
    );
    assert_eq!(parsed.is_everything(), parsed.requirements().next().is_none());
    if parsed.is_everything() {
        assert!(parsed.matches(&Labels::new()) && parsed.matches(&labels));
    }

    // Equal means the same: order, repetition and spelling are none of a selector's meaning.
    let mut other = selector.clone();
    if let Some(expressions) = &mut other.match_expressions {
        expressions.reverse();
        expressions.extend(selector.match_expressions.iter().flatten().take(1).cloned());
        for expression in expressions {
            if let Some(values) = &mut expression.values {
                values.reverse();
                values.extend(values.first().cloned());
            }
        }
    }
    assert_eq!(Selector::parse(&other).as_ref(), Ok(&parsed));
    let rebuilt: Selector = parsed.requirements().cloned().collect();
    assert_eq!(rebuilt, parsed);
    assert!(!parsed.to_string().is_empty());
}
