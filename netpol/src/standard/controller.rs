//! What Kubernetes's own controllers make from a template that somebody wrote.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::Kind;
use crate::requester::Requester;

/// What is made, the group and kind of what it is made from, and the controller that makes it.
const MADE: [(Kind, &str, &str, &str); 7] = [
    (Kind::ReplicaSet, "apps", "Deployment", "deployment-controller"),
    (Kind::Job, "batch", "CronJob", "cronjob-controller"),
    (Kind::Pod, "apps", "ReplicaSet", "replicaset-controller"),
    (Kind::Pod, "apps", "StatefulSet", "statefulset-controller"),
    (Kind::Pod, "apps", "DaemonSet", "daemon-set-controller"),
    (Kind::Pod, "batch", "Job", "job-controller"),
    (Kind::Pod, "", "ReplicationController", "replication-controller"),
];

/// The controllers' one name where they have no service accounts each.
const MANAGER: &str = "system:kube-controller-manager";

/// Whether one of Kubernetes's controllers makes or changes what it owns, by the template of its owner. The template was judged
/// when somebody wrote it, as that somebody; to refuse its pods as well would stop what runs already from being replaced.
///
/// It takes both the controller's identity, which no tenant has, and the owner that this controller serves: whoever writes
/// `ownerReferences` into a pod of their own is judged as themselves, and so is every operator that is no part of Kubernetes.
pub fn makes(requester: &Requester, kind: Kind, meta: &ObjectMeta) -> bool {
    let Some(owner) = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
    else {
        return false;
    };
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let account = requester
        .username
        .strip_prefix("system:serviceaccount:kube-system:")
        .unwrap_or_default();
    MADE.iter().any(|(made, owner_group, owner_kind, controller)| {
        *made == kind
            && *owner_group == group
            && *owner_kind == owner.kind
            && (account == *controller || requester.username == MANAGER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owned_by(kind: &str, version: &str) -> ObjectMeta {
        serde_json::from_value(json!({"ownerReferences": [
            {"apiVersion": version, "kind": kind, "name": "web", "uid": "1", "controller": true}
        ]}))
        .unwrap()
    }

    fn user(name: &str) -> Requester {
        Requester {
            username: name.to_owned(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn it_takes_the_controllers_identity_and_the_owner_that_it_serves() {
        let controller = user("system:serviceaccount:kube-system:replicaset-controller");
        let of_set = owned_by("ReplicaSet", "apps/v1");
        assert!(makes(&controller, Kind::Pod, &of_set));
        assert!(makes(&user("system:kube-controller-manager"), Kind::Pod, &of_set));
        assert!(makes(
            &user("system:serviceaccount:kube-system:replication-controller"),
            Kind::Pod,
            &owned_by("ReplicationController", "v1")
        ));
        for (requester, kind, meta) in [
            (user("alice"), Kind::Pod, of_set.clone()),
            (
                user("system:serviceaccount:shop:replicaset-controller"),
                Kind::Pod,
                of_set.clone(),
            ),
            (controller.clone(), Kind::Pod, ObjectMeta::default()),
            (
                controller.clone(),
                Kind::Pod,
                owned_by("ReplicaSet", "example.com/v1"),
            ),
            (controller.clone(), Kind::Pod, owned_by("StatefulSet", "apps/v1")),
            (controller, Kind::Deployment, of_set),
        ] {
            assert!(!makes(&requester, kind, &meta), "{requester:?} {kind:?} {meta:?}");
        }
    }
}
