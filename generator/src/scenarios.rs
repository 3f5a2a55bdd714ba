//! Named scenarios of the controller against a model of the API server, in a time of their own: no I/O, no waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use prometheus::Registry;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::PolicyObject;
use ringfence_netpol::baseline::plan::Action;
use ringfence_netpol::cluster::{Cluster, Key};
use serde_json::json;
use tokio::time::Instant;

use crate::controller::{Controller, Job, Look};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::notice::Notice;
use crate::schedule::Pace;
use crate::statuses::{Due, Statuses};

const PACE: Pace = Pace {
    first: Duration::from_millis(50),
    limit: Duration::from_secs(10),
};
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// A controller, and the cluster that it sees at once.
struct World {
    controller: Controller,
    statuses: Statuses,
    metrics: Metrics,
    cluster: Cluster,
    notices: Vec<Notice>,
    stored: BTreeMap<(String, String), NetworkPolicy>,
    uids: u64,
    now: Instant,
    /// What each write answers, by namespace; absent is success.
    failing: BTreeMap<String, Error>,
    writes: usize,
}

impl World {
    fn new(capacity: usize) -> Self {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let mut world = Self {
            controller: Controller::new(PACE, capacity, metrics.clone()),
            statuses: Statuses::default(),
            metrics,
            cluster: Cluster::default(),
            notices: Vec::new(),
            stored: BTreeMap::new(),
            uids: 0,
            now: Instant::now(),
            failing: BTreeMap::new(),
            writes: 0,
        };
        world.baseline("starter", json!({"namespaceSelector": {}, "policies": [
            {"name": "default-deny", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
            {"name": "allow-dns", "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"fact": "dns"}]}},
        ]}));
        world
    }

    fn baseline(&mut self, name: &str, spec: serde_json::Value) {
        let baseline: NamespaceBaseline = serde_json::from_value(json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "NamespaceBaseline",
            "metadata": {"name": name, "generation": 1}, "spec": spec,
        }))
        .unwrap();
        self.cluster.apply(&baseline);
    }

    fn namespace(&mut self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        self.cluster.apply(&namespace);
    }

    fn look(&mut self) -> Vec<Job> {
        let Look { jobs, notices, .. } = self.controller.look(&self.cluster, self.now);
        self.notices.extend(notices);
        jobs
    }

    /// Carries out jobs as the API server would, and lets the controller know.
    fn carry_out(&mut self, jobs: Vec<Job>) {
        for Job { namespace, actions } in jobs {
            let mut result = Ok(());
            for action in actions {
                self.writes += 1;
                result = self.failing.get(&namespace).cloned().map_or(Ok(()), Err);
                if result.is_err() {
                    break;
                }
                match action {
                    Action::Apply { policy, .. } => self.store(&namespace, *policy),
                    Action::Delete { name, .. } => self.delete(&namespace, &name),
                }
            }
            self.controller.finished(&namespace, result, self.now);
        }
    }

    fn store(&mut self, namespace: &str, mut policy: NetworkPolicy) {
        let key = (namespace.to_owned(), policy.metadata.name.clone().unwrap());
        self.uids += 1;
        policy.metadata.uid = Some(self.uids.to_string());
        self.cluster.apply(&PolicyObject(policy.clone()));
        self.stored.insert(key, policy);
    }

    fn delete(&mut self, namespace: &str, name: &str) {
        if let Some(policy) = self.stored.remove(&(namespace.to_owned(), name.to_owned())) {
            self.cluster.delete(&PolicyObject(policy));
        }
    }

    /// Looks and carries out until nothing is left to do now.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let jobs = self.look();
            if jobs.is_empty() {
                return;
            }
            self.carry_out(jobs);
        }
        panic!("it does not settle");
    }

    /// Like [`Self::settle`], but what is stored stays as the controller saw it before.
    fn settle_without_seeing(&mut self) {
        let seen = self.cluster.policy_records.clone();
        let jobs = self.look();
        self.carry_out(jobs);
        self.cluster.policy_records = seen;
    }

    /// Lets the time pass until the controller wants to look again, for at most `limit`.
    fn pass(&mut self, limit: Duration) {
        let next = self.controller.wake(self.now).unwrap_or(self.now + limit);
        self.now = next.min(self.now + limit);
    }

    fn policies(&self, namespace: &str) -> Vec<&str> {
        self.stored
            .keys()
            .filter(|(ns, _)| ns == namespace)
            .map(|(_, name)| name.as_str())
            .collect()
    }

    fn statuses(&mut self) -> Vec<Due> {
        let time = Time(Timestamp::from_second(1).unwrap());
        let tallies = self.controller.tallies(self.now);
        let baselines = self.controller.baselines();
        self.statuses.due(
            &self.cluster,
            baselines,
            &tallies,
            STATUS_INTERVAL,
            (self.now, &time),
        )
    }
}

fn refused() -> Error {
    Error::Refused {
        object: "NetworkPolicy default-deny".to_owned(),
        code: 500,
        reason: "InternalError".to_owned(),
        message: "down".to_owned(),
        retry_after: None,
    }
}

#[test]
fn a_new_namespace_gets_its_policies_in_one_look_and_then_nothing_is_written() {
    let mut world = World::new(16);
    world.settle();
    world.namespace("shop");
    world.settle();
    assert_eq!(world.policies("shop"), ["allow-dns", "default-deny"]);
    let writes = world.writes;
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!(world.writes, writes);
    assert_eq!(world.metrics.onboarding.get_sample_count(), 1);
}

#[test]
fn a_restart_writes_nothing() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    let writes = world.writes;
    world.controller = Controller::new(PACE, 16, Metrics::new(&Registry::new()).unwrap());
    world.settle();
    assert_eq!(world.writes, writes);
}

#[test]
fn a_policy_that_is_deleted_again_and_again_comes_back_each_time() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    for _ in 0..20 {
        world.delete("shop", "default-deny");
        let start = world.now;
        world.settle();
        while !world.policies("shop").contains(&"default-deny") {
            world.pass(PACE.limit);
            world.settle();
        }
        let waited = world.now - start;
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        world.now += Duration::from_millis(300); // a person, not a program
        world.settle();
    }
    assert_eq!(world.metrics.repairs.with_label_values(&["deleted"]).get(), 20);
}

#[test]
fn against_a_program_that_undoes_every_write_at_once_repairs_become_rare() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    let (start, writes) = (world.now, world.writes);
    while world.now < start + Duration::from_secs(60) {
        world.delete("shop", "default-deny");
        world.settle();
        world.pass(Duration::from_millis(10));
    }
    let repairs = world.writes - writes;
    assert!((5..30).contains(&repairs), "{repairs} repairs in a minute");
}

#[test]
fn a_namespace_that_cannot_be_written_to_is_tried_for_ever_and_blocks_no_other() {
    let mut world = World::new(1);
    world.failing.insert("broken".to_owned(), refused());
    for name in ["a", "broken", "z"] {
        world.namespace(name);
    }
    let start = world.now;
    while world.now < start + Duration::from_secs(120) {
        world.settle();
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.policies("a").len(), world.policies("z").len()), (2, 2));
    let attempts = world.metrics.errors.with_label_values(&["refused"]).get();
    assert!((10..60).contains(&attempts), "{attempts} attempts in two minutes");
    let status = &world.statuses()[0].status;
    assert_eq!((status.namespaces.matched, status.namespaces.ready), (3, 2));
    assert!(
        status
            .conditions
            .iter()
            .any(|condition| condition.reason == "Failing" && condition.message.contains("broken: "))
    );

    world.failing.clear();
    world.pass(PACE.limit);
    world.settle();
    assert_eq!(world.policies("broken").len(), 2, "and it heals by itself");
}

#[test]
fn a_namespace_that_goes_while_it_is_written_to_is_forgotten() {
    let mut world = World::new(16);
    world.namespace("shop");
    let jobs = world.look();
    world.cluster.namespaces = ringfence_netpol::cluster::Store::default();
    assert_eq!(world.look(), [], "its job is under way");
    for job in jobs {
        world
            .controller
            .finished(&job.namespace, Err(refused()), world.now);
    }
    world.settle();
    assert_eq!(world.controller.wake(world.now), None);
}

#[test]
fn no_more_jobs_are_out_than_there_is_room_for_and_none_is_forgotten() {
    let mut world = World::new(3);
    for n in 0..10 {
        world.namespace(&format!("ns-{n}"));
    }
    let jobs = world.look();
    assert_eq!(jobs.len(), 3);
    assert_eq!(world.look(), []);
    world.carry_out(jobs);
    world.settle();
    assert_eq!(world.stored.len(), 20);
}

#[test]
fn a_status_is_written_once_and_again_only_when_it_changes_and_not_too_often() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    assert_eq!(world.statuses().len(), 1);
    assert_eq!(world.statuses(), []);
    world.namespace("other");
    world.settle();
    assert_eq!(world.statuses(), [], "it changed, but was written just now");
    assert_eq!(world.statuses.wake(), Some(world.now + STATUS_INTERVAL));
    world.now += STATUS_INTERVAL;
    let due = world.statuses();
    assert_eq!((due.len(), due[0].status.namespaces.matched), (1, 2));
}

#[test]
fn an_event_tells_when_a_baseline_begins_or_ceases_to_be_ready() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    let told = |due: &[Due]| {
        due[0]
            .event
            .as_ref()
            .map(|event| (event.warning, event.reason.clone()))
    };
    assert_eq!(told(&world.statuses()), Some((false, "Holding".to_owned())));
    world.failing.insert("other".to_owned(), refused());
    world.namespace("other");
    world.settle();
    world.now += STATUS_INTERVAL;
    assert_eq!(told(&world.statuses()), Some((true, "Failing".to_owned())));
    world.failing.insert("third".to_owned(), refused());
    world.namespace("third");
    world.settle();
    world.now += STATUS_INTERVAL;
    assert_eq!(told(&world.statuses()), None, "failing as before");
}

#[test]
fn what_was_written_and_is_not_seen_yet_is_not_written_again_and_again() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle_without_seeing();
    let (start, writes) = (world.now, world.writes);
    while world.now < start + Duration::from_millis(2500) {
        world.settle_without_seeing();
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.writes - writes, 4, "two more attempts of two steps");
}

#[test]
fn a_namespace_hears_once_that_an_object_of_its_own_is_in_the_way() {
    let mut world = World::new(16);
    world.namespace("shop");
    let foreign: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": "default-deny", "namespace": "shop"}, "spec": {"podSelector": {}},
    }))
    .unwrap();
    world.cluster.apply(&PolicyObject(foreign));
    world.settle();
    for _ in 0..5 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    let notices: Vec<_> = world
        .notices
        .iter()
        .map(|notice| (notice.namespace.as_str(), notice.policy.as_str()))
        .collect();
    assert_eq!(notices, [("shop", "default-deny")]);
    assert_eq!(world.policies("shop"), ["allow-dns"], "the others go on");
}

#[test]
fn a_look_costs_what_was_touched_and_not_what_there_is() {
    let mut world = World::new(256);
    for n in 0..50 {
        world.namespace(&format!("ns-{n}"));
    }
    world.settle();
    world.now += PACE.limit;
    let looked_at = |world: &mut World| world.controller.look(&world.cluster, world.now).namespaces;
    assert_eq!(looked_at(&mut world), 0);
    world.delete("ns-7", "allow-dns");
    assert_eq!(looked_at(&mut world), 1);
    world.baseline(
        "another",
        json!({"namespaceSelector": {}, "policies": [
        {"name": "own", "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}]}),
    );
    assert_eq!(looked_at(&mut world), 50, "a baseline concerns them all");
}

#[test]
fn the_queue_and_the_age_of_its_first_are_told() {
    let mut world = World::new(16);
    world.settle();
    world.namespace("shop");
    world.failing.insert("shop".to_owned(), refused());
    world.settle();
    world.now += Duration::from_secs(7);
    world.controller.gauge(world.now);
    assert_eq!(world.metrics.queue.get(), 1);
    assert!(
        world.metrics.queue_age.get() >= 7.0,
        "{}",
        world.metrics.queue_age.get()
    );
    world.failing.clear();
    world.pass(PACE.limit);
    world.settle();
    world.controller.gauge(world.now);
    assert_eq!(
        (world.metrics.queue.get(), world.metrics.queue_age.get()),
        (0, 0.0)
    );
}

#[test]
fn a_namespace_that_nobody_was_there_to_see_is_as_late_as_it_is_old() {
    let mut world = World::new(16);
    let namespace: Namespace = serde_json::from_value(
        json!({"metadata": {"name": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
    )
    .unwrap();
    world.cluster.apply(&namespace);
    let created: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    world.controller.set_clock(world.now, created.as_second() + 40);
    world.settle();
    let sum = world.metrics.onboarding.get_sample_sum();
    assert_eq!(world.metrics.onboarding.get_sample_count(), 1);
    assert!((40.0..41.0).contains(&sum), "{sum}");
}

#[test]
fn among_many_that_wait_a_look_costs_what_can_be_done() {
    let mut world = World::new(4);
    world.settle();
    for n in 0..500 {
        world.namespace(&format!("n-{n}"));
    }
    let first = world.look();
    assert_eq!(first.len(), 4);
    let look = world.controller.look(&world.cluster, world.now);
    assert_eq!((look.namespaces, look.jobs.len()), (0, 0), "all places are taken");
    let mut jobs = first;
    jobs.truncate(1);
    world.carry_out(jobs);
    let look = world.controller.look(&world.cluster, world.now);
    assert_eq!(look.jobs.len(), 1);
}

#[test]
fn a_baseline_that_is_made_again_at_once_loses_nothing_and_one_that_is_gone_does() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    let starter = world
        .cluster
        .baselines
        .get(&Key::cluster("starter"))
        .unwrap()
        .clone();
    let writes = world.writes;
    world.cluster.delete(&starter);
    world.settle();
    world.pass(Duration::from_millis(500));
    world.settle();
    world.cluster.apply(&starter);
    for _ in 0..10 {
        world.settle();
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.writes, world.policies("shop").len()), (writes, 2));

    world.cluster.delete(&starter);
    let start = world.now;
    while world.policies("shop") != [""; 0] {
        world.settle();
        world.pass(Duration::from_millis(100));
        assert!(world.now < start + Duration::from_secs(5), "it does not go");
    }
    assert!(world.now >= start + Duration::from_secs(2));
}

#[test]
fn an_api_server_that_asks_to_be_left_alone_is() {
    let mut world = World::new(16);
    let throttled = Error::Refused {
        object: "NetworkPolicy default-deny".to_owned(),
        code: 429,
        reason: "TooManyRequests".to_owned(),
        message: String::new(),
        retry_after: Some(Duration::from_secs(3)),
    };
    world.failing.insert("shop".to_owned(), throttled);
    world.namespace("shop");
    let start = world.now;
    while world.now < start + Duration::from_secs(10) {
        world.settle();
        world.pass(Duration::from_millis(50));
    }
    assert_eq!(world.writes, 4, "at once, and after 3, 6 and 9 seconds");
}

#[test]
fn who_undoes_at_leisure_what_is_written_is_told_of_and_no_longer_than_it_goes_on() {
    let mut world = World::new(16);
    world.namespace("shop");
    world.settle();
    let degraded = |world: &mut World| {
        world.now += STATUS_INTERVAL;
        world.look();
        let time = Time(Timestamp::from_second(1).unwrap());
        let tally = world.controller.tallies(world.now);
        let baseline = world.controller.baselines().get("starter").unwrap();
        let status = ringfence_netpol::baseline::status::status(baseline, &tally["starter"], None, &time);
        let degraded = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Degraded");
        degraded.unwrap().message
    };
    for repairs in 1..=12 {
        world.delete("shop", "default-deny");
        world.settle();
        world.pass(Duration::from_millis(200));
        world.settle();
        world.now += Duration::from_secs(3);
        assert_eq!(world.policies("shop").len(), 2);
        let said = degraded(&mut world);
        assert_eq!(
            said.contains("shop/default-deny: it was restored 10 times"),
            repairs >= 10,
            "{repairs}: {said}"
        );
    }
    let wake = world.controller.wake(world.now).unwrap();
    assert!(wake <= world.now + Duration::from_secs(60));
    world.now = wake;
    let said = degraded(&mut world);
    assert!(!said.contains("restored"), "{said}");
}
