//! Whatever a baseline, its facts and a namespace say, nobody is let in whom no rule names: a rule to everyone is rendered only where
//! the template says `anyone`, and whatever is rendered is a policy that an API server takes.

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicySpec};
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::Closes;
use ringfence_netpol::baseline::render::{Place, render};
use ringfence_netpol::baseline::route::RoutedService;
use ringfence_netpol::baseline::template::Template;
use ringfence_netpol::baseline::{Baseline, Baselines};
use ringfence_netpol::cluster::{Cluster, Namespace, TargetPort};
use ringfence_netpol::policy::Policy;
use ringfence_netpol::port::Protocol;
use serde_json::{Value, json};

use crate::draw::{self, Draw};

/// JSON if it begins like it; else choices by which a baseline is made.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let written = match data.first() {
        Some(b'{') => match serde_json::from_slice(data) {
            Ok(written) => written,
            Err(_) => return,
        },
        _ => draw_baseline(&mut draw),
    };
    let Ok(object) = serde_json::from_value::<NamespaceBaseline>(written) else {
        return;
    };
    if let Err(defects) = Template::parse(&object) {
        assert!(!defects.is_empty() && defects.iter().all(|defect| !defect.field.is_empty()));
    }
    let namespace = Namespace {
        labels: pairs(&mut draw),
        annotations: pairs(&mut draw),
        ..Namespace::default()
    };
    let routes = routes(&mut draw);
    let place = Place {
        routes: &routes,
        ..Place::of("x", &namespace)
    };
    let mut cluster = Cluster::default();
    cluster.apply(&object);
    for (_, baseline) in Baselines::read(&cluster, &Default::default()).iter() {
        if let Baseline::Valid { template, facts } = baseline {
            for (name, rendered) in render(template, facts, place) {
                let Ok(rendered) = rendered else { continue };
                assert_eq!(
                    Policy::parse(&rendered.policy).defects,
                    [],
                    "{:?}",
                    rendered.policy
                );
                let spec = rendered
                    .policy
                    .spec
                    .expect("what is rendered has a specification");
                let mut sources = object.spec.policies.iter();
                let source = sources.find(|policy| match policy.for_each {
                    None => policy.name == name,
                    Some(_) => name
                        .strip_prefix(&policy.name)
                        .is_some_and(|rest| rest.starts_with('-')),
                });
                let source = &source.expect("what is rendered has a template").spec;
                let ingress = source.ingress.iter().flatten().any(|rule| rule.anyone.is_some());
                let egress = source.egress.iter().flatten().any(|rule| rule.anyone.is_some());
                assert_eq!(
                    open(&spec),
                    (open(&spec).0 && ingress, open(&spec).1 && egress),
                    "{object:?} makes {spec:?}"
                );
                assert_eq!(rendered.closes != Closes::Nothing, rules(&spec) == 0);
            }
        }
    }
}

/// Whether some rule is open to everyone, in each direction.
fn open(spec: &NetworkPolicySpec) -> (bool, bool) {
    let everyone = |peers: &Option<Vec<NetworkPolicyPeer>>| peers.as_ref().is_none_or(Vec::is_empty);
    (
        spec.ingress.iter().flatten().any(|rule| everyone(&rule.from)),
        spec.egress.iter().flatten().any(|rule| everyone(&rule.to)),
    )
}

fn rules(spec: &NetworkPolicySpec) -> usize {
    spec.ingress.iter().flatten().count() + spec.egress.iter().flatten().count()
}

fn pairs(draw: &mut Draw<'_>) -> std::collections::BTreeMap<String, String> {
    draw.list(3, |draw| (draw.of(&["team", "office"]).to_owned(), text(draw)))
        .into_iter()
        .collect()
}

fn routes(draw: &mut Draw<'_>) -> Vec<RoutedService> {
    let port = |draw: &mut Draw<'_>| match draw.up_to(1) {
        0 => (draw.of(&Protocol::ALL), TargetPort::Number(draw.of(&draw::PORTS))),
        _ => (
            Protocol::Tcp,
            TargetPort::Name(draw.of(&draw::PORT_NAMES).to_owned()),
        ),
    };
    draw.list(2, |draw| RoutedService {
        name: draw.of(&["s", "t"]).to_owned(),
        pods: [("app".to_owned(), draw.of(&["a", "b"]).to_owned())].into(),
        ports: std::iter::once(port(draw)).chain(draw.list(2, port)).collect(),
    })
}

/// Values with variables, and what a tenant might write to get more out of them.
fn text(draw: &mut Draw<'_>) -> String {
    match draw.up_to(3) {
        0 => draw.text(12),
        _ => draw
            .of(&[
                "${namespace.name}",
                "${namespace.labels.team}",
                "${namespace.annotations.office}",
                "${namespace.labels.}",
                "${",
                "a",
                "",
                "192.0.2.0/24",
                "0.0.0.0/0",
                "a}, {b",
                "${namespace.name}-${namespace.labels.team}",
                "::/0",
            ])
            .to_owned(),
    }
}

fn draw_baseline(draw: &mut Draw<'_>) -> Value {
    let policies = draw.list(3, |draw| {
        let rules = |draw: &mut Draw<'_>, peers| {
            draw.unless_one_in(3, |draw| Value::Array(draw.list(3, |draw| rule(draw, peers))))
        };
        let (ingress, egress) = (rules(draw, "from"), rules(draw, "to"));
        let types = if draw.one_in(6) {
            draw.list(2, |draw| draw.of(&["Ingress", "Egress"]))
        } else {
            vec!["Ingress", "Egress"]
        };
        let spec = draw.fields([
            ("podSelector", Some(json!({}))),
            ("policyTypes", Some(json!(types))),
            ("ingress", ingress),
            ("egress", egress),
        ]);
        let each = draw.one_in(3).then(|| json!("RoutedService"));
        let name = json!(draw.of(&["a", "b", "c", "d", "e", "A"]));
        draw.fields([("name", Some(name)), ("forEach", each), ("spec", spec.into())])
    });
    let facts = draw.list(2, |draw| {
        let rules = draw.unless_one_in(4, |draw| Value::Array(draw.list(2, fact_rule)));
        let services = draw.unless_one_in(2, |draw| {
            json!(draw.list(2, |_| json!({"namespace": "x", "name": "s"})))
        });
        (
            draw.of(&["dns", "mine"]).to_owned(),
            draw.fields([("rules", rules), ("services", services)]),
        )
    });
    // A status is written by whoever may write it.
    let status = draw.unless_one_in(2, |draw| {
        json!({"facts": draw.list(2, |draw| {
            let rules = draw.list(2, fact_rule);
            json!({"name": draw.of(&["dns", "ingressControllers", "mine"]), "state": "Resolved", "rules": rules})
        })})
    });
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "NamespaceBaseline", "metadata": {"name": "b"},
        "spec": {"namespaceSelector": {}, "facts": facts.into_iter().collect::<serde_json::Map<_, _>>(), "policies": policies},
        "status": status,
    })
}

fn rule(draw: &mut Draw<'_>, peers: &str) -> Value {
    let kind = draw.of(&[1, 2, 2, 4, 0, 3]);
    let fact = (kind & 1 > 0).then(|| json!(draw.of(&["dns", "mine", "ingressControllers", "dsn"])));
    let drawn = (kind & 2 > 0).then(|| Value::Array(draw.list(2, peer)));
    let anyone = (kind & 4 > 0).then(|| json!({}));
    let ports = draw.unless_one_in(3, ports);
    draw.fields([
        ("fact", fact),
        (peers, drawn),
        ("anyone", anyone),
        ("ports", ports),
    ])
}

fn fact_rule(draw: &mut Draw<'_>) -> Value {
    let peers = Value::Array(draw.list(2, peer));
    let (origin, ports) = (draw.of(&["", "Service x/s"]), draw.unless_one_in(3, ports));
    draw.fields([
        ("origin", Some(json!(origin))),
        ("peers", Some(peers)),
        ("ports", ports),
    ])
}

fn ports(draw: &mut Draw<'_>) -> Value {
    json!(draw.list(2, |draw| json!({"protocol": draw.of(&["UDP", "TCP", "X"]), "port": draw.of(&[json!(53), json!("dns"), json!(0), json!("${namespace.name}")])})))
}

fn peer(draw: &mut Draw<'_>) -> Value {
    let labels = |draw: &mut Draw<'_>| json!({"matchLabels": {draw.of(&draw::KEYS): text(draw)}});
    match draw.up_to(3) {
        0 => json!({"podSelector": labels(draw)}),
        1 => json!({"namespaceSelector": labels(draw), "podSelector": labels(draw)}),
        2 => json!({}),
        _ => json!({"ipBlock": {"cidr": text(draw), "except": draw.list(1, text)}}),
    }
}
