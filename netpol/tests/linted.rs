//! Every rule judges every policy of every cluster, and names a field of the policy.
#![allow(clippy::expect_used)] // a test

mod arbitrary;

use proptest::prelude::*;
use ringfence_netpol::lint::{Severities, Survey, judge};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_policy_in_any_cluster_is_judged(objects in arbitrary::objects()) {
        let cluster = objects.cluster();
        for survey in [Survey::whole(&cluster), Survey::partial(&cluster)] {
            for policy in &objects.policies {
                let findings = judge(policy, None, Some(&survey), &Severities::default());
                for finding in &findings {
                    prop_assert!(finding.field.starts_with("spec") || finding.field.starts_with("metadata"), "{finding}");
                    prop_assert!(!finding.message.is_empty() && !finding.consequence.is_empty());
                }
                // What is found does not depend on what was asked before.
                let mut alone = Survey::whole(&cluster);
                alone.complete = survey.complete;
                prop_assert_eq!(findings, judge(policy, None, Some(&alone), &Severities::default()));
            }
        }
    }
}
