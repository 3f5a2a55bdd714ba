//! From workloads to the pods that they make.
//!
//! Manifests hold Deployments and the like rather than pods. A workload stands for one pod of its template; pods that
//! are there themselves know their owner, so that both come down to the same workload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Cluster, Key, Namespace, Observed, Phase, Pod};

/// The label that the API server puts on every namespace.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The workload that a pod belongs to, in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub name: String,
    pub kind: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.kind)
    }
}

impl Owner {
    /// The owner that controls an object; the first one, if none says that it does.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let owners = || meta.owner_references.iter().flatten();
        let controls = |owner: &&OwnerReference| owner.controller == Some(true);
        owners()
            .find(controls)
            .or_else(|| owners().next())
            .map(|owner| Self {
                name: owner.name.clone(),
                kind: owner.kind.clone(),
            })
    }
}

/// A kind of object that makes pods from a template.
pub trait Workload {
    const KIND: &'static str;

    fn meta(&self) -> &ObjectMeta;

    fn template(&self) -> Option<&core::PodTemplateSpec>;
}

macro_rules! workload {
    ($($kind:ty as $name:literal: |$object:ident| $template:expr),+ $(,)?) => {$(
        impl Workload for $kind {
            const KIND: &'static str = $name;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn template(&self) -> Option<&core::PodTemplateSpec> {
                let $object = self;
                $template
            }
        }
    )+};
}

workload! {
    apps::Deployment as "Deployment": |object| object.spec.as_ref().map(|spec| &spec.template),
    apps::StatefulSet as "StatefulSet": |object| object.spec.as_ref().map(|spec| &spec.template),
    apps::DaemonSet as "DaemonSet": |object| object.spec.as_ref().map(|spec| &spec.template),
    apps::ReplicaSet as "ReplicaSet": |object| object.spec.as_ref().and_then(|spec| spec.template.as_ref()),
    batch::Job as "Job": |object| object.spec.as_ref().map(|spec| &spec.template),
    batch::CronJob as "CronJob": |object| {
        object.spec.job_template.spec.as_ref().map(|job| &job.template)
    },
    core::ReplicationController as "ReplicationController": |object| {
        object.spec.as_ref().and_then(|spec| spec.template.as_ref())
    },
}

/// A cluster in the making, from manifests in any order.
#[derive(Debug, Default)]
pub struct Assembly {
    cluster: Cluster,
    /// The owner of each workload that has one.
    parents: BTreeMap<(String, Owner), Owner>,
    /// The workloads, and the key of the pod that stands for each.
    templates: BTreeMap<(String, Owner), Key>,
    /// Workloads that are there, with no template known.
    known: BTreeSet<(String, Owner)>,
}

impl Assembly {
    /// Takes an object that a cluster keeps as it is.
    pub fn apply<K: Observed>(&mut self, object: &K) {
        self.cluster.apply(object);
    }

    /// Takes a workload: a pod of its template.
    pub fn apply_workload<W: Workload>(&mut self, workload: &W) {
        let meta = workload.meta();
        let owner = Owner {
            name: meta.name.clone().unwrap_or_default(),
            kind: W::KIND.to_owned(),
        };
        let namespace = meta.namespace.clone().unwrap_or_default();
        let template = workload.template().cloned().unwrap_or_default();
        let (labels, annotations) = template
            .metadata
            .map_or((None, None), |meta| (meta.labels, meta.annotations));
        let mut labels = labels.unwrap_or_default();
        if W::KIND == "Job" {
            for key in ["job-name", "batch.kubernetes.io/job-name"] {
                labels.entry(key.to_owned()).or_insert_with(|| owner.name.clone());
            }
        }
        let pod = core::Pod {
            metadata: ObjectMeta {
                labels: Some(labels),
                annotations,
                ..ObjectMeta::default()
            },
            spec: template.spec,
            status: None,
        };
        let pod = Pod {
            owner: Some(owner.clone()),
            ..pod.observe()
        };
        // No pod can have such a name, so that it hides none.
        let key = Key::new(namespace.as_str(), owner.to_string());
        self.cluster.pods.apply(key.clone(), pod);
        if let Some(parent) = Owner::of(meta) {
            self.parents.insert((namespace.clone(), owner.clone()), parent);
        }
        self.templates.insert((namespace, owner), key);
    }

    /// Takes that a workload is there, and whose it is, where nothing else of it is of interest.
    pub fn apply_owner(&mut self, namespace: &str, owner: Owner, parent: Owner) {
        self.known.insert((namespace.to_owned(), parent.clone()));
        self.parents.insert((namespace.to_owned(), owner), parent);
    }

    /// The cluster: pods belong to the topmost workload that is known, a workload whose pods are there (or whose owner is) stands
    /// for no further pod, and every namespace that something is in exists and carries its name.
    pub fn finish(mut self) -> Cluster {
        let templates: BTreeSet<&Key> = self.templates.values().collect();
        let mut embodied: BTreeSet<(String, Owner)> = BTreeSet::new();
        let mut pods: Vec<(Key, Pod)> = Vec::with_capacity(self.cluster.pods.len());
        for (key, pod) in self.cluster.pods.iter() {
            let mut pod = pod.clone();
            if let Some(owner) = pod.owner.take() {
                let top = self.topmost(&key.namespace, owner);
                if !templates.contains(key) && !matches!(pod.phase, Phase::Succeeded | Phase::Failed) {
                    embodied.insert((key.namespace.clone(), top.clone()));
                }
                pod.owner = Some(top);
            }
            pods.push((key.clone(), pod));
        }
        pods.retain(|(key, pod)| {
            let Some(owner) = pod.owner.as_ref().filter(|_| templates.contains(key)) else {
                return true;
            };
            let owner = (key.namespace.clone(), owner.clone());
            // One that has no template here stands for the pods of those below it.
            let own = self.templates.get(&owner);
            !embodied.contains(&owner) && own.is_none_or(|own| own == key)
        });
        self.cluster.pods.reset(pods);
        self.complete_namespaces();
        self.cluster
    }

    /// The topmost known workload above an owner.
    fn topmost(&self, namespace: &str, owner: Owner) -> Owner {
        let mut at = (namespace.to_owned(), owner);
        // Owners that own each other are no reason to go round forever.
        for _ in 0..8 {
            let Some(parent) = self.parents.get(&at) else {
                break;
            };
            let above = (at.0.clone(), parent.clone());
            if !self.templates.contains_key(&above) && !self.known.contains(&above) {
                break;
            }
            at = above;
        }
        at.1
    }

    fn complete_namespaces(&mut self) {
        let cluster = &mut self.cluster;
        let named = |key: &Key| key.namespace.clone();
        let used: BTreeSet<String> = cluster
            .pods
            .iter()
            .map(|(key, _)| named(key))
            .chain(cluster.policies.iter().map(|(key, _)| named(key)))
            .chain(cluster.services.iter().map(|(key, _)| named(key)))
            .chain(cluster.ingresses.iter().map(|(key, _)| named(key)))
            .chain(cluster.gateways.iter().map(|(key, _)| named(key)))
            .chain(cluster.gateway_routes.iter().map(|(key, _)| named(key)))
            .chain(cluster.namespaces.iter().map(|(key, _)| key.name.clone()))
            .filter(|name| !name.is_empty())
            .collect();
        for name in used {
            let key = Key::cluster(name.as_str());
            let implied = || Namespace {
                implied: true,
                ..Namespace::default()
            };
            let mut namespace = cluster.namespaces.get(&key).cloned().unwrap_or_else(implied);
            namespace.labels.insert(NAMESPACE_NAME.to_owned(), name);
            cluster.namespaces.apply(key, namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;

    fn object<T: DeserializeOwned>(yaml: &str) -> T {
        serde_yaml_ng::from_str(yaml).unwrap()
    }

    fn owners(cluster: &Cluster) -> Vec<String> {
        let pods = cluster.pods.iter();
        pods.map(|(key, pod)| match &pod.owner {
            Some(owner) => format!("{key} of {owner}"),
            None => key.to_string(),
        })
        .collect()
    }

    const DEPLOYMENT: &str = "{metadata: {name: web, namespace: a}, spec: {selector: {}, template: {metadata: {labels: {app: web}}, \
                              spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}}}";
    const REPLICA_SET: &str = "{metadata: {name: web-1, namespace: a, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, \
                               name: web, uid: u, controller: true}]}, spec: {selector: {}, template: {metadata: {labels: {app: web}}}}}";
    const POD: &str = "{metadata: {name: web-1-x, namespace: a, labels: {app: web}, ownerReferences: [{apiVersion: apps/v1, \
                       kind: ReplicaSet, name: web-1, uid: u, controller: true}]}}";

    #[test]
    fn a_workload_stands_for_a_pod_of_its_template() {
        let mut assembly = Assembly::default();
        assembly.apply_workload(&object::<apps::Deployment>(DEPLOYMENT));
        let cluster = assembly.finish();
        assert_eq!(owners(&cluster), ["a/web[Deployment] of web[Deployment]"]);
        let pod = cluster.pods.values().next().unwrap();
        assert_eq!((pod.labels["app"].as_str(), pod.ports[0].number), ("web", 80));
        assert!(pod.is_governed());
    }

    #[test]
    fn pods_belong_to_the_topmost_workload_that_is_known_and_replace_its_template() {
        let mut assembly = Assembly::default();
        assembly.apply(&object::<core::Pod>(POD));
        assembly.apply_workload(&object::<apps::ReplicaSet>(REPLICA_SET));
        assert_eq!(owners(&assembly.finish()), ["a/web-1-x of web-1[ReplicaSet]"]);

        let mut assembly = Assembly::default();
        assembly.apply_workload(&object::<apps::Deployment>(DEPLOYMENT));
        assembly.apply(&object::<core::Pod>(POD));
        assembly.apply_workload(&object::<apps::ReplicaSet>(REPLICA_SET));
        assert_eq!(owners(&assembly.finish()), ["a/web-1-x of web[Deployment]"]);

        let mut assembly = Assembly::default();
        assembly.apply_workload(&object::<apps::Deployment>(DEPLOYMENT));
        assembly.apply_workload(&object::<apps::ReplicaSet>(REPLICA_SET));
        assert_eq!(
            owners(&assembly.finish()),
            ["a/web[Deployment] of web[Deployment]"]
        );

        let mut assembly = Assembly::default();
        let owner = |name: &str, kind: &str| Owner {
            name: name.to_owned(),
            kind: kind.to_owned(),
        };
        assembly.apply(&object::<core::Pod>(POD));
        assembly.apply_owner("a", owner("web-1", "ReplicaSet"), owner("web", "Deployment"));
        assert_eq!(owners(&assembly.finish()), ["a/web-1-x of web[Deployment]"]);
    }

    #[test]
    fn workloads_that_own_each_other_do_not_go_round_forever() {
        let mut assembly = Assembly::default();
        let owned = |name: &str, owner: &str| {
            object::<apps::ReplicaSet>(&format!(
                "{{metadata: {{name: {name}, namespace: a, ownerReferences: [{{apiVersion: v1, kind: ReplicaSet, name: {owner}, uid: u}}]}}}}"
            ))
        };
        assembly.apply_workload(&owned("x", "y"));
        assembly.apply_workload(&owned("y", "x"));
        assembly.finish();
    }

    #[test]
    fn every_namespace_that_something_is_in_exists_and_carries_its_name() {
        let mut assembly = Assembly::default();
        assembly.apply_workload(&object::<apps::Deployment>(DEPLOYMENT));
        assembly.apply(&object::<core::Namespace>(
            "{metadata: {name: b, labels: {team: x}}}",
        ));
        let cluster = assembly.finish();
        assert_eq!(cluster.namespace_labels("a").unwrap()[NAMESPACE_NAME], "a");
        let labels = cluster.namespace_labels("b").unwrap();
        assert_eq!(
            (labels["team"].as_str(), labels[NAMESPACE_NAME].as_str()),
            ("x", "b")
        );
    }
}
