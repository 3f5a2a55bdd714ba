//! A policy case as data: a small cluster, its policies, and who must reach whom.
//!
//! The form is one JSON object a line, so that collections which nobody here wrote can be run too:
//! `namespaces` (name → labels), `pods` (`ns`, `name`, `labels`, `ip`, named `ports`), `policies`, and `expected`: for each `PROTO/port` and each
//! source pod a row with a column for every pod in the order of `pods`: `.` allowed, `X` denied, `-` the pod itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{self, NodeRules, compile};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::port::{Protocol, Transport};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::command::{Listed, Ringfence};

/// The node that all pods of a case are on.
pub const NODE: &str = "node";

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub pods: Vec<PodOfCase>,
    pub policies: Vec<NetworkPolicy>,
    expected: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
pub struct PodOfCase {
    pub ns: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub ip: IpAddr,
    pub ports: Vec<PortOfCase>,
}

#[derive(Debug, Deserialize)]
pub struct PortOfCase {
    pub name: String,
    pub port: u16,
    pub protocol: String,
}

/// A verdict that a case expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub from: Key,
    pub to: Key,
    pub transport: Transport,
    pub allowed: bool,
}

/// A verdict that is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub from: Key,
    pub to: Key,
    pub transport: Transport,
    pub expected: bool,
    pub evaluated: bool,
    pub compiled: bool,
    pub listed: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            transport,
            expected,
            evaluated,
            compiled,
            listed,
        } = self;
        write!(
            f,
            "{from} -> {to} {transport}: allowed must be {expected}, is {evaluated} by the evaluator, {compiled} by the compiled rules, {listed} by connlist"
        )
    }
}

/// Reads cases, one a line.
///
/// # Errors
/// Names the line that is no case.
pub fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| serde_json::from_str(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

impl Case {
    /// Judges every expected verdict in three ways: by the evaluator, by the compiled rules, and by the command line's list over the same
    /// cluster as manifests. Returns those that differ, and how many were judged.
    ///
    /// # Errors
    /// If the case itself is not consistent, or the command line cannot be asked.
    pub fn judge(&self, ringfence: &Ringfence) -> anyhow::Result<(usize, Vec<Difference>)> {
        let manifests = self.manifests()?;
        let cluster = cluster(&manifests)?;
        let rules = compile(&cluster, NODE);
        let listed = Listed::of(&manifests, ringfence)?;
        let verdicts_expected = self.verdicts()?;
        let mut differences = Vec::new();
        for Verdict {
            from,
            to,
            transport,
            allowed: expected,
        } in &verdicts_expected
        {
            let (evaluated, compiled) = verdicts(&cluster, &rules, from, to, *transport)?;
            let pod = |key: &Key| format!("{key}[Pod]");
            let listed = listed.has(&pod(from), &pod(to), *transport);
            if [evaluated, compiled, listed] != [*expected; 3] {
                differences.push(Difference {
                    from: from.clone(),
                    to: to.clone(),
                    transport: *transport,
                    expected: *expected,
                    evaluated,
                    compiled,
                    listed,
                });
            }
        }
        Ok((verdicts_expected.len(), differences))
    }

    /// Every verdict that is expected, but a pod's on itself.
    ///
    /// # Errors
    /// If the case is not consistent.
    pub fn verdicts(&self) -> anyhow::Result<Vec<Verdict>> {
        let mut verdicts = Vec::new();
        for (name, rows) in &self.expected {
            let transport = transport(name)?;
            ensure!(
                rows.len() == self.pods.len(),
                "{name}: {} rows for {} pods",
                rows.len(),
                self.pods.len()
            );
            for (from, row) in rows {
                let (namespace, name) = from
                    .split_once('/')
                    .with_context(|| format!("{from} is no namespace/name"))?;
                let from = Key::new(namespace, name);
                ensure!(
                    row.chars().count() == self.pods.len(),
                    "the row of {from} has not a column for every pod"
                );
                for (to, cell) in self.pods.iter().zip(row.chars()) {
                    let allowed = match cell {
                        '.' => true,
                        'X' => false,
                        '-' => continue,
                        other => bail!("{other:?} is none of '.', 'X' and '-'"),
                    };
                    verdicts.push(Verdict {
                        from: from.clone(),
                        to: Key::new(&to.ns, &to.name),
                        transport,
                        allowed,
                    });
                }
            }
        }
        Ok(verdicts)
    }

    /// The cluster that it is about.
    ///
    /// # Errors
    /// If an object of it cannot be read.
    pub fn cluster(&self) -> anyhow::Result<Cluster> {
        cluster(&self.manifests()?)
    }

    fn manifests(&self) -> anyhow::Result<Vec<Value>> {
        let mut manifests = Vec::new();
        for (name, labels) in &self.namespaces {
            let metadata = json!({"name": name, "labels": labels});
            manifests.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        }
        for pod in &self.pods {
            let port = |port: &PortOfCase| json!({"name": port.name, "protocol": port.protocol, "containerPort": port.port});
            let ports: Vec<_> = pod.ports.iter().map(port).collect();
            manifests.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.name, "namespace": pod.ns, "labels": pod.labels},
                "spec": {"nodeName": NODE, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": "Running", "podIP": pod.ip},
            }));
        }
        for policy in &self.policies {
            manifests.push(serde_json::to_value(policy)?);
        }
        Ok(manifests)
    }
}

fn cluster(manifests: &[Value]) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    for object in manifests {
        match object["kind"].as_str() {
            Some("Namespace") => cluster.apply(&serde_json::from_value::<core::Namespace>(object.clone())?),
            Some("Pod") => cluster.apply(&serde_json::from_value::<core::Pod>(object.clone())?),
            _ => cluster.apply(&serde_json::from_value::<NetworkPolicy>(object.clone())?),
        };
    }
    Ok(cluster)
}

fn transport(name: &str) -> anyhow::Result<Transport> {
    let parsed = name
        .split_once('/')
        .and_then(|(protocol, port)| Some(Transport::Port(Protocol::parse(protocol)?, port.parse().ok()?)));
    parsed.with_context(|| format!("{name:?} is no PROTO/port"))
}

fn verdicts(
    cluster: &Cluster,
    rules: &NodeRules,
    from: &Key,
    to: &Key,
    transport: Transport,
) -> anyhow::Result<(bool, bool)> {
    let pod = |key| match Endpoint::of(cluster, key) {
        Some(endpoint @ Endpoint::Pod { .. }) => Ok(endpoint),
        _ => bail!("{key} is no pod of the case"),
    };
    let (sender, receiver) = (pod(from)?, pod(to)?);
    let compiled = compile::verdict(|_| Some(rules), sender, receiver, transport);
    let evaluated = evaluate(cluster, sender, receiver, transport);
    Ok((evaluated.allowed(), compiled.allowed()))
}
