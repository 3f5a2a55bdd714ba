//! Namespaces, pods, what makes pods, and what places them: as far as labels go.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use ringfence_netpol::api;
use ringfence_netpol::cluster::{Key, Namespace, Observed};
use ringfence_netpol::finding::{Finding, Object};
use ringfence_netpol::guard::{judge_annotations, judge_namespace};
use ringfence_netpol::selector::Labels;
use ringfence_netpol::standard::{Before, Subject, controller};
use serde::Deserialize;

use super::{Judge, Judged, Unreadable, reason};
use crate::envelope::Request;

/// The part of an object that every kind has.
#[derive(Debug, Deserialize)]
pub(crate) struct Meta {
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// An object as far as the labels that policies see go. All else that it holds is passed over, which for a pod is nearly everything.
#[derive(Debug, Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Making>,
}

/// What makes pods, or jobs that do.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Making {
    template: Option<Template>,
    job_template: Option<Box<Job>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Job {
    spec: Option<Making>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Option<ObjectMeta>,
}

impl Labelled {
    fn labels(&self, kind: api::Kind) -> Labels {
        let template = |making: &Making| making.template.as_ref()?.metadata.as_ref()?.labels.clone();
        let labels = match kind {
            api::Kind::Namespace | api::Kind::Pod => self.metadata.labels.clone(),
            api::Kind::CronJob => self
                .spec
                .as_ref()
                .and_then(|spec| template(spec.job_template.as_ref()?.spec.as_ref()?)),
            _ => self.spec.as_ref().and_then(template),
        };
        labels.unwrap_or_default()
    }
}

/// Whether it places a pod on a node. What labels it carries, the pod is given.
pub(super) fn is_binding(request: &Request) -> bool {
    request.kind.group.is_empty() && request.kind.kind == "Binding"
}

impl Judge<'_> {
    /// What the labels of a namespace are held to, and whether what is said of it can be understood.
    pub(super) fn namespace(&self) -> Result<Judged, Unreadable> {
        self.changed(|name, before, after| {
            let mut found = judge_annotations(name, before, after);
            let Some(seen) = self.seen else {
                return found;
            };
            let subject = Subject {
                kind: api::Kind::Namespace,
                object: Object::new("Namespace", &Key::cluster(name)),
                namespace: name,
                namespace_labels: Some(&after.labels),
                labels: &after.labels,
                before: before.map(|before| Before {
                    labels: &before.labels,
                }),
                requester: self.requester,
                by_controller: false,
            };
            found.extend(seen.standards(&subject));
            found
        })
    }

    /// What holds a namespace in its baseline.
    pub(super) fn held(&self) -> Result<Judged, Unreadable> {
        self.changed(|name, before, after| {
            let guard = &self.settings.guard;
            judge_namespace(name, before, after, self.requester, self.cluster, guard)
        })
    }

    fn changed(
        &self,
        find: impl FnOnce(&str, Option<&Namespace>, &Namespace) -> Vec<Finding>,
    ) -> Result<Judged, Unreadable> {
        let object: core::Namespace = self.object()?;
        let before: Option<core::Namespace> = self.old_object()?;
        let name = object.name_any();
        let mut judged = Judged {
            // What is said of it so far; what it says itself from now on cannot excuse it.
            namespace: name.clone(),
            reason: reason([
                object.metadata.annotations.as_ref(),
                before
                    .as_ref()
                    .and_then(|before| before.metadata.annotations.as_ref()),
            ]),
            ..Judged::default()
        };
        if self.excluded(&name) {
            return Ok(judged);
        }
        let (entry, before) = (object.observe(), before.as_ref().map(Observed::observe));
        judged.findings = find(&name, before.as_ref(), &entry);
        Ok(judged)
    }

    /// Pods, what makes them, and what places them.
    pub(super) fn pods(&self) -> Result<Judged, Unreadable> {
        let Some(seen) = self.seen else {
            return Ok(Judged::default());
        };
        let cluster = seen.cluster;
        let binding = is_binding(self.request);
        let kind = if binding {
            api::Kind::Pod
        } else {
            let gvk = &self.request.kind;
            match api::Kind::of(&gvk.group, &gvk.kind) {
                Some(kind) => kind,
                None => return Ok(Judged::default()),
            }
        };
        let object: Labelled = self.object()?;
        let metadata = &object.metadata;
        let namespace = match &self.request.namespace {
            Some(namespace) => namespace.clone(),
            None => metadata.namespace.clone().unwrap_or_default(),
        };
        let mut judged = Judged {
            namespace: namespace.clone(),
            reason: reason([metadata.annotations.as_ref()]),
            ..Judged::default()
        };
        if cluster.standards.is_empty() || self.excluded(&namespace) {
            return Ok(judged);
        }
        let name = metadata
            .name
            .clone()
            .or_else(|| metadata.generate_name.clone())
            .unwrap_or_default();
        let key = Key::new(namespace.as_str(), name);
        let (labels, before) = if binding {
            // A pod that is not in view yet counts as one without labels: then whatever it is given is judged as new.
            let before = cluster
                .pods
                .get(&key)
                .map(|pod| pod.labels.as_ref().clone())
                .unwrap_or_default();
            let mut after = before.clone();
            after.extend(object.labels(kind));
            (after, Some(before))
        } else {
            let before: Option<Labelled> = self.old_object()?;
            (object.labels(kind), before.map(|before| before.labels(kind)))
        };
        let around: Option<&Labels> = cluster.namespace_labels(&namespace);
        judged.early = around.is_none();
        let subject = Subject {
            kind,
            object: Object::new(kind.as_str(), &key),
            namespace: &namespace,
            namespace_labels: around,
            labels: &labels,
            before: before.as_ref().map(|labels| Before { labels }),
            requester: self.requester,
            by_controller: controller::makes(self.requester, kind, metadata),
        };
        // Also while it is being deleted: what runs on until its grace is over is meant by policies still.
        judged.findings = seen.standards(&subject);
        Ok(judged)
    }
}
