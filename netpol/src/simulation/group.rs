//! Pods that are looked at as one.

use crate::cluster::{Cluster, Key, Pod};
use crate::connections::Workload;

/// Pods of one namespace that policies cannot tell apart, and that belong together.
pub struct Group<'a> {
    pub key: &'a Key,
    pub pod: &'a Pod,
    pub pods: usize,
}

/// The groups of a namespace.
pub fn groups<'a>(cluster: &'a Cluster, namespace: &str) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let governed = cluster.pods.in_namespace(namespace);
    for (key, pod) in governed.filter(|(_, pod)| pod.is_governed()) {
        // The pods of a workload stand beside each other by their names.
        if let Some(last) = groups.last_mut().filter(|last| same(last.pod, pod)) {
            last.pods += 1;
        } else {
            groups.push(Group { key, pod, pods: 1 });
        }
    }
    groups
}

/// Whether two pods belong to one workload, and policies cannot tell them apart.
pub fn same(a: &Pod, b: &Pod) -> bool {
    a.owner.is_some() && a.owner == b.owner && a.labels == b.labels && a.ports == b.ports
}

impl Group<'_> {
    /// As `shop/web[Deployment]`. A ReplicaSet is called as the Deployment that made it, which is what people know.
    pub fn name(&self) -> String {
        let mut workload = Workload::of(self.key, self.pod);
        if let Some(hash) = self.pod.labels.get("pod-template-hash")
            && workload.kind == "ReplicaSet"
            && let Some(name) = workload.name.strip_suffix(&format!("-{hash}"))
        {
            workload.name = name.to_owned();
            workload.kind = "Deployment".to_owned();
        }
        workload.to_string()
    }
}
