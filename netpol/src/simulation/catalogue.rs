//! The codes of this module, explained.

use super::{CUTS, CUTS_DNS, FROM_WORLD, OPENS, TO_WORLD};
use crate::catalogue::Entry;
use crate::finding::Severity;

/// In the order of their codes.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        code: OPENS,
        name: "opens-connections",
        finds: "connections that a change opens between the pods that are there",
        why: "What a policy does depends on all others: this is the difference, worked out for the cluster as it is. It names the first few \
              and counts the rest.",
        severity: Severity::Warn,
        needs_cluster: true,
        bad: "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]\n",
        good: "podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]\n",
    },
    Entry {
        code: CUTS,
        name: "cuts-connections",
        finds: "connections that a change cuts between the pods that are there",
        why: "The first policy that selects a pod isolates it from all that no policy names. Connections that are open are cut too.",
        severity: Severity::Warn,
        needs_cluster: true,
        bad: "podSelector: {}\npolicyTypes: [Ingress]\n",
        good: "podSelector: {}\ningress: [{from: [{podSelector: {}}]}]\n",
    },
    Entry {
        code: CUTS_DNS,
        name: "change-cuts-dns",
        finds: "pods that could resolve names before a change, and cannot after it",
        why: "Nearly everything starts with a name. This compares with where the cluster's DNS really is. Set it to deny to refuse such changes.",
        severity: Severity::Warn,
        needs_cluster: true,
        bad: "podSelector: {}\npolicyTypes: [Egress]\n",
        good: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
",
    },
    Entry {
        code: FROM_WORLD,
        name: "change-opens-from-world",
        finds: "a change after which pods can be reached from addresses at large",
        why: "Also by taking away the policy that closed them, and in blocks that together are half of all addresses. Set it to deny to refuse \
              such changes.",
        severity: Severity::Warn,
        needs_cluster: true,
        bad: "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]\n",
        good: "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]\n",
    },
    Entry {
        code: TO_WORLD,
        name: "change-opens-to-world",
        finds: "a change after which pods may open connections to addresses at large",
        why: "Also by taking away the policy that closed them. Set it to deny to refuse such changes.",
        severity: Severity::Warn,
        needs_cluster: true,
        bad: "podSelector: {}\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]\npolicyTypes: [Egress]\n",
        good: "podSelector: {}\negress: [{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]\npolicyTypes: [Egress]\n",
    },
];
