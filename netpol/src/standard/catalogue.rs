//! The codes of this module, explained. An example is a standard's specification, then an object, then that object as it was.

use super::{CONTRADICTION, FORBIDDEN, IMMUTABLE, MISSING, NO_MATCH, NOT_ALLOWED, PROTECTED, UNREADABLE};
use crate::catalogue::Entry;
use crate::finding::Severity;

/// In the order of their codes.
pub const ALL: &[Entry] = &[
    Entry {
        code: MISSING,
        name: "label-missing",
        finds: "an object without a label that a standard requires",
        why: "Policies select by labels. An object that lacks one is missed by whatever selects it: by the policy that should protect it, \
              and by the one that should let it through. The standard says whether this is refused.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: team}]
---
metadata: {name: shop}
",
        good: "\
labels: [{key: team}]
---
metadata: {name: shop, labels: {team: red}}
",
    },
    Entry {
        code: NOT_ALLOWED,
        name: "label-value-not-allowed",
        finds: "a label whose value is none of those that a standard allows",
        why: "A value with a typing error selects nothing, and nobody sees it.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: tier, allowedValues: [front, back]}]
---
metadata: {name: shop, labels: {tier: fornt}}
",
        good: "\
labels: [{key: tier, allowedValues: [front, back]}]
---
metadata: {name: shop, labels: {tier: front}}
",
    },
    Entry {
        code: NO_MATCH,
        name: "label-value-no-match",
        finds: "a label whose value does not match a standard's pattern",
        why: "Where the values cannot be listed, their form can still be held: the whole value must match, not a part of it.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: cost-centre, pattern: '[0-9]{4}'}]
---
metadata: {name: shop, labels: {cost-centre: '12'}}
",
        good: "\
labels: [{key: cost-centre, pattern: '[0-9]{4}'}]
---
metadata: {name: shop, labels: {cost-centre: '1234'}}
",
    },
    Entry {
        code: FORBIDDEN,
        name: "label-forbidden",
        finds: "a label that a standard forbids",
        why: "A label that is no longer used, or that only ever meant trouble, still matches the selectors that name it.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: allow-all, forbidden: true}]
---
metadata: {name: shop, labels: {allow-all: 'yes'}}
",
        good: "\
labels: [{key: allow-all, forbidden: true}]
---
metadata: {name: shop}
",
    },
    Entry {
        code: IMMUTABLE,
        name: "label-immutable",
        finds: "a change of a label that may not change once it is set",
        why: "Whoever changes such a label moves the object from one set of policies to another while its connections go on.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: team, immutable: true}]
---
metadata: {name: shop, labels: {team: blue}}
---
metadata: {name: shop, labels: {team: red}}
",
        good: "\
labels: [{key: team, immutable: true}]
---
metadata: {name: shop, labels: {team: red, more: x}}
---
metadata: {name: shop, labels: {team: red}}
",
    },
    Entry {
        code: PROTECTED,
        name: "label-protected",
        finds: "a protected label that somebody sets, changes or takes away who may not",
        why: "Labels are the input of every policy: who can label a pod `app: api` reaches what is open to the API. A protected label, or some of \
              its values, is for named users, groups and service accounts only. What Kubernetes's controllers make from a template counts \
              as written by whoever wrote the template.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "\
labels: [{key: zone, required: false, protected: {values: [pci], groups: [platform]}}]
---
metadata: {name: shop, labels: {zone: pci}}
",
        good: "\
labels: [{key: zone, required: false, protected: {values: [pci], groups: [platform]}}]
---
metadata: {name: shop, labels: {zone: office}}
",
    },
    Entry {
        code: UNREADABLE,
        name: "standard-unreadable",
        finds: "a part of a label standard that cannot be understood",
        why: "That part would ask for nothing, in silence.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "labels: [{key: team, pattern: '('}]\n",
        good: "labels: [{key: team, pattern: '[a-z]+'}]\n",
    },
    Entry {
        code: CONTRADICTION,
        name: "standard-contradiction",
        finds: "a label standard that contradicts itself",
        why: "A default that the standard itself refuses would make every object that relies on it fail; a value that is protected but not \
              allowed is one that nobody can set.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "labels: [{key: tier, pattern: '[a-z]+', default: '7'}]\n",
        good: "labels: [{key: tier, pattern: '[a-z]+', default: none}]\n",
    },
];
