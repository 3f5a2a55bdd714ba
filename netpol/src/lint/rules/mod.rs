//! The rules: one file each, with its reason, a policy that it finds something in and one that it does not.

mod adds_nothing;
mod allows_anyone;
mod block_of_pods;
mod cuts_mesh;
mod cuts_scraping;
mod dns_by_udp_only;
mod dns_cut;
mod dns_in_ingress;
mod egress_forgotten;
mod entry_budget;
mod field_dropped;
mod namespace_misspelt;
mod nobody_enforces;
mod odd_block;
mod own_namespace_only;
mod pods_misspelt;
mod port_unknown;
mod rules_without_effect;
mod selector_matches_nothing;
mod selector_misspelt;
mod selects_host_network;
mod service_address;
mod too_broad;
mod two_items;
mod types_left_out;
mod unreadable;
mod voids_baseline;
mod world_egress;

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
    &two_items::RULE,
    &dns_cut::RULE,
    &dns_by_udp_only::RULE,
    &world_egress::RULE,
    &types_left_out::RULE,
    &egress_forgotten::RULE,
    &too_broad::RULE,
    &voids_baseline::RULE,
    &port_unknown::RULE,
    &block_of_pods::RULE,
    &service_address::RULE,
    &cuts_scraping::RULE,
    &cuts_mesh::RULE,
    &adds_nothing::RULE,
    &entry_budget::RULE,
    &nobody_enforces::RULE,
    &selects_host_network::RULE,
    &namespace_misspelt::RULE,
    &pods_misspelt::RULE,
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
            let live = match rule.beside {
                "" => Live::default(),
                beside => Live::default().policy("beside", beside),
            };
            let found = |spec| found(rule, &live, spec);
            assert!(
                rule.bad.contains('…') || !found(rule.bad).is_empty(),
                "{}: {}",
                rule.code,
                rule.bad
            );
            assert_eq!(found(rule.good), [], "{}: {}", rule.code, rule.good);
        }
    }
}
