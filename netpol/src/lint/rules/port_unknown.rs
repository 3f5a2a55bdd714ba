//! NP018: a port that the pods do not have.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cluster::{Cluster, Key, Pod, TargetPort};
use crate::finding::{Fix, Mend, Severity};
use crate::lint::names::some_of;
use crate::lint::reach::looks_in;
use crate::lint::{Found, Needs, Rule, Subject};
use crate::policy::{Direction, Namespaces, Peer, Peers, Port, Ports, Rule as Opening};
use crate::port::Protocol;

pub(super) const RULE: Rule = Rule {
    code: "NP018",
    name: "port-unknown",
    finds: "a port that no pod has that it is opened on: a name nobody gave, a Service's port in place of the pod's, the wrong protocol",
    why: "Policy sees the port of the pod, after the Service was translated; so a rule for a Service's port 80 opens nothing where the pods listen on \
          8080. A name is looked up on each pod, together with the protocol, and opens nothing on a pod that lacks it.",
    severity: Severity::Warn,
    needs: Needs::Cluster,
    bad: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: web
",
    beside: "",
    good: "\
podSelector: {matchLabels: {app: api}}
ingress:
- from:
  - podSelector: {matchLabels: {app: frontend}}
  ports:
  - port: http
",
    check,
};

/// How many pods a rule's ports are compared with.
const PODS: usize = 512;
/// How many rules of a policy are judged.
const RULES: usize = 128;

fn check(subject: &Subject<'_, '_>) -> Vec<Found> {
    let Some(cluster) = subject.cluster.filter(|_| subject.policy.defects.is_empty()) else {
        return Vec::new(); // indices may differ, and the policy is refused
    };
    let complete = subject.survey.is_some_and(|survey| survey.complete);
    let mut found = Vec::new();
    for (index, rule) in subject.policy.ingress.iter().flatten().enumerate().take(RULES) {
        let judged = Judged {
            cluster,
            direction: Direction::Ingress,
            index,
            pods: subject.selected().iter().copied().take(PODS).collect(),
            are_all: complete || !subject.policy.pods.is_everything(),
        };
        judged.ports(rule, &mut found);
    }
    for (index, rule) in subject.policy.egress.iter().flatten().enumerate().take(RULES) {
        let Peers::Of(peers) = &rule.peers else { continue };
        if peers.iter().all(|peer| matches!(peer, Peer::Block(_))) {
            names_in_blocks(index, rule, &mut found);
            continue;
        }
        // Ports may be meant for the addresses.
        if peers.iter().any(|peer| matches!(peer, Peer::Block(_))) {
            continue;
        }
        if let Some(pods) = destinations(cluster, peers, &rule.ports) {
            let judged = Judged {
                cluster,
                direction: Direction::Egress,
                index,
                pods,
                are_all: complete || peers.iter().all(names_pods),
            };
            judged.ports(rule, &mut found);
        }
    }
    found
}

/// The pods that some peers select; `None` if there are more than are compared.
fn destinations<'a>(cluster: &'a Cluster, peers: &[Peer], ports: &Ports) -> Option<Vec<(&'a Key, &'a Pod)>> {
    if *ports == Ports::Any {
        return None;
    }
    let mut pods = Vec::new();
    for peer in peers {
        let Peer::Pods {
            namespaces,
            pods: selector,
        } = peer
        else {
            continue;
        };
        let candidates: Vec<&str> = match namespaces {
            Namespaces::Own(name) => vec![name],
            Namespaces::Selected(_) => {
                let all = cluster.namespaces.iter().map(|(key, _)| key.name.as_str());
                all.filter(|name| looks_in(cluster, namespaces, name)).collect()
            }
        };
        for name in candidates {
            for (key, pod) in cluster.pods.in_namespace(name) {
                if pod.is_governed() && selector.matches(&pod.labels) {
                    pods.push((key, pod));
                    if pods.len() > PODS {
                        return None;
                    }
                }
            }
        }
    }
    Some(pods)
}

/// Whether a peer says which pods it means, and not just where they are.
fn names_pods(peer: &Peer) -> bool {
    matches!(peer, Peer::Pods { pods, .. } if !pods.is_everything())
}

/// Names are of pods: towards addresses they open nothing, to anyone.
fn names_in_blocks(index: usize, rule: &Opening, found: &mut Vec<Found>) {
    let Ports::Of(ports) = &rule.ports else { return };
    for (at, port) in ports.iter().enumerate() {
        if let Port::Named(_, name) = port {
            found.push(Found {
                field: format!("spec.egress[{index}].ports[{at}].port"),
                message: format!(
                    "the name {name:?} is looked up on pods, and the rule is for addresses only"
                ),
                consequence: "this port opens nothing".to_owned(),
                mend: Some(Mend::text("write the number")),
            });
        }
    }
}

/// A rule with the pods on which its ports must be.
struct Judged<'a> {
    cluster: &'a Cluster,
    direction: Direction,
    index: usize,
    pods: Vec<(&'a Key, &'a Pod)>,
    /// Whether none is meant that is not in view: whoever names pods by labels means these, as far as one can tell.
    are_all: bool,
}

impl Judged<'_> {
    fn ports(&self, rule: &Opening, found: &mut Vec<Found>) {
        let Ports::Of(ports) = &rule.ports else { return };
        if self.pods.is_empty() {
            return; // they are still to come, or the peer is what is wrong
        }
        for (at, port) in ports.iter().enumerate() {
            let field = format!("spec.{}[{}].ports[{at}]", self.direction.field(), self.index);
            found.extend(match port {
                Port::Named(protocol, name) => self.named(field, *protocol, name),
                Port::Range(range) if range.first == range.last => {
                    // Another port of the rule is the pods': then this one is there beside it, for a reason.
                    let known = ports.iter().any(|other| other != port && self.is_declared(other));
                    self.numbered(field, range.protocol, range.first, known)
                }
                Port::Range(_) => None,
            });
        }
    }

    /// Whether some pod declares the port.
    fn is_declared(&self, port: &Port) -> bool {
        self.pods.iter().any(|(_, pod)| match port {
            Port::Named(protocol, name) => pod.named_ports(*protocol, name).next().is_some(),
            Port::Range(range) => pod.ports.iter().any(|it| range.contains(it.protocol, it.number)),
        })
    }

    fn who(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "selected pod",
            Direction::Egress => "pod that the rule is for",
        }
    }

    fn named(&self, field: String, protocol: Protocol, name: &str) -> Option<Found> {
        if !self.are_all || self.is_declared(&Port::Named(protocol, name.to_owned())) {
            return None;
        }
        let by_other = Protocol::ALL
            .into_iter()
            .find(|other| self.is_declared(&Port::Named(*other, name.to_owned())));
        let names: BTreeSet<&str> = self
            .pods
            .iter()
            .flat_map(|(_, pod)| &pod.ports)
            .filter(|port| port.protocol == protocol)
            .filter_map(|port| port.name.as_deref())
            .collect();
        let (message, mend) = match by_other {
            Some(other) => (
                format!(
                    "no {} has a {protocol} port named {name:?}; it is a {other} port",
                    self.who()
                ),
                Mend::yaml(
                    "name the protocol",
                    json!({"protocol": other.to_string(), "port": name}),
                ),
            ),
            None if names.is_empty() => (
                format!(
                    "no {} has a {protocol} port named {name:?}, or any with a name",
                    self.who()
                ),
                Mend::text("write the number, or name the container's port"),
            ),
            None => (
                format!("no {} has a {protocol} port named {name:?}", self.who()),
                Mend::text(format!(
                    "write a name that they have ({}), or a number",
                    some_of(&names)
                )),
            ),
        };
        Some(Found {
            field: format!("{field}.port"),
            message,
            consequence: "this port opens nothing".to_owned(),
            mend: Some(mend),
        })
    }

    fn numbered(&self, field: String, protocol: Protocol, number: u16, others_known: bool) -> Option<Found> {
        let declared = |protocol, number| {
            self.pods.iter().any(|(_, pod)| {
                pod.ports
                    .iter()
                    .any(|port| (port.protocol, port.number) == (protocol, number))
            })
        };
        if declared(protocol, number) {
            return None;
        }
        let targets = self.targets(protocol, number);
        let port =
            |protocol: Protocol, number: u16| json!({"protocol": protocol.to_string(), "port": number});
        let opens_nothing =
            || "unless something listens there that is not declared, this port opens nothing".to_owned();
        if let Some((service, target)) = targets {
            return Some(Found {
                field: format!("{field}.port"),
                message: format!(
                    "{number} is the port of the Service {service}; its pods listen on {target}, and policy sees the pod's port"
                ),
                consequence: opens_nothing(),
                mend: Some(
                    Mend::yaml(format!("write {target}"), json!([port(protocol, target)])).sure([
                        Fix::Replace {
                            field: format!("{field}.port"),
                            value: target.into(),
                        },
                    ]),
                ),
            });
        }
        // Whoever declares no port may listen on any.
        if !self.are_all
            || others_known
            || !self.pods.iter().all(|(_, pod)| !pod.ports.is_empty())
            || self.is_scraped(number)
        {
            return None;
        }
        if let Some(other) = Protocol::ALL.into_iter().find(|other| declared(*other, number)) {
            return Some(Found {
                field,
                message: format!(
                    "no {} has {number} as a {protocol} port; it is a {other} port",
                    self.who()
                ),
                consequence: opens_nothing(),
                mend: Some(Mend::yaml("name the protocol", json!([port(other, number)]))),
            });
        }
        let numbers: BTreeSet<String> = self
            .pods
            .iter()
            .flat_map(|(_, pod)| &pod.ports)
            .map(|port| format!("{}/{}", port.protocol, port.number))
            .collect();
        Some(Found {
            field: format!("{field}.port"),
            message: format!(
                "no {} has a port {protocol}/{number}; they have {}",
                self.who(),
                some_of(&numbers)
            ),
            consequence: opens_nothing(),
            mend: Some(Mend::text(
                "write the port on which they listen, or declare it in the container",
            )),
        })
    }

    /// A Service with that port in front of these pods, and the one other number at which they take it.
    fn targets(&self, protocol: Protocol, number: u16) -> Option<(&Key, u16)> {
        let namespaces: BTreeSet<&str> = self.pods.iter().map(|(key, _)| key.namespace.as_str()).collect();
        for name in namespaces {
            for (key, service) in self.cluster.services.in_namespace(name) {
                let Some(selector) = &service.selector else {
                    continue;
                };
                let is_asked =
                    |port: &&crate::cluster::ServicePort| (port.protocol, port.port) == (protocol, number);
                let Some(port) = service.ports.iter().find(is_asked) else {
                    continue;
                };
                let behind = self
                    .pods
                    .iter()
                    .filter(|(key, pod)| key.namespace == name && selector.matches(&pod.labels));
                let numbers: BTreeSet<u16> = behind
                    .flat_map(|(_, pod)| match &port.target {
                        TargetPort::Number(target) => vec![*target],
                        TargetPort::Name(target) => pod.named_ports(protocol, target).collect(),
                    })
                    .collect();
                if let (Some(target), 1) = (numbers.first(), numbers.len())
                    && *target != number
                {
                    return Some((key, *target));
                }
            }
        }
        None
    }

    /// Whether metrics are fetched there, declared or not.
    fn is_scraped(&self, number: u16) -> bool {
        let by_pod = self
            .pods
            .iter()
            .any(|(_, pod)| pod.scraping.is_some_and(|it| it.port == Some(number)));
        let in_front = || {
            self.pods.iter().any(|(key, pod)| {
                self.cluster
                    .services
                    .in_namespace(&key.namespace)
                    .any(|(_, service)| {
                        service.scraping.is_some_and(|it| it.port == Some(number))
                            && service
                                .selector
                                .as_ref()
                                .is_some_and(|selector| selector.matches(&pod.labels))
                    })
            })
        };
        by_pod || in_front()
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::cluster::Scraping;
    use crate::lint::testing::{Live, found, good, policy, ports, shown};
    use crate::lint::{Severities, Survey, judge};

    fn with_service() -> Live {
        Live::default().service(
            "shop",
            "{metadata: {name: api}, spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}}",
        )
    }

    #[test]
    fn the_port_of_a_service_is_found_with_that_of_its_pods() {
        let ingress = "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80}]}]}";
        insta::assert_snapshot!(shown(&RULE, &with_service(), ingress));
        let egress = "{podSelector: {matchLabels: {app: frontend}}, egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}]}";
        insta::assert_snapshot!(shown(&RULE, &with_service(), egress));
        let fixes = found(&RULE, &with_service(), ingress)
            .remove(0)
            .mend
            .unwrap()
            .fixes;
        assert_eq!(fixes.len(), 1);
    }

    #[test]
    fn names_and_numbers_that_nobody_has_and_wrong_protocols_are_found() {
        insta::assert_snapshot!(shown(
            &RULE,
            &Live::default(),
            "
            podSelector: {matchLabels: {app: api}}
            ingress:
            - ports: [{port: https}, {port: http, protocol: UDP}]
            - ports: [{port: 8080, protocol: UDP}]
            - ports: [{port: 443}]
            egress:
            - to: [{ipBlock: {cidr: 192.0.2.0/24}}]
              ports: [{port: https}]
        "
        ));
    }

    #[test]
    fn ports_that_are_there_or_may_be_are_not_found() {
        for spec in [
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 8080}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 8000}]}]}",
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 1, endPort: 1024}]}]}",
            // beside one that they have
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: http}, {port: 9100}]}]}",
            "{podSelector: {matchLabels: {app: later}}, ingress: [{ports: [{port: https}]}]}",
            "{podSelector: {}, egress: [{to: [{podSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 443}]}]}",
            "{podSelector: {}, egress: [{ports: [{port: 443}]}]}",
            "{podSelector: {}, egress: [{to: [{podSelector: {matchLabels: {app: later}}}], ports: [{port: https}]}]}",
        ] {
            good(&RULE, &Live::default(), spec);
        }
        // In some files of many, whoever is meant may be in others.
        let live = Live::default();
        for (spec, expected) in [
            (
                "{podSelector: {}, egress: [{to: [{namespaceSelector: {}}], ports: [{port: 5999}]}]}",
                0,
            ),
            ("{podSelector: {}, ingress: [{ports: [{port: 5999}]}]}", 0),
            (
                "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 5999}]}]}",
                1,
            ),
        ] {
            let found = judge(
                &policy(spec),
                None,
                Some(&Survey::partial(&live.0)),
                &Severities::default(),
            );
            assert_eq!(
                found.iter().filter(|finding| finding.code == RULE.code).count(),
                expected,
                "{spec}"
            );
        }
        let undeclared = Live::default().with("shop", "api", |pod| pod.ports.clear());
        good(
            &RULE,
            &undeclared,
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 443}]}]}",
        );
        let scraped = Live::default().with("shop", "api", |pod| {
            pod.scraping = Some(Scraping { port: Some(9100) })
        });
        good(
            &RULE,
            &scraped,
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 9100}]}]}",
        );
        // the Service's number is the pods' too
        let both = with_service().with("shop", "api", |pod| {
            pod.ports = ports(&["http TCP 8080", "plain TCP 80"])
        });
        good(
            &RULE,
            &both,
            "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80}]}]}",
        );
    }
}
