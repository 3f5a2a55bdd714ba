//! The rules: one file each, with its reason, a policy that it finds something in and one that it does not.

mod allows_anyone;
mod dns_in_ingress;
mod field_dropped;
mod odd_block;
mod own_namespace_only;
mod rules_without_effect;
mod selector_matches_nothing;
mod selector_misspelt;
mod unreadable;

use super::Rule;

/// Every rule, in the order of their codes.
pub const ALL: &[&Rule] = &[
    &unreadable::RULE,
    &selector_misspelt::RULE,
    &selector_matches_nothing::RULE,
    &own_namespace_only::RULE,
    &dns_in_ingress::RULE,
    &allows_anyone::RULE,
    &rules_without_effect::RULE,
    &field_dropped::RULE,
    &odd_block::RULE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::testing::{Live, found};

    #[test]
    fn codes_and_names_are_unique_in_order_and_explained() {
        let codes: Vec<&str> = ALL.iter().map(|rule| rule.code).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        let mut names: Vec<&str> = ALL.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for rule in ALL {
            assert!(!rule.finds.is_empty() && !rule.why.is_empty(), "{}", rule.code);
        }
    }

    #[test]
    fn every_rule_finds_something_in_its_bad_example_and_nothing_in_its_good_one() {
        for rule in ALL {
            let found = |spec| found(rule, &Live::default(), spec);
            assert!(!found(rule.bad).is_empty(), "{}: {}", rule.code, rule.bad);
            assert_eq!(found(rule.good), [], "{}: {}", rule.code, rule.good);
        }
    }
}
