//! What standards ask, as tables.

use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::*;
use crate::api::{Kind, LabelStandard, LabelStandardSpec};
use crate::cluster::{Cluster, Key, Namespace, Pod, Store};
use crate::finding::{Finding, Object, Severity};
use crate::requester::Requester;
use crate::selector::Labels;

const STANDARD: &str = "
    labels:
    - {key: tier, allowedValues: [gold, silver], description: ask the platform team}
    - {key: team, pattern: '[a-z]+'}
    - {key: ringfence.dev/mode, required: false, allowedValues: [enforce, audit]}
";

fn standards(specs: &[&str]) -> Store<LabelStandard> {
    let mut store = Store::default();
    for (index, spec) in specs.iter().enumerate() {
        let name = format!("standard-{index}");
        let standard = LabelStandard::new(&name, serde_yaml_ng::from_str(spec).unwrap());
        store.apply(Key::cluster(name), standard);
    }
    store
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn who(name: &str) -> Requester {
    Requester {
        username: name.to_owned(),
        groups: vec![format!("{name}s")],
    }
}

/// A change of an object by somebody.
struct Change<'a> {
    kind: Kind,
    namespace: &'a str,
    namespace_labels: Option<&'a [(&'a str, &'a str)]>,
    before: Option<&'a [(&'a str, &'a str)]>,
    after: &'a [(&'a str, &'a str)],
    by: &'a str,
    by_controller: bool,
}

impl Default for Change<'_> {
    fn default() -> Self {
        Self {
            kind: Kind::Namespace,
            namespace: "shop",
            namespace_labels: Some(&[]),
            before: None,
            after: &[],
            by: "alice",
            by_controller: false,
        }
    }
}

impl Change<'_> {
    fn with<T>(&self, ask: impl FnOnce(&Subject<'_>) -> T) -> T {
        let after = labels(self.after);
        let before = self.before.map(labels);
        let around = self.namespace_labels.map(labels);
        let requester = who(self.by);
        ask(&Subject {
            kind: self.kind,
            object: Object::new(self.kind.as_str(), &Key::cluster(self.namespace)),
            namespace: self.namespace,
            namespace_labels: if self.kind == Kind::Namespace {
                Some(&after)
            } else {
                around.as_ref()
            },
            labels: &after,
            before: before.as_ref().map(|labels| Before { labels }),
            requester: &requester,
            by_controller: self.by_controller,
        })
    }

    fn findings(&self, specs: &[&str]) -> Vec<Finding> {
        self.with(|subject| judge(subject, &standards(specs)))
    }

    /// Codes, with `!` where it is refused for it.
    fn verdict(&self, specs: &[&str]) -> Vec<String> {
        let shown = |finding: &Finding| {
            let mark = if finding.severity == Severity::Deny {
                "!"
            } else {
                ""
            };
            format!("{}{mark}", finding.code)
        };
        self.findings(specs).iter().map(shown).collect()
    }

    fn filled_in(&self, controlled: bool, specs: &[&str]) -> Labels {
        self.with(|subject| defaults(subject, controlled, &standards(specs)))
    }
}

fn codes(specs: &[&str], name: &str, pairs: &[(&str, &str)]) -> Vec<&'static str> {
    let change = Change {
        namespace: name,
        after: pairs,
        ..Change::default()
    };
    change
        .findings(specs)
        .iter()
        .map(|finding| finding.code)
        .collect()
}

#[test]
fn required_keys_allowed_values_and_patterns_are_held() {
    type Pairs = &'static [(&'static str, &'static str)];
    let table: &[(Pairs, &[&str])] = &[
        (&[("tier", "gold"), ("team", "web")], &[]),
        (&[("tier", "gold"), ("team", "web"), ("more", "x")], &[]),
        (&[("tier", "gold")], &[MISSING]),
        (&[], &[MISSING, MISSING]),
        (&[("tier", "tin"), ("team", "web")], &[NOT_ALLOWED]),
        (&[("tier", "gold"), ("team", "web7")], &[NO_MATCH]),
        (
            &[("tier", "gold"), ("team", "web"), ("ringfence.dev/mode", "audit")],
            &[],
        ),
        (
            &[("tier", "gold"), ("team", "web"), ("ringfence.dev/mode", "audti")],
            &[NOT_ALLOWED],
        ),
    ];
    for (pairs, expected) in table {
        assert_eq!(codes(&[STANDARD], "shop", pairs), *expected, "{pairs:?}");
    }
}

#[test]
fn a_forbidden_label_is_held_and_needs_no_other_word() {
    const STANDARD: &str = "{labels: [{key: allow-all, forbidden: true}]}";
    assert_eq!(codes(&[STANDARD], "shop", &[("allow-all", "")]), [FORBIDDEN]);
    assert!(codes(&[STANDARD], "shop", &[]).is_empty());
}

#[test]
fn system_and_excluded_namespaces_and_those_not_selected_are_left_alone() {
    for name in SYSTEM_NAMESPACES {
        assert!(codes(&[STANDARD], name, &[]).is_empty(), "{name}");
    }
    let excluded = "{excludedNamespaces: [shop], labels: [{key: team}]}";
    assert!(codes(&[excluded], "shop", &[]).is_empty());
    assert_eq!(codes(&[excluded], "shop-2", &[]), [MISSING]);
    let selected = "{namespaceSelector: {matchLabels: {tenant: 'yes'}}, labels: [{key: team}]}";
    assert!(codes(&[selected], "shop", &[]).is_empty());
    assert_eq!(codes(&[selected], "shop", &[("tenant", "yes")]), [MISSING]);
}

#[test]
fn what_was_so_before_is_only_warned_of_and_what_is_new_is_refused() {
    let verdict = |before, after| {
        let change = Change {
            before,
            after,
            ..Change::default()
        };
        change.verdict(&[STANDARD])
    };
    assert_eq!(verdict(None, &[]), ["LB001!", "LB001!"]);
    assert_eq!(verdict(Some(&[]), &[("note", "x")]), ["LB001", "LB001"]);
    assert_eq!(verdict(Some(&[("tier", "gold")]), &[]), ["LB001!", "LB001"]);
    assert_eq!(
        verdict(Some(&[("tier", "tin")]), &[("tier", "zinc")]),
        ["LB002!", "LB001"]
    );
}

#[test]
fn a_label_that_may_not_change_can_be_set_once() {
    const STANDARD: &str = "{labels: [{key: team, required: false, immutable: true}]}";
    let verdict = |before, after| {
        let change = Change {
            before,
            after,
            ..Change::default()
        };
        change.verdict(&[STANDARD])
    };
    assert!(verdict(None, &[("team", "red")]).is_empty());
    assert!(verdict(Some(&[]), &[("team", "red")]).is_empty());
    assert!(verdict(Some(&[("team", "red")]), &[("team", "red"), ("x", "y")]).is_empty());
    assert_eq!(verdict(Some(&[("team", "red")]), &[("team", "blue")]), ["LB005!"]);
    assert_eq!(verdict(Some(&[("team", "red")]), &[]), ["LB005!"]);
}

const PROTECTED_VALUE: &str = "{kinds: [Namespace, Pod], labels: [{key: app, required: false, protected: \
                               {values: [api], users: [root], groups: [owners], serviceAccounts: [{namespace: ci, name: bot}]}}]}";

#[test]
fn a_protected_value_is_set_changed_and_taken_away_by_those_who_are_named_only() {
    type Pairs = &'static [(&'static str, &'static str)];
    const API: Pairs = &[("app", "api")];
    const WEB: Pairs = &[("app", "web")];
    let table: [(Option<Pairs>, Pairs, bool); 9] = [
        (None, API, true),
        (Some(&[]), API, true),
        (Some(WEB), API, true),
        (Some(API), WEB, true),
        (Some(API), &[], true),
        (Some(API), &[("app", "api"), ("note", "x")], false),
        (None, WEB, false),
        (Some(WEB), &[], false),
        (None, &[], false),
    ];
    for (before, after, refused) in table {
        for (by, may) in [
            ("alice", false),
            ("root", true),
            ("owner", true), // of the group owners
            ("system:serviceaccount:ci:bot", true),
            ("system:serviceaccount:shop:bot", false),
            ("", false),
        ] {
            for kind in [Kind::Namespace, Kind::Pod, Kind::Deployment, Kind::CronJob] {
                let change = Change {
                    kind,
                    before,
                    after,
                    by,
                    ..Change::default()
                };
                let expected: &[&str] = if refused && !may { &["LB006!"] } else { &[] };
                assert_eq!(
                    change.verdict(&[PROTECTED_VALUE]),
                    expected,
                    "{before:?} to {after:?} by {by:?} in a {kind:?}"
                );
            }
        }
    }
}

#[test]
fn who_asks_something_of_pods_asks_it_of_every_template_and_not_the_other_way_round() {
    const OF_PODS: &str = "{kinds: [Pod], labels: [{key: team}]}";
    const OF_DEPLOYMENTS: &str = "{kinds: [Deployment], labels: [{key: team}]}";
    for kind in Kind::ALL {
        let change = Change {
            kind,
            ..Change::default()
        };
        let expected: &[&str] = if kind == Kind::Namespace { &[] } else { &["LB001!"] };
        assert_eq!(change.verdict(&[OF_PODS]), expected, "{kind:?}");
        let expected: &[&str] = if kind == Kind::Deployment {
            &["LB001!"]
        } else {
            &[]
        };
        assert_eq!(change.verdict(&[OF_DEPLOYMENTS]), expected, "{kind:?}");
    }
}

#[test]
fn what_a_controller_makes_of_a_template_is_not_refused_again() {
    let pod = Change {
        kind: Kind::Pod,
        after: &[("app", "api")],
        by: "system:serviceaccount:kube-system:replicaset-controller",
        by_controller: true,
        ..Change::default()
    };
    assert_eq!(pod.verdict(&[PROTECTED_VALUE]), ["LB006"]);
    // An operator that is no part of Kubernetes is somebody like everybody else.
    let by_operator = Change {
        by: "system:serviceaccount:rollouts:controller",
        by_controller: false,
        ..pod
    };
    assert_eq!(by_operator.verdict(&[PROTECTED_VALUE]), ["LB006!"]);
}

#[test]
fn no_namespace_leaves_a_standard_by_the_change_that_it_is_about() {
    const STANDARD: &str = "{namespaceSelector: {matchLabels: {tenant: 'yes'}}, labels: \
                            [{key: tenant, required: false, protected: {users: [root]}}, {key: team, immutable: true}]}";
    let leaving = Change {
        before: Some(&[("tenant", "yes"), ("team", "red")]),
        after: &[("team", "blue")],
        ..Change::default()
    };
    assert_eq!(leaving.verdict(&[STANDARD]), ["LB006!", "LB005!"]);
}

#[test]
fn pods_of_a_namespace_that_is_not_known_yet_are_held_to_every_standard_and_filled_in_by_none() {
    const STANDARD: &str = "{kinds: [Pod], namespaceSelector: {matchLabels: {tenant: 'yes'}}, \
                            labels: [{key: team, default: none}]}";
    let change = |namespace_labels| Change {
        kind: Kind::Pod,
        namespace_labels,
        ..Change::default()
    };
    assert_eq!(change(None).verdict(&[STANDARD]), ["LB001!"]);
    assert_eq!(change(None).filled_in(false, &[STANDARD]), Labels::new());
    assert!(change(Some(&[])).verdict(&[STANDARD]).is_empty());
    let known: &[_] = &[("tenant", "yes")];
    assert_eq!(
        change(Some(known)).filled_in(false, &[STANDARD]),
        labels(&[("team", "none")])
    );
}

const FILLED_IN: &str = "{kinds: [Namespace, Pod], labels: [{key: team, default: none, protected: {users: [root]}}, \
                         {key: tier, required: false}]}";

#[test]
fn a_default_is_filled_in_at_creation_and_put_back_but_never_added_to_what_was_stored_without() {
    let filled_in = |kind, before, after, controlled| {
        let change = Change {
            kind,
            before,
            after,
            ..Change::default()
        };
        change.filled_in(controlled, &[FILLED_IN])
    };
    let none = labels(&[("team", "none")]);
    for kind in Kind::ALL {
        assert_eq!(filled_in(kind, None, &[], false), none, "{kind:?}");
        assert_eq!(
            filled_in(kind, None, &[("team", "red")], false),
            Labels::new(),
            "{kind:?}"
        );
        assert_eq!(filled_in(kind, Some(&[]), &[], false), Labels::new(), "{kind:?}");
        assert_eq!(
            filled_in(kind, Some(&[("team", "none")]), &[], false),
            none,
            "{kind:?}"
        );
    }
    assert_eq!(filled_in(Kind::Pod, None, &[], true), none);
    assert_eq!(
        filled_in(Kind::ReplicaSet, None, &[], true),
        Labels::new(),
        "its controller compares it with the Deployment's template"
    );
}

#[test]
fn what_is_filled_in_is_nobodys_claim_but_no_way_to_take_a_protected_label_away() {
    let verdict = |before, after| {
        let change = Change {
            before,
            after,
            ..Change::default()
        };
        change.verdict(&[FILLED_IN])
    };
    assert!(verdict(None, &[("team", "none")]).is_empty());
    assert_eq!(verdict(None, &[("team", "red")]), ["LB006!"]);
    assert_eq!(verdict(Some(&[("team", "red")]), &[("team", "none")]), ["LB006!"]);
}

#[test]
fn a_label_that_is_filled_in_brings_the_next_standard_with_it() {
    const FIRST: &str = "{labels: [{key: tenant, default: 'yes'}]}";
    const SECOND: &str =
        "{namespaceSelector: {matchLabels: {tenant: 'yes'}}, labels: [{key: team, default: none}]}";
    assert_eq!(
        Change::default().filled_in(false, &[SECOND, FIRST]),
        labels(&[("tenant", "yes"), ("team", "none")])
    );
}

/// An object of the kind, with what is given in place of its labels' map, or of what holds it.
fn object(kind: Kind, depth: usize, at: Option<Value>) -> Value {
    let path = &kind.labels_at()[..depth];
    path.iter()
        .rev()
        .fold(at.unwrap_or(json!({})), |below, token| json!({*token: below}))
}

#[test]
fn a_patch_fills_in_whatever_is_missing_on_the_way_and_nothing_the_second_time() {
    let added = labels(&[("team", "none"), ("example.com/tier~1", "x")]);
    for kind in Kind::ALL {
        let length = kind.labels_at().len();
        let mut objects: Vec<Value> = (0..=length).map(|depth| object(kind, depth, None)).collect();
        objects.push(object(kind, length, Some(Value::Null)));
        objects.push(object(kind, length, Some(json!({"kept": "yes"}))));
        for mut object in objects {
            let before = kind.labels(&object);
            let patch = patch(kind, &object, &added);
            json_patch::patch(&mut object, &patch).unwrap();
            let mut expected = added.clone();
            expected.extend(before);
            assert_eq!(kind.labels(&object), expected, "{kind:?}");
        }
    }
    assert_eq!(patch(Kind::Pod, &json!({}), &Labels::new()).0, []);
}

proptest! {
    #[test]
    fn filling_in_twice_is_filling_in_once_and_meets_the_standard(
        present in prop::collection::btree_map("[a-d]", "[xyz]", 0..4),
        kind in prop::sample::select(Kind::ALL.to_vec()),
    ) {
        const SPEC: &str = "{kinds: [Namespace, Pod], labels: [{key: a, default: x}, {key: b, allowedValues: [x, y], default: y}, \
                            {key: c, required: false}]}";
        let present: Vec<(&str, &str)> = present.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let change = Change { kind, after: &present, ..Change::default() };
        let mut all = labels(&present);
        all.extend(change.filled_in(false, &[SPEC]));
        let all: Vec<(&str, &str)> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let again = Change { kind, after: &all, ..Change::default() };
        prop_assert_eq!(again.filled_in(false, &[SPEC]), Labels::new());
        prop_assert!(again.findings(&[SPEC]).iter().all(|finding| finding.code != MISSING));
    }
}

#[test]
fn a_finding_names_the_standard_the_values_and_the_reason() {
    let change = Change {
        after: &[("team", "web")],
        ..Change::default()
    };
    insta::assert_snapshot!(change.findings(&[STANDARD])[0], @r#"
    LB001 metadata.labels[tier]
      found:       the label tier is missing
      consequence: the label standard standard-0 ("ask the platform team") is not met, and policies that select by tier miss this namespace
      mend:        set tier to one of gold, silver, for example
        metadata:
          labels:
            tier: gold
    "#);
    let change = Change {
        kind: Kind::Deployment,
        before: Some(&[("app", "api")]),
        after: &[("app", "web")],
        ..Change::default()
    };
    insta::assert_snapshot!(change.findings(&[PROTECTED_VALUE])[0], @r#"
    LB006 spec.template.metadata.labels[app]
      found:       the label app is changed from "api" to "web" by alice, which only user root, group owners, service account ci/bot may do
      consequence: the label standard standard-0 is not met, and who changes app changes whom these pods may reach
      mend:        leave app as it is, or ask user root, group owners, service account ci/bot
        spec:
          template:
            metadata:
              labels:
                app: api
    "#);
}

#[test]
fn a_standard_warns_if_it_says_so() {
    assert_eq!(
        Change::default().verdict(&["{enforcement: warn, labels: [{key: team}]}"]),
        ["LB001"]
    );
}

#[test]
fn what_cannot_be_understood_or_contradicts_itself_in_a_standard_is_named() {
    let table = [
        ("{labels: [{key: a, pattern: '('}]}", "spec.labels[0].pattern"),
        (
            "{labels: [{key: a, pattern: '(a{1000}){1000}'}]}",
            "spec.labels[0].pattern",
        ),
        ("{labels: [{key: a}, {key: a}]}", "spec.labels[1].key"),
        (
            "{labels: [{key: a, allowedValues: [ok, 'not ok']}]}",
            "spec.labels[0].allowedValues[1]",
        ),
        (
            "{namespaceSelector: {matchExpressions: [{key: a, operator: Like}]}, labels: [{key: a}]}",
            "spec.namespaceSelector",
        ),
        (
            "{labels: [{key: a, default: 'not ok'}]}",
            "spec.labels[0].default",
        ),
        (
            "{labels: [{key: a, allowedValues: [x], default: y}]}",
            "spec.labels[0].default",
        ),
        (
            "{labels: [{key: a, pattern: '[a-z]', default: '1'}]}",
            "spec.labels[0].default",
        ),
        (
            "{labels: [{key: a, forbidden: true, default: x}]}",
            "spec.labels[0].default",
        ),
        (
            "{labels: [{key: a, forbidden: true, required: true}]}",
            "spec.labels[0].required",
        ),
        (
            "{labels: [{key: a, forbidden: true, immutable: true}]}",
            "spec.labels[0].immutable",
        ),
        ("{labels: [{key: a, protected: {}}]}", "spec.labels[0].protected"),
        (
            "{labels: [{key: a, allowedValues: [x], protected: {values: [y], users: [u]}}]}",
            "spec.labels[0].protected.values",
        ),
    ];
    for (spec, field) in table {
        let spec: LabelStandardSpec = serde_yaml_ng::from_str(spec).unwrap();
        let found: Vec<String> = defects(&spec).into_iter().map(|defect| defect.field).collect();
        assert_eq!(found, [field], "{spec:?}");
    }
    for good in [STANDARD, PROTECTED_VALUE, FILLED_IN] {
        assert_eq!(defects(&serde_yaml_ng::from_str(good).unwrap()), []);
    }
}

#[test]
fn a_pattern_must_match_the_whole_value() {
    let spec = "{labels: [{key: team, pattern: 'a|b'}]}";
    assert!(codes(&[spec], "shop", &[("team", "b")]).is_empty());
    for value in ["ab", "xa", "bx"] {
        assert_eq!(codes(&[spec], "shop", &[("team", value)]), [NO_MATCH], "{value}");
    }
}

#[test]
fn every_code_finds_something_in_its_bad_example_and_nothing_in_its_good_one() {
    fn found(example: &str) -> Vec<&'static str> {
        let mut documents = serde_yaml_ng::Deserializer::from_str(example)
            .map(|document| Value::deserialize(document).unwrap());
        let spec: LabelStandardSpec = serde_json::from_value(documents.next().unwrap()).unwrap();
        let defects = defects(&spec).into_iter().map(|defect| defect.code);
        let mut codes: Vec<&str> = defects.collect();
        let mut store = Store::default();
        store.apply(Key::cluster("example"), LabelStandard::new("example", spec));
        let object = documents
            .next()
            .unwrap_or(json!({"metadata": {"labels": {"team": "red", "tier": "a"}}}));
        let after = Kind::Namespace.labels(&object);
        let before = documents.next().map(|object| Kind::Namespace.labels(&object));
        let requester = who("alice");
        let subject = Subject {
            kind: Kind::Namespace,
            object: Object::new("Namespace", &Key::cluster("shop")),
            namespace: "shop",
            namespace_labels: Some(&after),
            labels: &after,
            before: before.as_ref().map(|labels| Before { labels }),
            requester: &requester,
            by_controller: false,
        };
        codes.extend(judge(&subject, &store).iter().map(|finding| finding.code));
        codes
    }
    for entry in catalogue::ALL {
        assert_eq!(found(entry.bad), [entry.code], "{}", entry.bad);
        assert_eq!(found(entry.good), [""; 0], "{}", entry.good);
    }
}

#[test]
fn what_is_stored_already_is_counted_by_standard() {
    let mut cluster = Cluster {
        standards: standards(&[
            "{kinds: [Namespace, Pod], labels: [{key: team}]}",
            "{excludedNamespaces: [shop], labels: [{key: team}]}",
        ]),
        ..Cluster::default()
    };
    for (name, pairs) in [
        ("shop", vec![]),
        ("bank", vec![("team", "red")]),
        ("kube-system", vec![]),
    ] {
        let namespace = Namespace {
            labels: labels(&pairs),
            ..Namespace::default()
        };
        cluster.namespaces.apply(Key::cluster(name), namespace);
        cluster.pods.apply(Key::new(name, "web"), Pod::default());
    }
    let found = audit::audit(&cluster);
    let shown = |name: &str| {
        let status = &found[name];
        (status.checked, status.violating, status.examples.join(", "))
    };
    assert_eq!(
        shown("standard-0"),
        (4, 3, "Pod bank/web, Namespace shop, Pod shop/web".to_owned())
    );
    assert_eq!(shown("standard-1"), (1, 0, String::new()));
}
