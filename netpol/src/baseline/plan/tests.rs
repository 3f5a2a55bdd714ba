use super::super::route::{RoutedService, Routes};
use super::super::testing::{baseline, namespace};
use super::*;
use crate::api::NamespaceBaseline;
use crate::cluster::{Cluster, Namespace};
use crate::policy::Policy;
use k8s_openapi::api::networking::v1::{NetworkPolicyIngressRule, NetworkPolicySpec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One namespace and what is stored in it, as an API server would keep it.
#[derive(Debug, Clone, Default)]
struct Model {
    stored: BTreeMap<String, NetworkPolicy>,
    routes: Routes,
    uids: u64,
}

impl Model {
    fn plan(&self, namespace: &Namespace, baselines: &[NamespaceBaseline]) -> Plan {
        let mut cluster = Cluster::default();
        for baseline in baselines {
            cluster.apply(baseline);
        }
        let records: BTreeMap<&str, PolicyRecord> = self
            .stored
            .iter()
            .map(|(name, policy)| (name.as_str(), PolicyRecord::of(policy)))
            .collect();
        let stored = records.iter().map(|(name, record)| (*name, record)).collect();
        let place = Place {
            routes: &self.routes,
            stored: &stored,
            ..Place::of("shop", namespace)
        };
        plan(place, &Baselines::read(&cluster, &BTreeMap::new()))
    }

    /// As server-side apply by the owner of every field, but labels and annotations of others stay.
    fn execute(&mut self, action: &Action) {
        match action {
            Action::Apply { policy, .. } => {
                let name = policy.metadata.name.clone().unwrap();
                self.uids += 1;
                let stored = self.stored.entry(name).or_default();
                stored.spec = policy.spec.clone();
                stored.metadata.uid.get_or_insert(self.uids.to_string());
                let labels = stored.metadata.labels.get_or_insert_default();
                labels.extend(policy.metadata.labels.clone().unwrap());
                let annotations = stored.metadata.annotations.get_or_insert_default();
                annotations.extend(policy.metadata.annotations.clone().unwrap());
            }
            Action::Delete { name, uid, .. } => {
                assert_eq!(self.stored[name].metadata.uid.as_ref(), Some(uid));
                self.stored.remove(name);
            }
        }
    }

    fn store_foreign(&mut self, name: &str) {
        let policy = NetworkPolicy {
            spec: Some(NetworkPolicySpec::default()),
            ..NetworkPolicy::default()
        };
        self.stored.insert(name.to_owned(), policy);
    }

    /// Whether some policy closes every pod both ways.
    fn is_closed(&self) -> bool {
        self.stored.values().any(|policy| {
            let policy = Policy::parse(policy);
            policy.pods.is_everything() && policy.ingress == Some(vec![]) && policy.egress == Some(vec![])
        })
    }

    fn converge(&mut self, namespace: &Namespace, baselines: &[NamespaceBaseline]) {
        for action in self.plan(namespace, baselines).actions {
            self.execute(&action);
        }
    }

    fn names(&self) -> Vec<&str> {
        self.stored.keys().map(String::as_str).collect()
    }
}

fn starter(name: &str, policies: &[&str]) -> NamespaceBaseline {
    let policy = |name: &&str| match *name {
        deny if deny.contains("deny") => {
            format!("{{name: {deny}, spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}}")
        }
        other => format!(
            "{{name: {other}, spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{anyone: {{}}, ports: [{{port: 53}}]}}]}}}}"
        ),
    };
    let policies: Vec<_> = policies.iter().map(policy).collect();
    baseline(
        name,
        &format!(
            "{{namespaceSelector: {{matchLabels: {{team: red}}}}, policies: [{}]}}",
            policies.join(", ")
        ),
    )
}

fn red() -> Namespace {
    namespace(&[("team", "red")])
}

fn steps(plan: &Plan) -> Vec<String> {
    let step = |action: &Action| match action {
        Action::Apply { policy, why, .. } => format!("{why:?} {}", policy.metadata.name.as_deref().unwrap()),
        Action::Delete { name, .. } => format!("Delete {name}"),
    };
    plan.actions.iter().map(step).collect()
}

fn problems(plan: &Plan) -> Vec<String> {
    plan.problems
        .iter()
        .map(|p| format!("{}/{}: {}", p.baseline, p.policy, p.cause))
        .collect()
}

#[test]
fn a_new_namespace_is_closed_before_anything_is_allowed() {
    let plan = Model::default().plan(&red(), &[starter("a", &["allow-dns", "default-deny"])]);
    assert_eq!(steps(&plan), ["Missing default-deny", "Missing allow-dns"]);
    assert_eq!(plan.matched, ["a".to_owned()].into());
}

#[test]
fn where_all_is_as_it_must_be_there_is_nothing_to_do() {
    let (mut model, baselines) = (Model::default(), [starter("a", &["default-deny", "allow-dns"])]);
    model.converge(&red(), &baselines);
    assert_eq!(model.plan(&red(), &baselines).actions, []);
}

#[test]
fn what_was_deleted_or_edited_comes_back_and_what_others_added_to_the_metadata_stays() {
    let (mut model, baselines) = (Model::default(), [starter("a", &["default-deny", "allow-dns"])]);
    model.converge(&red(), &baselines);
    model.stored.remove("allow-dns");
    let edited = model.stored.get_mut("default-deny").unwrap();
    edited.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]);
    edited
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("theirs".to_owned(), "x".to_owned());
    assert_eq!(
        steps(&model.plan(&red(), &baselines)),
        ["Differs default-deny", "Missing allow-dns"]
    );
    model.converge(&red(), &baselines);
    assert!(model.is_closed());
    assert_eq!(
        model.stored["default-deny"].metadata.labels.as_ref().unwrap()["theirs"],
        "x"
    );
    assert_eq!(model.plan(&red(), &baselines).actions, []);
}

#[test]
fn a_renamed_deny_is_there_under_the_new_name_before_the_old_one_goes() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny"])]);
    let plan = model.plan(&red(), &[starter("a", &["deny-all"])]);
    assert_eq!(steps(&plan), ["Missing deny-all", "Delete default-deny"]);
}

#[test]
fn a_foreign_object_is_reported_and_neither_overwritten_nor_a_reason_to_open() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny"])]);
    model.store_foreign("deny-all");
    let plan = model.plan(&red(), &[starter("a", &["deny-all", "allow-dns"])]);
    assert_eq!(
        steps(&plan),
        ["Missing allow-dns"],
        "the old deny stays while the new one cannot be"
    );
    assert_eq!(
        problems(&plan),
        [
            "a/deny-all: there is a NetworkPolicy of that name that is not Ringfence's; rename or delete it, or set spec.adoption"
        ]
    );
}

#[test]
fn a_namespace_that_leaves_and_a_baseline_that_is_gone_lose_their_policies() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny"])]);
    model.store_foreign("theirs");
    for (namespace, baselines) in [
        (namespace(&[]), vec![starter("a", &["default-deny"])]),
        (red(), vec![]),
    ] {
        let mut model = model.clone();
        model.converge(&namespace, &baselines);
        assert_eq!(model.names(), ["theirs"]);
    }
}

#[test]
fn of_two_baselines_that_make_one_name_the_first_wins_and_both_are_told() {
    let both = [
        starter("a", &["default-deny"]),
        starter("b", &["default-deny", "allow-dns"]),
    ];
    let mut model = Model::default();
    let plan = model.plan(&red(), &both);
    assert_eq!(
        problems(&plan),
        [
            "b/default-deny: the baseline a makes a policy of that name too, and comes first by name; set spec.priority",
            "a/default-deny: the baseline b makes a policy of that name too; this one comes first by name; set spec.priority",
        ]
    );
    model.converge(&red(), &both);
    assert_eq!(
        model.stored["default-deny"].metadata.labels.as_ref().unwrap()["ringfence.dev/baseline"],
        "a"
    );
    let plan = model.plan(&red(), &both[1..]);
    assert_eq!(
        steps(&plan),
        ["Differs default-deny"],
        "handed over in place, never removed"
    );
}

#[test]
fn an_invalid_baseline_takes_nothing_away_and_others_go_on() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny"])]);
    let broken = baseline(
        "a",
        "{namespaceSelector: {}, policies: [
        {name: p, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dsn}]}}]}",
    );
    let plan = model.plan(&red(), &[broken, starter("b", &["allow-dns"])]);
    assert_eq!(steps(&plan), ["Missing allow-dns"]);
    assert_eq!(plan.matched, ["b".to_owned()].into());
}

#[test]
fn a_policy_that_cannot_be_rendered_here_stays_as_it_was() {
    let with = |value: &str| {
        baseline("a", &format!("{{namespaceSelector: {{}}, policies: [
            {{name: default-deny, spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}},
            {{name: own, spec: {{podSelector: {{matchLabels: {{team: '{value}'}}}}, policyTypes: [Ingress]}}}}]}}"))
    };
    let mut model = Model::default();
    model.converge(&red(), &[with("${namespace.labels.team}")]);
    let plan = model.plan(&red(), &[with("${namespace.labels.tier}")]);
    assert_eq!(steps(&plan), [""; 0]);
    assert_eq!(
        problems(&plan),
        ["a/own: spec.podSelector.matchLabels[team]: the namespace has no label tier"]
    );
}

#[test]
fn a_namespace_that_is_being_deleted_is_left_alone() {
    let terminating = Namespace {
        terminating: true,
        ..red()
    };
    assert_eq!(
        Model::default().plan(&terminating, &[starter("a", &["default-deny"])]),
        Plan::default()
    );
}

/// The starter with further fields of its specification, as `priority: 10`.
fn with(name: &str, fields: &str, policies: &[&str]) -> NamespaceBaseline {
    let mut spec = serde_yaml_ng::to_value(starter(name, policies).spec).unwrap();
    let fields: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(&format!("{{{fields}}}")).unwrap();
    spec.as_mapping_mut().unwrap().extend(fields);
    NamespaceBaseline {
        spec: serde_yaml_ng::from_value(spec).unwrap(),
        ..starter(name, policies)
    }
}

#[test]
fn of_two_baselines_that_make_one_name_the_one_of_higher_priority_wins_and_nothing_is_wrong() {
    let both = [
        starter("a", &["default-deny"]),
        with("b", "priority: 10", &["default-deny", "allow-dns"]),
    ];
    let mut model = Model::default();
    assert_eq!(problems(&model.plan(&red(), &both)), [""; 0]);
    model.converge(&red(), &both);
    assert_eq!(
        model.stored["default-deny"].metadata.labels.as_ref().unwrap()["ringfence.dev/baseline"],
        "b"
    );
}

#[test]
fn what_opens_goes_before_what_closes() {
    let mut model = Model::default();
    model.converge(
        &red(),
        &[starter("a", &["a-deny", "b-allow", "c-deny", "d-allow"])],
    );
    assert_eq!(
        steps(&model.plan(&red(), &[])),
        [
            "Delete b-allow",
            "Delete d-allow",
            "Delete a-deny",
            "Delete c-deny"
        ]
    );
}

#[test]
fn what_is_kept_stays_when_the_namespace_leaves_and_when_the_baseline_is_gone() {
    let kept = with("a", "retention: Keep", &["default-deny", "allow-dns"]);
    let mut model = Model::default();
    model.converge(&red(), std::slice::from_ref(&kept));
    let left = namespace(&[]);
    assert_eq!(model.plan(&left, std::slice::from_ref(&kept)).actions, []);
    assert_eq!(model.plan(&red(), &[]).actions, []);
    let smaller = with("a", "retention: Keep", &["default-deny"]);
    assert_eq!(
        steps(&model.plan(&red(), &[smaller])),
        ["Delete allow-dns"],
        "a policy that the template no longer has is no namespace that leaves"
    );
}

#[test]
fn a_suspended_baseline_makes_mends_and_removes_nothing_and_keeps_what_it_made() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny", "allow-dns"])]);
    model.stored.remove("allow-dns");
    let suspended = with("a", "suspend: true", &["default-deny", "allow-dns", "allow-more"]);
    assert_eq!(model.plan(&red(), std::slice::from_ref(&suspended)).actions, []);
    assert_eq!(
        model
            .plan(&namespace(&[]), std::slice::from_ref(&suspended))
            .actions,
        []
    );
    let other = starter("b", &["default-deny", "allow-dns", "allow-own"]);
    assert_eq!(
        steps(&model.plan(&red(), &[suspended, other])),
        ["Missing allow-dns", "Missing allow-own"],
        "another makes what this one did not, and leaves what it did"
    );
}

#[test]
fn where_a_suspended_baseline_made_nothing_the_next_one_closes_the_namespace() {
    let both = [
        starter("a", &["default-deny", "allow-dns"]),
        with("b", "priority: 10, suspend: true", &["default-deny", "allow-dns"]),
    ];
    let mut model = Model::default();
    assert_eq!(
        steps(&model.plan(&red(), &both)),
        ["Missing default-deny", "Missing allow-dns"]
    );
    model.converge(&red(), &both);
    let awake = [
        both[0].clone(),
        with("b", "priority: 10", &["default-deny", "allow-dns"]),
    ];
    assert_eq!(
        steps(&model.plan(&red(), &awake)),
        ["Differs default-deny", "Differs allow-dns"],
        "and then this one takes over in place"
    );
}

/// A baseline that cannot be understood, with what its policies were before.
fn broken(name: &str, fields: &str, policies: &[&str]) -> NamespaceBaseline {
    let mut broken = with(name, fields, policies);
    let spec = serde_yaml_ng::from_str("{podSelector: {}, policyTypes: [Egress], egress: [{fact: dsn}]}");
    broken.spec.policies.last_mut().unwrap().spec = spec.unwrap();
    broken
}

#[test]
fn a_mistake_in_a_baseline_of_higher_priority_does_not_hand_its_policies_to_a_lower_one() {
    let lower = with(
        "a",
        "policies: [
        {name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}},
        {name: doors, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{anyone: {}}]}}]",
        &[],
    );
    let higher = with("b", "priority: 10", &["default-deny", "doors-deny", "allow-dns"]);
    let doors = |mut baseline: NamespaceBaseline| {
        baseline.spec.policies[1].name = "doors".to_owned();
        baseline
    };
    let mut model = Model::default();
    model.converge(&red(), &[lower.clone(), doors(higher)]);
    let before = model.stored.clone();
    let mistaken = doors(broken(
        "b",
        "priority: 10",
        &["default-deny", "doors-deny", "allow-dns"],
    ));
    assert!(crate::baseline::template::Template::parse(&mistaken).is_err());
    let plan = model.plan(&red(), &[lower.clone(), mistaken.clone()]);
    assert_eq!((steps(&plan), problems(&plan)), (vec![], vec![]));
    assert_eq!(model.stored, before);
    let new = Model::default().plan(&red(), &[lower, mistaken]);
    assert_eq!(
        steps(&new),
        ["Missing default-deny", "Missing doors"],
        "a namespace that it never closed is closed by the next"
    );
}

#[test]
fn what_a_baseline_cannot_render_any_more_is_not_overwritten_by_another() {
    let owned = |value: &str| {
        with("b", &format!("priority: 10, policies: [
            {{name: own, spec: {{podSelector: {{matchLabels: {{team: '{value}'}}}}, policyTypes: [Ingress]}}}}]"), &[])
    };
    let lower = starter("a", &["own"]);
    let mut model = Model::default();
    model.converge(&red(), &[lower.clone(), owned("${namespace.labels.team}")]);
    let now = [lower, owned("${namespace.labels.tier}")];
    assert_eq!(model.plan(&red(), &now).actions, []);
    assert_eq!(steps(&Model::default().plan(&red(), &now)), ["Missing own"]);
}

#[test]
fn who_names_a_service_does_not_take_the_name_of_a_policy_that_is_written_down() {
    let routed = |priority: i32| {
        with("b", &format!("priority: {priority}, policies: [
            {{name: default, forEach: RoutedService, spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{anyone: {{}}}}]}}}}]"), &[])
    };
    let service = |name: &str| RoutedService {
        name: name.to_owned(),
        pods: [("app".to_owned(), "x".to_owned())].into(),
        ports: [(crate::port::Protocol::Tcp, crate::cluster::TargetPort::Number(80))].into(),
    };
    let model = Model {
        routes: vec![service("deny"), service("web")],
        ..Model::default()
    };
    for (priority, suspended) in [(10, false), (0, false), (10, true)] {
        let mut written = starter("a", &["default-deny"]);
        written.spec.suspend = suspended;
        let plan = model.plan(&red(), &[written, routed(priority)]);
        let expected: &[&str] = match suspended {
            true => &["Missing default-web"],
            false => &["Missing default-deny", "Missing default-web"],
        };
        assert_eq!(steps(&plan), expected, "{priority} {suspended}");
        assert_eq!(
            problems(&plan),
            [
                "b/default-deny: the baseline a has a policy of that name, whose place one for a Service does not take; rename the Service, or the template"
            ]
        );
    }
}

#[test]
fn what_opens_goes_although_somebody_s_object_is_in_the_way_of_something_else() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny", "allow-out"])]);
    model.store_foreign("allow-dns");
    let now = [starter("a", &["default-deny", "allow-dns"])];
    assert_eq!(steps(&model.plan(&red(), &now)), ["Delete allow-out"]);
    let mut open = Model::default();
    open.converge(&red(), &[starter("a", &["allow-out"])]);
    open.store_foreign("allow-dns");
    assert_eq!(
        steps(&open.plan(&red(), &[starter("a", &["allow-dns"])])),
        [""; 0],
        "without a default deny it may be what closes the namespace"
    );
}

#[test]
fn a_baseline_that_is_made_again_keeps_the_namespaces_that_it_took_as_new_ones() {
    let at = |second: i64| {
        let mut baseline = with("a", "existingNamespaces: OptIn", &["default-deny"]);
        let time = k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        baseline.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        baseline
    };
    let born = Namespace {
        created: Some(200),
        ..red()
    };
    let mut model = Model::default();
    model.converge(&born, &[at(100)]);
    assert_eq!(model.names(), ["default-deny"]);
    let again = model.plan(&born, &[at(300)]);
    assert_eq!((again.actions, again.matched), (vec![], ["a".to_owned()].into()));

    let mut opted = Namespace {
        created: Some(50),
        ..red()
    };
    opted
        .labels
        .insert("ringfence.dev/baseline".to_owned(), "enabled".to_owned());
    let mut model = Model::default();
    model.converge(&opted, &[at(100)]);
    opted.labels.remove("ringfence.dev/baseline");
    assert_eq!(
        steps(&model.plan(&opted, &[at(100)])),
        ["Delete default-deny"],
        "who opted in can opt out"
    );
}

#[test]
fn before_what_a_newer_or_unknown_baseline_made_is_touched_somebody_looks() {
    let newer = NamespaceBaseline {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            generation: Some(7),
            ..starter("a", &[]).metadata
        },
        ..starter("a", &["default-deny", "allow-new"])
    };
    let mut model = Model::default();
    model.converge(&red(), &[newer]);
    let asked = |plan: &Plan| {
        let basis = |action: &Action| match action {
            Action::Apply { basis, .. } | Action::Delete { basis, .. } => basis
                .as_ref()
                .map(|basis| (basis.baseline.clone(), basis.generation)),
        };
        plan.actions.iter().map(basis).collect::<Vec<_>>()
    };
    let older = model.plan(&red(), &[starter("a", &["default-deny"])]);
    assert_eq!(steps(&older), ["Differs default-deny", "Delete allow-new"]);
    assert_eq!(
        asked(&older),
        [Some(("a".to_owned(), Some(1))), Some(("a".to_owned(), Some(1)))]
    );
    let unknown = model.plan(&red(), &[]);
    assert_eq!(
        asked(&unknown),
        [Some(("a".to_owned(), None)), Some(("a".to_owned(), None))]
    );
    let mut usual = Model::default();
    usual.converge(&red(), &[starter("a", &["default-deny", "allow-dns"])]);
    assert_eq!(
        asked(&usual.plan(&red(), &[starter("a", &["default-deny"])])),
        [None]
    );
}

#[test]
fn what_must_go_and_is_held_by_a_finalizer_is_told_and_not_deleted_again() {
    let mut model = Model::default();
    model.converge(&red(), &[starter("a", &["default-deny", "allow-out"])]);
    let held = &mut model.stored.get_mut("allow-out").unwrap().metadata;
    held.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::from_second(1).unwrap(),
    ));
    held.finalizers = Some(vec!["example.com/keep".to_owned()]);
    let plan = model.plan(&red(), &[starter("a", &["default-deny"])]);
    assert_eq!(plan.actions, []);
    assert_eq!(
        problems(&plan),
        [
            "a/allow-out: it was deleted, and stays until whoever set its finalizers takes them away: example.com/keep"
        ]
    );
}

#[test]
fn an_object_of_somebody_else_s_is_adopted_as_the_baseline_says() {
    let mut equal = Model::default();
    equal.converge(&red(), &[starter("a", &["default-deny"])]);
    let theirs = equal.stored.get_mut("default-deny").unwrap();
    (theirs.metadata.labels, theirs.metadata.annotations) = (None, None);
    let mut unequal = Model::default();
    unequal.store_foreign("default-deny");

    for (model, adoption, expected) in [
        (&equal, "Never", None),
        (&equal, "IfEqual", Some("Adopted default-deny")),
        (&equal, "Force", Some("Adopted default-deny")),
        (&unequal, "Never", None),
        (&unequal, "IfEqual", None),
        (&unequal, "Force", Some("Adopted default-deny")),
    ] {
        let baselines = [with("a", &format!("adoption: {adoption}"), &["default-deny"])];
        let plan = model.plan(&red(), &baselines);
        assert_eq!(
            steps(&plan),
            expected.into_iter().collect::<Vec<_>>(),
            "{adoption}"
        );
        assert_eq!(plan.problems.is_empty(), expected.is_some(), "{adoption}");
        let mut model = model.clone();
        model.converge(&red(), &baselines);
        assert_eq!(
            model.plan(&red(), &baselines).actions,
            [],
            "{adoption}: and then all is well"
        );
    }
}

/// What a tenant or a platform team may do at any time.
#[derive(Debug, Clone)]
enum Event {
    Delete(usize),
    Open(usize),
    Unlabel(usize),
    Foreign(&'static str),
    RemoveForeign,
    Template(Vec<&'static str>),
}

fn event() -> impl Strategy<Value = Event> {
    let names = prop::sample::select(vec!["default-deny", "deny-all", "allow-dns", "allow-more"]);
    let template =
        prop::sample::subsequence(vec!["allow-dns", "default-deny", "allow-more", "deny-all"], 0..=4)
            .prop_filter("a baseline that closes", |names| {
                names.iter().any(|name| name.contains("deny"))
            });
    prop_oneof![
        (0..4usize).prop_map(Event::Delete),
        (0..4usize).prop_map(Event::Open),
        (0..4usize).prop_map(Event::Unlabel),
        names.prop_map(Event::Foreign),
        Just(Event::RemoveForeign),
        template.prop_map(Event::Template),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_one_plan_converges_and_no_step_opens_a_closed_namespace(
        events in prop::collection::vec(event(), 1..24)
    ) {
        let (mut model, mut baselines) = (Model::default(), [starter("a", &["default-deny", "allow-dns"])]);
        model.converge(&red(), &baselines);
        for event in events {
            let nth = |model: &Model, n: usize| model.stored.keys().nth(n).cloned();
            match event {
                Event::Delete(n) => {
                    if let Some(name) = nth(&model, n) { model.stored.remove(&name); }
                }
                Event::Open(n) => {
                    if let Some(policy) = nth(&model, n).and_then(|name| model.stored.get_mut(&name)) {
                        policy.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]);
                    }
                }
                Event::Unlabel(n) => {
                    // Without managedFields in the model, this gives the object away.
                    if let Some(policy) = nth(&model, n).and_then(|name| model.stored.get_mut(&name)) {
                        policy.metadata.labels = None;
                    }
                }
                Event::Foreign(name) => model.store_foreign(name),
                Event::RemoveForeign => {
                    model.stored.retain(|_, policy| !matches!(PolicyRecord::of(policy), PolicyRecord::Foreign { .. }));
                }
                Event::Template(names) => baselines = [starter("a", &names)],
            }
            let plan = model.plan(&red(), &baselines);
            let mut closed = model.is_closed();
            for action in &plan.actions {
                model.execute(action);
                prop_assert!(!closed || model.is_closed(), "{action:?} opened it");
                closed = model.is_closed();
            }
            prop_assert_eq!(model.plan(&red(), &baselines).actions, vec![], "one plan is enough");
            let blocked = plan.problems.iter().any(|problem| problem.cause == Cause::Foreign);
            prop_assert!(blocked || model.is_closed(), "closed unless somebody else's object is in the way");
        }
    }
}
