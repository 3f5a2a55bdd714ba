//! NP022: proxies of a mesh that no longer reach their control plane.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cluster::{Cluster, Key, Mesh, Pod};
use crate::evaluate::Endpoint;
use crate::finding::{Mend, Severity};
use crate::lint::names::{called, some_of};
use crate::lint::places::Place;
use crate::lint::reach::{Passage, passage};
use crate::lint::{Found, Needs, Rule, Subject, Survey};
use crate::policy::{Direction, Policy};
use crate::port::{Protocol, Transport};

pub(super) const RULE: Rule = Rule {
    code: "NP022",
    name: "cuts-mesh",
    finds: "pods with the proxy of a mesh that this policy isolates for egress, and that no policy lets reach its control plane",
    why: "The proxy takes certificates, routes and policy from the control plane. Cut off, a new pod never gets ready, and one that runs goes on \
          until its certificate ends, which is when all of them stop.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: meshed}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: api}}
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: meshed}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: api}}
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: istio-system}}
    podSelector: {matchLabels: {app: istiod}}
  ports:
  - port: 15012
",
    check,
};

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let (Some(survey), true) = (subject.survey, subject.policy.egress.is_some()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for mesh in [Mesh::Istio, Mesh::Linkerd] {
        let cut: BTreeSet<String> = subject
            .samples()
            .iter()
            .filter(|(key, pod)| member(survey.cluster, key, pod) == Some(mesh))
            .filter(|(_, pod)| {
                let policies = subject.policies_of(&pod.labels);
                is_told_here(subject, &policies) && is_cut(survey, &policies, mesh)
            })
            .map(|(key, pod)| called(key, pod))
            .collect();
        if !cut.is_empty() {
            found.push(finding(mesh, &cut, survey.control_plane(mesh)));
        }
    }
    found
}

/// Where istiod hands out certificates and configuration; its other ports are for others.
const DISCOVERY: u16 = 15012;

/// The mesh whose proxy a pod has, or gets when it is made.
fn member(cluster: &Cluster, key: &Key, pod: &Pod) -> Option<Mesh> {
    if pod.mesh.is_some() {
        return pod.mesh;
    }
    let namespace = cluster.namespaces.get(&Key::cluster(&*key.namespace))?;
    let is_out = pod
        .labels
        .get("sidecar.istio.io/inject")
        .is_some_and(|inject| inject == "false");
    let injected = namespace
        .labels
        .get("istio-injection")
        .is_some_and(|inject| inject == "enabled")
        || namespace.labels.contains_key("istio.io/rev");
    // Pods that run without it were made before, and are not told from those that opt out by annotation.
    (injected && !is_out && pod.node.is_none()).then_some(Mesh::Istio)
}

/// A default deny says by design nothing of the mesh: where others have rules for a pod, it is told of them.
fn is_told_here(subject: &Subject<'_, '_>, policies: &[&Policy]) -> bool {
    let has_rules = |policy: &Policy| policy.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    has_rules(subject.policy) || !policies.iter().any(|policy| has_rules(policy))
}

/// Whether something that the proxies ask for, and that is in view, cannot be reached.
fn is_cut(survey: &Survey<'_>, policies: &[&Policy], mesh: Mesh) -> bool {
    survey.control_plane(mesh).iter().any(|place| {
        let open = |end: Endpoint<'_>, port: u16| {
            let transport = Transport::Port(Protocol::Tcp, port);
            passage(survey.cluster, policies, Direction::Egress, end, end, transport) != Passage::Denied
        };
        let numbers: Vec<u16> = match place.ports.contains(&(Protocol::Tcp, DISCOVERY)) {
            true => vec![DISCOVERY],
            false => place.numbers(Protocol::Tcp).collect(),
        };
        !numbers
            .iter()
            .any(|port| place.ends().any(|end| open(end, *port)))
    })
}

fn finding(mesh: Mesh, cut: &BTreeSet<String>, places: &[Place]) -> Found {
    let rule = |place: &Place| json!({"to": place.rule.peers, "ports": place.rule.ports});
    let rules: Vec<_> = places.iter().map(rule).collect();
    let origins = places.iter().map(|place| place.origin.as_str());
    let name = match mesh {
        Mesh::Istio => "Istio",
        Mesh::Linkerd => "Linkerd",
    };
    Found {
        field: "spec.egress".to_owned(),
        message: format!(
            "{} {} {name}'s proxy, and no policy lets it reach the control plane ({})",
            some_of(cut),
            if cut.len() == 1 { "has" } else { "have" },
            some_of(origins)
        ),
        consequence: "new pods do not get ready; running ones stop when their certificates end".to_owned(),
        mend: Some(Mend::yaml("add the rule that opens it", json!({"egress": rules}))),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::cluster::Mesh;
    use crate::lint::testing::{Live, good, shown};

    #[test]
    fn proxies_that_are_there_or_will_be_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "{podSelector: {matchLabels: {app: meshed}}, policyTypes: [Egress]}"
        ));
        let injected = Live::default().namespace("shop", &[("istio-injection", "enabled")]);
        insta::assert_snapshot!(shown(
            &RULE,
            &injected,
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}"
        ));
        let service = |name: &str, port: u16| {
            format!(
                "{{metadata: {{name: linkerd-{name}}}, spec: {{selector: {{part: {name}}}, ports: [{{port: {port}}}]}}}}"
            )
        };
        let linkerd = Live::default()
            .pod("linkerd", "identity", &[("part", "identity")])
            .service("linkerd", &service("identity", 8080))
            .pod("linkerd", "destination", &[("part", "dst")])
            .service("linkerd", &service("dst", 8086))
            .with("shop", "meshed", |pod| pod.mesh = Some(Mesh::Linkerd));
        insta::assert_snapshot!(shown(
            &RULE,
            &linkerd,
            "{podSelector: {matchLabels: {app: meshed}}, egress: [{to: [{namespaceSelector: {}}], ports: [{port: 8086}]}]}"
        ));
    }

    #[test]
    fn pods_without_a_proxy_or_with_a_way_are_not_found() {
        for spec in [
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}",
            "{podSelector: {matchLabels: {app: meshed}}, policyTypes: [Ingress]}",
            "{podSelector: {matchLabels: {app: meshed}}, egress: [{to: [{namespaceSelector: {}}]}]}",
            // its address is not known
            "{podSelector: {matchLabels: {app: meshed}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        let none = Live::default().with("shop", "meshed", |pod| pod.mesh = Some(Mesh::Linkerd));
        good(
            &RULE,
            &none,
            "{podSelector: {matchLabels: {app: meshed}}, policyTypes: [Egress]}",
        );
    }
}
