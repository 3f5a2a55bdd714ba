//! Label standards: required and protected labels, and defaults.

use super::*;

#[test]
fn namespaces_are_held_to_the_standard() {
    let table = [
        ("{metadata: {name: new}}", None, "- LB001!"),
        ("{metadata: {name: new, labels: {tier: gold}}}", None, "+"),
        ("{metadata: {name: new, labels: {tier: tin}}}", None, "- LB002!"),
        ("{metadata: {name: kube-system}}", None, "+"),
        (
            "{metadata: {name: old, annotations: {a: b}}}",
            Some("{metadata: {name: old}}"),
            "+ LB001",
        ),
        (
            "{metadata: {name: old}}",
            Some("{metadata: {name: old, labels: {tier: gold}}}"),
            "- LB001!",
        ),
        (
            "{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z'}}",
            Some("{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {tier: gold}}}"),
            "- LB001!",
        ),
        (
            "{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {a: b}}}",
            Some("{metadata: {name: old, deletionTimestamp: '2026-01-01T00:00:00Z'}}"),
            "+ LB001",
        ),
    ];
    for (object, old, expected) in table {
        assert_eq!(
            verdict(&decide("namespaces", object, old)),
            expected,
            "{object} after {old:?}"
        );
    }
}

#[test]
fn a_standard_that_cannot_be_understood_is_refused() {
    let bad = "{metadata: {name: s}, spec: {labels: [{key: team, pattern: '('}]}}";
    let good = "{metadata: {name: s}, spec: {labels: [{key: team, pattern: '[a-z]+'}]}}";
    assert_eq!(verdict(&decide("labelstandards", bad, None)), "- LS001!");
    assert_eq!(verdict(&decide("labelstandards", good, None)), "+");
}

#[test]
fn a_protected_label_is_judged_as_whoever_writes_it_wherever_it_is_written() {
    const API: &str = "{app: api, team: x}";
    let pod = format!("{{metadata: {{name: p, labels: {API}}}}}");
    let owned = format!(
        "{{metadata: {{name: p, labels: {API}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u, controller: true}}]}}}}"
    );
    let template = format!("{{metadata: {{name: d}}, spec: {{template: {{metadata: {{labels: {API}}}}}}}}}");
    let cron = format!(
        "{{metadata: {{name: c}}, spec: {{jobTemplate: {{spec: {{template: {{metadata: {{labels: {API}}}}}}}}}}}}}"
    );
    let web = "{metadata: {name: p, labels: {app: web, team: x}}}";
    let binding = "{metadata: {name: pod, labels: {app: api}}, target: {name: node}}";
    let controller = "system:serviceaccount:kube-system:replicaset-controller";
    let table = [
        ("pods", pod.as_str(), None, "alice", "- LB006!"),
        ("pods", &owned, None, "alice", "- LB006!"),
        ("pods", &owned, None, controller, "+ LB006"),
        ("pods", &pod, None, controller, "- LB006!"),
        (
            "pods",
            &owned,
            None,
            "system:serviceaccount:rollouts:controller",
            "- LB006!",
        ),
        ("pods", &pod, Some(web), "alice", "- LB006!"),
        ("pods", web, Some(pod.as_str()), "alice", "- LB006!"),
        ("pods", &pod, Some(pod.as_str()), "alice", "+"),
        ("pods", web, None, "alice", "+"),
        ("pods", &pod, None, "root", "+"),
        ("deployments", &template, None, "alice", "- LB006!"),
        ("deployments", &template, None, "root", "+"),
        ("replicasets", &template, None, "alice", "- LB006!"),
        ("cronjobs", &cron, None, "alice", "- LB006!"),
        ("bindings", binding, None, "alice", "- LB006!"),
    ];
    for (resource, object, old, user, expected) in table {
        let ask = Ask {
            resource,
            object: Some(object),
            old,
            user,
            ..Ask::default()
        };
        // The pod that the binding is for has no team, as before.
        let found = answered(ask).replace(" LB001", "");
        assert_eq!(found, expected, "{resource} by {user}: {object}");
    }
}

#[test]
fn defaults_are_filled_in_once_and_the_patch_is_one_that_the_object_takes() {
    let filled = |resource: &str, object: &str, old: Option<&str>| {
        let request = open(&body(resource, object, old)).unwrap();
        let decision = fill_in(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW);
        decision.patch.map(|patch| {
            let mut object: serde_json::Value = serde_yaml_ng::from_str(object).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
            serde_json::to_string(&object).unwrap()
        })
    };
    let pod = filled("pods", "{metadata: {name: p}}", None).unwrap();
    assert_eq!(pod, r#"{"metadata":{"labels":{"team":"none"},"name":"p"}}"#);
    assert_eq!(
        filled("pods", &pod, None),
        None,
        "the second time there is nothing to do"
    );
    let deployment = filled("deployments", "{spec: {template: {spec: {}}}}", None).unwrap();
    assert_eq!(
        deployment,
        r#"{"spec":{"template":{"metadata":{"labels":{"team":"none"}},"spec":{}}}}"#
    );
    assert_eq!(filled("deployments", &deployment, Some(&deployment)), None);
    assert_eq!(
        filled("pods", "{metadata: {name: p}}", Some("{metadata: {name: p}}")),
        None
    );
    assert_eq!(filled("configmaps", "{metadata: {name: c}}", None), None);
    let broken = open(&body("pods", "{metadata: 7}", None)).unwrap();
    assert_eq!(
        fill_in(&broken, &Review::default(), Some(&Seen::of(&guarded())), NOW).patch,
        None
    );
    assert_eq!(
        fill_in(
            &open(&body("pods", "{}", None)).unwrap(),
            &Review::default(),
            None,
            NOW
        )
        .patch,
        None
    );
    let request = open(&body("pods", "{metadata: {name: p}}", None)).unwrap();
    let response = answer(
        &request,
        &fill_in(&request, &Review::default(), Some(&Seen::of(&guarded())), NOW),
    );
    let review = serde_json::to_value(response.into_review()).unwrap();
    assert_eq!(review["response"]["patchType"], "JSONPatch");
    assert_eq!(review["response"]["allowed"], true);
    assert_eq!(review["response"]["uid"], "uid-1");
}

#[test]
fn what_is_asked_of_a_namespace_that_is_not_in_view_yet_may_be_asked_again_in_a_moment() {
    let mut cluster = guarded();
    cluster.namespaces.delete(&Key::cluster("shop"));
    let ask = body("pods", "{metadata: {name: p, labels: {app: api, team: x}}}", None);
    let decision = review(
        &open(&ask).unwrap(),
        &Review::default(),
        Some(&Seen::of(&cluster)),
        NOW,
    );
    assert!(!decision.allowed() && decision.rests_on_view());
}
