//! A policy is read or found fault with, never both and never neither, and for the fields for which an API server would refuse it.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::finding::Finding;
use ringfence_netpol::lint::{Severities, lint, lint_written};
use ringfence_netpol::policy::{Direction, Peers, Policy, Ports};
use serde_json::{Value, json};

use crate::cluster::Objects;
use crate::draw::Draw;
use crate::reference;

/// The rules by which a policy is found that an API server refuses: what cannot be read, and blocks that newer ones refuse.
const REFUSED: [&str; 2] = ["NP001", "NP009"];

/// JSON if it begins like it; else choices by which a policy is made that has any mistake.
pub fn run(data: &[u8]) {
    let written = if data.first() == Some(&b'{') {
        let Ok(written) = serde_json::from_slice::<Value>(data) else {
            return;
        };
        written
    } else {
        draw_policy(&mut Draw::new(data))
    };
    let Ok(object) = serde_json::from_value::<NetworkPolicy>(written.clone()) else {
        return;
    };
    judge(&object, &written);
    let cluster = Objects::draw(&mut Draw::new(data)).cluster();
    for finding in lint_written(&object, &written, Some(&cluster), &Severities::default()) {
        assert!(!finding.line().contains('\n') && !finding.to_string().is_empty());
        assert!(
            finding.field.is_empty() || finding.field.starts_with("spec") || finding.code == "NP008",
            "{finding:?}"
        );
    }
}

fn judge(object: &NetworkPolicy, written: &Value) {
    let policy = Policy::parse(object);
    let found = lint(object, None, &Severities::default());
    let of = |codes: &'static [&str]| {
        found
            .iter()
            .filter(move |finding: &&Finding| codes.contains(&finding.code))
    };
    let defects: Vec<&str> = policy
        .defects
        .iter()
        .map(|defect| defect.field.as_str())
        .collect();
    let unreadable: Vec<&str> = of(&["NP001"]).map(|finding| finding.field.as_str()).collect();
    assert_eq!(
        defects, unreadable,
        "NP001 says what the parser says of {written}"
    );

    let refused = reference::refused(object);
    let named: Vec<&str> = of(&REFUSED).map(|finding| finding.field.as_str()).collect();
    assert_eq!(
        named.is_empty(),
        refused.is_empty(),
        "an API server names {refused:?}, lint {named:?}, of {written}"
    );
    for field in named {
        let is_named = refused.iter().any(|theirs| is_in(field, theirs));
        assert!(
            is_named,
            "lint names {field}, an API server {refused:?}, of {written}"
        );
    }
    closed(&policy);
}

/// Whether a field is another or a part of it.
fn is_in(field: &str, whole: &str) -> bool {
    field
        .strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What has a defect opens less than it says: its rules have no more peers and ports than those that could be read.
fn closed(policy: &Policy) {
    for direction in Direction::BOTH {
        for (index, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
            let rule_field = format!("spec.{}[{index}]", direction.field());
            let has_defect = |part: &str| {
                let part = format!("{rule_field}.{part}[");
                policy
                    .defects
                    .iter()
                    .any(|defect| defect.field.starts_with(&part))
            };
            assert!(
                !(has_defect(direction.peers_field()) && rule.peers == Peers::Any),
                "{policy:?}"
            );
            assert!(!(has_defect("ports") && rule.ports == Ports::Any), "{policy:?}");
        }
    }
}

/// A policy in which anything can be wrong.
pub fn draw_policy(draw: &mut Draw<'_>) -> Value {
    let rules = |draw: &mut Draw<'_>, peers| {
        draw.unless_one_in(3, |draw| {
            Value::Array(draw.list(2, |draw| {
                let drawn = draw.unless_one_in(4, |draw| Value::Array(draw.list(3, peer)));
                let ports = draw.unless_one_in(3, |draw| Value::Array(draw.list(3, port)));
                draw.fields([(peers, drawn), ("ports", ports)])
            }))
        })
    };
    let (pods, types) = (draw.unless_one_in(6, selector), draw.unless_one_in(3, types));
    let (ingress, egress) = (rules(draw, "from"), rules(draw, "to"));
    let spec = draw.fields([
        ("podSelector", pods),
        ("policyTypes", types),
        ("ingress", ingress),
        ("egress", egress),
    ]);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}, "spec": spec})
}

fn types(draw: &mut Draw<'_>) -> Value {
    let mut types = draw.list(2, |draw| draw.of(&["Ingress", "Egress"]));
    if draw.one_in(6) {
        types.push(draw.of(&["Ingress", "egress", "", "Ingress "]));
    }
    json!(types)
}

fn selector(draw: &mut Draw<'_>) -> Value {
    let labels = draw.unless_one_in(2, |draw| {
        draw.list(2, |draw| (key(draw), json!(value(draw))))
            .into_iter()
            .collect()
    });
    let expressions = draw.unless_one_in(2, |draw| {
        Value::Array(draw.list(2, |draw| {
            let operator = draw.of(&[
                "In",
                "NotIn",
                "Exists",
                "DoesNotExist",
                "In",
                "Exists",
                "Like",
                "in",
                "",
            ]);
            let values = draw.unless_one_in(2, |draw| json!(draw.list(2, value)));
            let key = json!(key(draw));
            draw.fields([
                ("key", Some(key)),
                ("operator", Some(json!(operator))),
                ("values", values),
            ])
        }))
    });
    draw.fields([("matchLabels", labels), ("matchExpressions", expressions)])
}

fn peer(draw: &mut Draw<'_>) -> Value {
    let kinds = draw.of(&[1, 2, 3, 4, 4, 4, 0, 5, 6, 7]);
    let pods = (kinds & 1 > 0).then(|| selector(draw));
    let namespaces = (kinds & 2 > 0).then(|| selector(draw));
    let block = (kinds & 4 > 0).then(|| {
        let cidr = cidr(draw);
        let excepts = draw.unless_one_in(2, |draw| json!(draw.list(2, self::cidr)));
        draw.fields([("cidr", Some(json!(cidr))), ("except", excepts)])
    });
    draw.fields([
        ("podSelector", pods),
        ("namespaceSelector", namespaces),
        ("ipBlock", block),
    ])
}

fn port(draw: &mut Draw<'_>) -> Value {
    let protocol = draw.unless_one_in(2, |draw| {
        json!(draw.of(&["TCP", "UDP", "SCTP", "TCP", "tcp", "ICMP", ""]))
    });
    let port = draw.unless_one_in(4, |draw| match draw.up_to(3) {
        0 => json!(port_name(draw)),
        _ => json!(number(draw)),
    });
    let end = draw.unless_one_in(2, |draw| json!(number(draw)));
    draw.fields([("protocol", protocol), ("port", port), ("endPort", end)])
}

fn number(draw: &mut Draw<'_>) -> i32 {
    match draw.up_to(5) {
        0 => draw.number(),
        _ => draw.of(&[80, 443, 1, 65535, 0, 65536, -1, i32::MAX, i32::MIN]),
    }
}

/// Any text, or one of a length that is about a limit.
fn name(draw: &mut Draw<'_>, limits: &[usize]) -> String {
    let letters = draw.of(&["a", "b-", "-", "_", ".", "A", "é", "0", " ", "\n", "a.", "/"]);
    match draw.up_to(3) {
        0 => draw.text(20),
        1 => letters.to_owned(),
        2 => format!("a{letters}b"),
        _ => {
            let length = (draw.of(limits) + draw.up_to(2)).saturating_sub(1);
            let middle: String = letters.chars().cycle().take(length.saturating_sub(2)).collect();
            format!("a{middle}z")
        }
    }
}

fn key(draw: &mut Draw<'_>) -> String {
    let own = if draw.one_in(2) {
        name(draw, &[63])
    } else {
        draw.of(&["app", "a.b", "A_b", "x"]).to_owned()
    };
    match draw.up_to(4) {
        0 => format!("{}/{own}", name(draw, &[253, 63])),
        1 => format!(
            "{}/{own}",
            draw.of(&["example.com", "k8s.io", "", "a..b", "UP.example", "-a"])
        ),
        _ => own,
    }
}

fn value(draw: &mut Draw<'_>) -> String {
    if draw.one_in(2) {
        name(draw, &[63])
    } else {
        draw.of(&["a", "", "x.Y_1"]).to_owned()
    }
}

fn port_name(draw: &mut Draw<'_>) -> String {
    match draw.up_to(2) {
        0 => name(draw, &[15]),
        _ => draw
            .of(&["http", "8080", "a--b", "-a", "a-", "h2c", "HTTP", "web-8", ""])
            .to_owned(),
    }
}

/// A block, or what is nearly one.
fn cidr(draw: &mut Draw<'_>) -> String {
    let address = match draw.up_to(5) {
        0 => draw.text(12),
        1 => draw
            .of(&[
                "2001:db8::",
                "::",
                "::1",
                "2001:DB8:0:0::",
                "::ffff:10.0.0.0",
                "::10.0.0.0",
                "fe80::1%lo",
                "00001::",
                "2001:db8:::",
            ])
            .to_owned(),
        2 => draw
            .of(&[
                "010.0.0.0",
                "10.0.0",
                "10.0.0.0.0",
                "10.0.0.256",
                "0x0a.0.0.0",
                "10..0.0",
                "+10.0.0.0",
                "00.0.0.0",
            ])
            .to_owned(),
        _ => format!(
            "10.{}.{}.{}",
            draw.of(&[0, 1, 128]),
            draw.of(&[0, 2]),
            draw.of(&[0, 0, 3])
        ),
    };
    let length = draw.of(&[
        "/8",
        "/16",
        "/24",
        "/32",
        "/0",
        "/33",
        "/64",
        "/128",
        "/129",
        "/08",
        "/",
        "",
        "/+8",
        "/8 ",
        "/-1",
        "/016",
        "/104",
        "/999999999999",
    ]);
    format!("{address}{length}")
}
