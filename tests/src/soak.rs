//! Everything changes at random, while connections are opened all the time: no verdict may be wrong once a change had its time to
//! reach the kernel.
//!
//! The naive evaluator is the oracle. Every state of the cluster is kept with the moment from which it may hold and that from which
//! it must; a connection may go as any of the states says that could hold between its first packet and its answer. What is
//! wrong then was wrong for longer than the bound, or at a moment at which nothing changed at all.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use fastrand::Rng;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, Patch};
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

use crate::field::{Player, idle, params, start};
use crate::probe::{Answer, Measured, Probers, Question, Wire};
use crate::target::Target;

const TEAMS: [&str; 2] = ["red", "blue"];
const APPLICATIONS: [&str; 3] = ["web", "api", "db"];
const PORTS: [u16; 2] = [80, 81];
const PODS: usize = 3;
const POLICIES: usize = 6;
/// How long a connection may take that is allowed.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub namespaces: [&'a str; 2],
    pub duration: Duration,
    /// How long after the API server's word a change may take to be in force on every node.
    pub bound: Duration,
    /// The same seed does the same changes.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub changes: usize,
    pub connections: usize,
    /// Those of which only one outcome was right.
    pub decisive: usize,
    pub wrong: Vec<Wrong>,
}

/// A connection that went as no state says that could hold.
#[derive(Debug)]
pub struct Wrong {
    pub from: Key,
    pub to: Key,
    pub transport: Transport,
    pub answer: Answer,
    /// How long after the last change that was known.
    pub after: Duration,
    pub change: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            transport,
            answer,
            after,
            change,
        } = self;
        write!(
            f,
            "{from} -> {to} {transport}: {answer:?}, {} ms after: {change}",
            after.as_millis()
        )
    }
}

struct State {
    cluster: Arc<Cluster>,
    /// From when it may hold: before it was asked for.
    may: Instant,
    /// From when it must; not before the API server's word.
    must: Option<Instant>,
    change: String,
}

/// The states so far, oldest first; those that can hold no more are dropped.
#[derive(Default)]
struct History(Mutex<Vec<State>>);

impl History {
    fn latest(&self) -> Arc<Cluster> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states
            .last()
            .map(|state| Arc::clone(&state.cluster))
            .unwrap_or_default()
    }

    fn begin(&self, cluster: Cluster, change: String) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.push(State {
            cluster: Arc::new(cluster),
            may: Instant::now(),
            must: None,
            change,
        });
        if states.len() > 64 {
            states.remove(0);
        }
    }

    fn known(&self, bound: Duration) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = states.last_mut() {
            state.must = Some(Instant::now() + bound);
        }
    }

    /// The states that could hold at some moment of a measurement.
    fn possible(&self, measured: &Measured) -> (Vec<Arc<Cluster>>, Option<(Instant, String)>) {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |index: usize| {
            states
                .get(index + 1)
                .and_then(|next| next.must)
                .is_some_and(|must| must < measured.began)
        };
        let possible: Vec<(usize, &State)> = states
            .iter()
            .enumerate()
            .filter(|(index, state)| state.may <= measured.ended && !over(*index))
            .collect();
        let last = possible
            .last()
            .map(|(_, state)| (state.may, state.change.clone()));
        (
            possible
                .into_iter()
                .map(|(_, state)| Arc::clone(&state.cluster))
                .collect(),
            last,
        )
    }
}

/// Runs the plan on namespaces that are there and empty.
///
/// # Errors
/// If a change is refused or nothing can be measured; that verdicts are wrong is in the report.
pub async fn soak(target: &Target, prober: &Path, plan: &Plan<'_>) -> anyhow::Result<Report> {
    let mut probers = Probers::start(target, prober).await?;
    let mut churn = Churn {
        target,
        plan,
        random: Rng::with_seed(plan.seed),
        history: Arc::default(),
        players: BTreeMap::new(),
        changes: 0,
    };
    churn.settle().await?;
    let ports: Vec<(Wire, u16)> = [Wire::Tcp, Wire::Udp]
        .into_iter()
        .flat_map(|wire| PORTS.map(|port| (wire, port)))
        .collect();
    let mut report = Report::default();
    let end = Instant::now() + plan.duration;
    tokio::time::sleep(plan.bound).await;
    while Instant::now() < end {
        let all: Vec<(String, IpAddr)> = churn
            .players
            .values()
            .flat_map(|player| {
                player
                    .addresses
                    .iter()
                    .map(|address| (player.node.clone(), *address))
            })
            .collect();
        probers.serve(&all, &ports).await?;
        // Pods come and go only between two such stretches; all else changes while connections are opened.
        let stretch = Instant::now() + Duration::from_secs(3).min(plan.duration);
        let (history, players) = (Arc::clone(&churn.history), churn.players.clone());
        let probing = async {
            while Instant::now() < stretch {
                probe(&mut probers, &players, &history, &mut report).await?;
            }
            anyhow::Ok(())
        };
        let churning = async {
            while Instant::now() < stretch {
                churn.change().await?;
                let pause = Duration::from_millis(churn.random.u64(100..500));
                tokio::time::sleep(pause).await;
            }
            anyhow::Ok(())
        };
        let (probed, churned) = tokio::join!(probing, churning);
        probed?;
        churned?;
        churn.replace_pod().await?;
    }
    report.changes = churn.changes;
    Ok(report)
}

async fn probe(
    probers: &mut Probers,
    players: &BTreeMap<Key, Player>,
    history: &History,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut questions = Vec::new();
    let mut subjects = BTreeMap::new();
    for (from, sender) in players {
        for (to, receiver) in players.iter().filter(|(to, _)| *to != from) {
            for (wire, protocol) in [(Wire::Tcp, Protocol::Tcp), (Wire::Udp, Protocol::Udp)] {
                for port in PORTS {
                    // The first address: that is the one which the evaluator judges by.
                    let (Some(source), Some(destination)) =
                        (sender.addresses.first(), receiver.addresses.first())
                    else {
                        continue;
                    };
                    let question = Question {
                        from: *source,
                        protocol: wire,
                        to: SocketAddr::new(*destination, port),
                    };
                    questions.push((sender.node.clone(), question));
                    subjects.insert(question, (from, to, Transport::Port(protocol, port)));
                }
            }
        }
    }
    let measured = probers.ask(&questions, PATIENCE).await?;
    let (possible, last) = history.possible(&measured);
    for (question, answer) in &measured.answers {
        let Some((from, to, transport)) = subjects.get(question) else {
            continue;
        };
        let mut open = [false; 2];
        let mut closed = false;
        for cluster in &possible {
            let (Some(sender), Some(receiver)) = (Endpoint::of(cluster, from), Endpoint::of(cluster, to))
            else {
                continue;
            };
            let verdict = evaluate(cluster, sender, receiver, *transport);
            // The two sides may be on two nodes, which hear of a change at two moments.
            open = [open[0] | verdict.egress, open[1] | verdict.ingress];
            closed |= !verdict.allowed();
        }
        let open = open == [true; 2];
        report.connections += 1;
        report.decisive += usize::from(open != closed);
        let right = if *answer == Answer::Open { open } else { closed };
        if !right {
            let (since, change) = last.clone().unwrap_or((measured.began, "the start".to_owned()));
            report.wrong.push(Wrong {
                from: (*from).clone(),
                to: (*to).clone(),
                transport: *transport,
                answer: answer.clone(),
                after: measured.ended.saturating_duration_since(since),
                change,
            });
        }
    }
    Ok(())
}

/// Who changes things.
struct Churn<'a> {
    target: &'a Target,
    plan: &'a Plan<'a>,
    random: Rng,
    history: Arc<History>,
    players: BTreeMap<Key, Player>,
    changes: usize,
}

impl<'a> Churn<'a> {
    /// The start: all pods run, and every namespace is of a team.
    async fn settle(&mut self) -> anyhow::Result<()> {
        for namespace in self.plan.namespaces {
            self.label_namespace(namespace, TEAMS[0]).await?;
            for index in 0..PODS {
                let key = Key::new(namespace, format!("pod-{index}"));
                self.start_pod(key).await?;
            }
        }
        Ok(())
    }

    /// One change of what is there, but of which pods there are.
    async fn change(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        match self.random.u8(0..10) {
            0 => {
                let namespace = self.namespace();
                let team = TEAMS[self.random.usize(0..TEAMS.len())];
                self.label_namespace(namespace, team).await
            }
            1..=3 => self.label_pod().await,
            4..=5 => self.delete_policy().await,
            _ => self.apply_policy().await,
        }
    }

    fn namespace(&mut self) -> &'a str {
        let names = self.plan.namespaces;
        names[self.random.usize(0..names.len())]
    }

    async fn label_namespace(&mut self, namespace: &str, team: &str) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.target.client.clone());
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {
            "team": team, "kubernetes.io/metadata.name": namespace,
        }}});
        let mut cluster = (*self.history.latest()).clone();
        cluster.apply(&serde_json::from_value::<Namespace>(object.clone())?);
        self.history
            .begin(cluster, format!("namespace {namespace} of team {team}"));
        api.patch(namespace, &params(), &Patch::Apply(object)).await?;
        self.history.known(self.plan.bound);
        Ok(())
    }

    async fn label_pod(&mut self) -> anyhow::Result<()> {
        let keys: Vec<Key> = self.players.keys().cloned().collect();
        let key = &keys[self.random.usize(0..keys.len())];
        let application = APPLICATIONS[self.random.usize(0..APPLICATIONS.len())];
        let api: Api<Pod> = Api::namespaced(self.target.client.clone(), &key.namespace);
        let mut pod = api.get(&key.name).await?;
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert("app".to_owned(), application.to_owned());
        let mut cluster = (*self.history.latest()).clone();
        cluster.apply(&pod);
        self.history.begin(cluster, format!("pod {key} is {application}"));
        let patch = json!({"metadata": {"labels": {"app": application}}});
        api.patch(&key.name, &Default::default(), &Patch::Merge(patch))
            .await?;
        self.history.known(self.plan.bound);
        Ok(())
    }

    async fn apply_policy(&mut self) -> anyhow::Result<()> {
        let namespace = self.namespace();
        let name = format!("p{}", self.random.usize(0..POLICIES));
        let spec = self.spec();
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let mut cluster = (*self.history.latest()).clone();
        cluster.apply(&serde_json::from_value::<NetworkPolicy>(object.clone())?);
        self.history.begin(
            cluster,
            format!("policy {namespace}/{name} is {}", object["spec"]),
        );
        let api: Api<NetworkPolicy> = Api::namespaced(self.target.client.clone(), namespace);
        api.patch(&name, &params(), &Patch::Apply(object)).await?;
        self.history.known(self.plan.bound);
        Ok(())
    }

    async fn delete_policy(&mut self) -> anyhow::Result<()> {
        let mut cluster = (*self.history.latest()).clone();
        let all: Vec<Key> = cluster
            .policies
            .iter()
            .map(|(key, _)| key.clone())
            .filter(|key| self.plan.namespaces.contains(&key.namespace.as_str()))
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let key = &all[self.random.usize(0..all.len())];
        let api: Api<NetworkPolicy> = Api::namespaced(self.target.client.clone(), &key.namespace);
        let policy = api.get(&key.name).await?;
        cluster.delete(&policy);
        self.history.begin(cluster, format!("policy {key} is gone"));
        api.delete(&key.name, &DeleteParams::default()).await?;
        self.history.known(self.plan.bound);
        Ok(())
    }

    /// A pod goes, and another of its name comes, with another label and address.
    async fn replace_pod(&mut self) -> anyhow::Result<()> {
        let keys: Vec<Key> = self.players.keys().cloned().collect();
        let key = keys[self.random.usize(0..keys.len())].clone();
        let api: Api<Pod> = Api::namespaced(self.target.client.clone(), &key.namespace);
        let pod = api.get(&key.name).await?;
        self.players.remove(&key);
        api.delete(&key.name, &DeleteParams::default().grace_period(0))
            .await?;
        let gone = format!("pod {key} to go");
        crate::target::until(&gone, Duration::from_secs(60), || async {
            Ok(api.get_opt(&key.name).await?.is_none().then_some(()))
        })
        .await?;
        let mut cluster = (*self.history.latest()).clone();
        cluster.delete(&pod);
        self.history.begin(cluster, gone);
        self.history.known(self.plan.bound);
        self.changes += 1;
        self.start_pod(key).await
    }

    async fn start_pod(&mut self, key: Key) -> anyhow::Result<()> {
        let nodes = self.target.nodes().await?;
        let node = &nodes[self.random.usize(0..nodes.len())];
        let application = APPLICATIONS[self.random.usize(0..APPLICATIONS.len())];
        let labels = BTreeMap::from([("app".to_owned(), application.to_owned())]);
        let ports: Vec<Value> = vec![
            json!({"name": "http", "containerPort": 80, "protocol": "TCP"}),
            json!({"name": "dns", "containerPort": 81, "protocol": "UDP"}),
        ];
        let player = start(self.target, &key, idle(&key, &labels, node, &ports)).await?;
        let api: Api<Pod> = Api::namespaced(self.target.client.clone(), &key.namespace);
        let pod = api.get(&key.name).await.with_context(|| format!("pod {key}"))?;
        let mut cluster = (*self.history.latest()).clone();
        cluster.apply(&pod);
        self.history.begin(cluster, format!("pod {key} is there"));
        self.history.known(self.plan.bound);
        self.players.insert(key, player);
        Ok(())
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({"podSelector": {}});
        if self.random.bool() {
            spec["podSelector"] = self.application();
        }
        let (ingress, egress) = match self.random.u8(0..4) {
            0 => (false, true),
            1 => (true, true),
            _ => (true, false),
        };
        let mut types = Vec::new();
        for (wanted, kind, field, peers) in [
            (ingress, "Ingress", "ingress", "from"),
            (egress, "Egress", "egress", "to"),
        ] {
            if wanted {
                types.push(kind);
                let rules: Vec<Value> = (0..self.random.usize(0..3)).map(|_| self.rule(peers)).collect();
                spec[field] = json!(rules);
            }
        }
        spec["policyTypes"] = json!(types);
        spec
    }

    fn rule(&mut self, peers_field: &str) -> Value {
        let mut rule = json!({});
        if self.random.u8(0..5) > 0 {
            let peers: Vec<Value> = (0..self.random.usize(1..3)).map(|_| self.peer()).collect();
            rule[peers_field] = json!(peers);
        }
        let ports = match self.random.u8(0..5) {
            0 => json!([{"port": 80}]),
            1 => json!([{"port": 80, "endPort": 81, "protocol": "UDP"}]),
            2 => json!([{"port": "http"}, {"port": "dns", "protocol": "UDP"}]),
            3 => json!([{"protocol": "TCP"}]),
            _ => return rule,
        };
        rule["ports"] = ports;
        rule
    }

    fn peer(&mut self) -> Value {
        let team = json!({"matchLabels": {"team": TEAMS[self.random.usize(0..TEAMS.len())]}});
        match self.random.u8(0..5) {
            0 => json!({"namespaceSelector": team}),
            1 => json!({"namespaceSelector": team, "podSelector": self.application()}),
            2 => {
                let all: Vec<IpAddr> = self
                    .players
                    .values()
                    .filter_map(|player| player.addresses.first().copied())
                    .collect();
                match all.get(self.random.usize(0..all.len().max(1))) {
                    Some(address) => json!({"ipBlock": {"cidr": ipnet::IpNet::from(*address).to_string()}}),
                    None => json!({"podSelector": {}}),
                }
            }
            _ => json!({"podSelector": self.application()}),
        }
    }

    fn application(&mut self) -> Value {
        let application = APPLICATIONS[self.random.usize(0..APPLICATIONS.len())];
        match self.random.u8(0..4) {
            0 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [application]}]}),
            1 => json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            _ => json!({"matchLabels": {"app": application}}),
        }
    }
}
