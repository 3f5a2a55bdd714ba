//! The codes of this module, explained.

use super::{CHANGED, DELETED, FORGED, LEAVES, MARKS, MISWRITTEN, MODE, NAME_TAKEN, PLATFORM, UNREADABLE};
use crate::catalogue::Entry;
use crate::finding::Severity;

/// In the order of their codes.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        code: DELETED,
        name: "baseline-policy-deleted",
        finds: "the deletion of a policy that the generator owns",
        why: "The generator brings it back, but until then the namespace is open. Deleting the namespace itself works, and so does changing \
              the baseline.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl -n shop delete networkpolicies --all\n",
        good: "# kubectl delete namespace shop\n",
    },
    Entry {
        code: CHANGED,
        name: "baseline-policy-changed",
        finds: "a change of the specification of a policy that the generator owns",
        why: "The generator puts it back, but until then the namespace is without it. Policies add up: what a team needs beyond the baseline \
              it allows by a policy of its own.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl -n shop patch networkpolicy default-deny --type merge -p '{\"spec\": {\"ingress\": [{}]}}'\n",
        good: "# kubectl -n shop apply -f allow-frontend.yaml\n",
    },
    Entry {
        code: MARKS,
        name: "baseline-policy-marks",
        finds: "a change of what marks a policy as the generator's, of its owners or its finalizers",
        why: "By its labels and annotations the generator knows its own. An owner that does not exist has the garbage collector delete \
              it, and `ringfence.dev/stage: audit` has nobody enforce it.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl -n shop label networkpolicy default-deny ringfence.dev/baseline-\n",
        good: "# kubectl -n shop label networkpolicy default-deny seen-by=alice\n",
    },
    Entry {
        code: FORGED,
        name: "baseline-policy-forged",
        finds: "a policy that is marked as the generator's and is not",
        why: "The generator overwrites or removes what carries its marks, and whoever reads it takes it for the baseline.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "metadata: {labels: {app.kubernetes.io/managed-by: ringfence, ringfence.dev/baseline: starter}}\n",
        good: "metadata: {labels: {app.kubernetes.io/managed-by: Helm}}\n",
    },
    Entry {
        code: NAME_TAKEN,
        name: "baseline-name-taken",
        finds: "a new policy under the name that a policy of the namespace's baseline has",
        why: "The generator overwrites nothing that is not its own. Who is first there with the name default-deny would keep the \
              namespace open.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "metadata: {name: default-deny}\n",
        good: "metadata: {name: shop-default-deny}\n",
    },
    Entry {
        code: LEAVES,
        name: "namespace-leaves-baseline",
        finds: "a change of a namespace's labels after which its baseline no longer takes it, another one closes less in its place, or a label \
                standard no longer holds its pods",
        why: "The policies that close the namespace would be removed or replaced, or its pods could take labels that a standard keeps from \
              them. Opting in is anyone's; out, the platform team's. While the cluster is not in view, nobody else changes the labels.",
        severity: Severity::Deny,
        needs_cluster: true,
        bad: "# kubectl label namespace shop ringfence.dev/baseline-\n",
        good: "# kubectl label namespace shop ringfence.dev/baseline=enabled\n",
    },
    Entry {
        code: MODE,
        name: "namespace-mode-lowered",
        finds: "a namespace whose mode is lowered to audit",
        why: "What its policies deny would pass, and only be counted.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl label namespace shop ringfence.dev/mode=audit\n",
        good: "# kubectl label namespace shop ringfence.dev/mode-\n",
    },
    Entry {
        code: PLATFORM,
        name: "platform-annotation",
        finds: "a change of the annotations that say how objects of a namespace are judged",
        why: "Who could set ringfence.dev/severities or ringfence.dev/exemptions could let anything pass.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl annotate namespace shop ringfence.dev/severities='NP006=off'   # as a tenant\n",
        good: "# kubectl annotate namespace shop ringfence.dev/severities='NP006=off'   # as the platform team\n",
    },
    Entry {
        code: UNREADABLE,
        name: "platform-annotation-unreadable",
        finds: "an annotation for the judgement of a namespace's objects that cannot be understood",
        why: "It would say nothing, in silence: a rule that was to be off would refuse.",
        severity: Severity::Deny,
        needs_cluster: false,
        bad: "# kubectl annotate namespace shop ringfence.dev/severities='NP006: off'\n",
        good: "# kubectl annotate namespace shop ringfence.dev/severities='NP006=off'\n",
    },
    Entry {
        code: MISWRITTEN,
        name: "baseline-miswritten",
        finds: "a part of a baseline that cannot be understood",
        why: "The generator renders nothing from such a baseline. What it made before stays as it is, but namespaces that are made from then on \
              have only what other baselines give them.",
        severity: Severity::Warn,
        needs_cluster: false,
        bad: "spec: {policies: [{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dsn}]}}]}\n",
        good: "spec: {policies: [{name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}]}\n",
    },
];
