//! Which pods wait until the baseline of their namespace is stored.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use kube::core::admission::Operation;
use ringfence_netpol::baseline::gate::{GATE, baselines, holds};
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::rollout::Mode;
use ringfence_netpol::standard::SYSTEM_NAMESPACES;
use serde_json::{Value, json};

use super::{Decision, Kind, Seen};
use crate::envelope::Request;
use crate::settings::Review;

/// Gives a new pod the scheduling gate that the generator takes off once what its namespace must have is stored. While the cluster is not
/// in view every pod is given one: the generator knows for which there is nothing to wait.
///
/// A pod that names its node is past the scheduler, and would be refused with a gate.
pub fn gate(request: &Request, settings: &Review, seen: Option<&Seen<'_>>, _: i64) -> Decision {
    let mut decision = Decision::of(Kind::of(request));
    let new = request.operation == Operation::Create && decision.kind == Kind::Pod;
    if settings.scheduling_gates && settings.mode == Mode::Enforce && new {
        decision.patch = wanted(request, seen.map(|seen| seen.cluster));
    }
    decision
}

fn wanted(request: &Request, cluster: Option<&Cluster>) -> Option<Patch> {
    let namespace = request.namespace.as_deref()?;
    let pod: Value = request.object().ok()??;
    let spec = pod.get("spec")?.as_object()?;
    if spec
        .get("nodeName")
        .and_then(Value::as_str)
        .is_some_and(|node| !node.is_empty())
    {
        return None;
    }
    let held = match cluster {
        None => !SYSTEM_NAMESPACES.contains(&namespace),
        Some(cluster) => holds(cluster, &baselines(cluster), namespace, |key| {
            cluster.policies.get(key).is_some()
        }),
    };
    let gates = spec.get("schedulingGates").and_then(Value::as_array);
    let has = gates.is_some_and(|gates| gates.iter().any(|gate| gate.get("name") == Some(&json!(GATE))));
    if !held || has {
        return None;
    }
    let (path, value) = match gates {
        Some(_) => (["spec", "schedulingGates", "-"].as_slice(), json!({"name": GATE})),
        None => (["spec", "schedulingGates"].as_slice(), json!([{"name": GATE}])),
    };
    let path = PointerBuf::from_tokens(path.iter().copied());
    Some(Patch(vec![PatchOperation::Add(AddOperation { path, value })]))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use ringfence_netpol::api::NamespaceBaseline;
    use ringfence_netpol::cluster::Key;

    use super::super::testing::{Ask, cluster};
    use super::*;
    use crate::envelope;

    const POD: &str = "{metadata: {name: x}, spec: {containers: [{name: c}]}}";

    fn closed() -> Cluster {
        let mut cluster = cluster();
        let spec = "{namespaceSelector: {}, policies: [{name: deny, spec: {podSelector: {}, policyTypes: [Ingress]}}]}";
        let baseline = NamespaceBaseline::new("b", serde_yaml_ng::from_str(spec).unwrap());
        cluster.baselines.apply(Key::cluster("b"), baseline);
        cluster
    }

    /// The pod as it is stored.
    fn stored(object: &str, old: Option<&str>, cluster: Option<&Cluster>, enabled: bool) -> Value {
        let body = Ask {
            resource: "pods",
            object: Some(object),
            old,
            ..Ask::default()
        };
        let request = envelope::open(&body.body()).unwrap();
        let settings = Review {
            scheduling_gates: enabled,
            ..Review::default()
        };
        let mut pod: Value = serde_yaml_ng::from_str(object).unwrap();
        if let Some(patch) = gate(&request, &settings, cluster.map(Seen::of).as_ref(), 0).patch {
            json_patch::patch(&mut pod, &patch).unwrap();
        }
        pod["spec"]["schedulingGates"].take()
    }

    #[test]
    fn a_new_pod_waits_until_its_namespace_is_ready() {
        let mut cluster = closed();
        assert_eq!(stored(POD, None, Some(&cluster), true), json!([{"name": GATE}]));
        let deny =
            "{metadata: {name: deny, namespace: shop}, spec: {podSelector: {}, policyTypes: [Ingress]}}";
        cluster.apply(&serde_yaml_ng::from_str::<NetworkPolicy>(deny).unwrap());
        assert_eq!(stored(POD, None, Some(&cluster), true), Value::Null);
    }

    #[test]
    fn without_the_setting_or_for_a_pod_that_is_there_nobody_waits() {
        let cluster = closed();
        assert_eq!(stored(POD, None, Some(&cluster), false), Value::Null);
        assert_eq!(stored(POD, Some(POD), Some(&cluster), true), Value::Null);
    }

    #[test]
    fn a_gate_of_somebody_else_s_stays_and_one_of_ours_is_not_given_twice() {
        let cluster = closed();
        let with = |gates: &str| POD.replace("spec: {", &format!("spec: {{schedulingGates: {gates}, "));
        let other = json!([{"name": "example.com/quota"}, {"name": GATE}]);
        assert_eq!(
            stored(&with("[{name: example.com/quota}]"), None, Some(&cluster), true),
            other
        );
        let own = format!("[{{name: {GATE}}}]");
        assert_eq!(
            stored(&with(&own), None, Some(&cluster), true),
            json!([{"name": GATE}])
        );
    }

    #[test]
    fn a_pod_that_names_its_node_could_not_have_one() {
        let bound = POD.replace("spec: {", "spec: {nodeName: n1, ");
        assert_eq!(stored(&bound, None, Some(&closed()), true), Value::Null);
    }

    #[test]
    fn while_the_cluster_is_not_in_view_every_new_pod_waits() {
        assert_eq!(stored(POD, None, None, true), json!([{"name": GATE}]));
    }
}
