//! The answer, for people and for programs.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ringfence_netpol::cluster::{Key, Observed};
use ringfence_netpol::connections::Workload;
use ringfence_netpol::evaluate::Endpoint;
use ringfence_netpol::explain::{Miss, RuleAt, Side};
use ringfence_netpol::policy::Direction;
use serde_json::{Value, json};

use super::Answer;
use crate::read::PolicySource;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const QUIET: Style = Style::new().dimmed();

pub fn text(answer: &Answer<'_>, policies: &[PolicySource], out: &mut dyn Write) -> io::Result<()> {
    let (from, to) = (name(answer.from), name(answer.to));
    let verdict = word(answer.explanation.allowed());
    writeln!(out, "{from} -> {to} {}: {verdict}", answer.transport)?;
    for side in [&answer.explanation.egress, &answer.explanation.ingress] {
        let subject = if side.direction == Direction::Egress {
            answer.from
        } else {
            answer.to
        };
        writeln!(
            out,
            "\n{} of {}: {}",
            side.direction.field(),
            name(subject),
            word(side.allowed())
        )?;
        match (subject, side.isolating.as_slice()) {
            (Endpoint::Address(_), _) => {
                writeln!(out, "  policies select pods only, and this is an address")?
            }
            (_, []) => writeln!(out, "  no policy isolates it")?,
            (_, isolating) => {
                for key in isolating {
                    writeln!(
                        out,
                        "  isolated by {key}{}",
                        place(policies, key, "spec.podSelector")
                    )?;
                }
            }
        }
        for rule in &side.allowing {
            let place = place(policies, &rule.policy, &rule.field());
            writeln!(out, "  allowed by {} {}{place}", rule.policy, rule.field())?;
        }
        if let Some(miss) = side.missed.first() {
            let place = place(policies, &miss.rule.policy, &miss.rule.field());
            writeln!(
                out,
                "  nearest is {} {}{place}, but",
                miss.rule.policy,
                miss.rule.field()
            )?;
            for reason in miss.peer.iter().chain(&miss.port) {
                writeln!(out, "    {reason}")?;
            }
        } else if !side.allowed() {
            writeln!(out, "  no rule allows anything in this direction")?;
        }
    }
    if !answer.mends.is_empty() {
        writeln!(out, "\nTo allow it, apply:\n")?;
        for mend in &answer.mends {
            write!(out, "---\n{}", yaml(mend))?;
        }
    }
    Ok(())
}

pub fn json(answer: &Answer<'_>, policies: &[PolicySource], out: &mut dyn Write) -> io::Result<()> {
    let rule = |rule: &RuleAt| json!({"policy": rule.policy.to_string(), "field": rule.field(), "place": where_is(policies, &rule.policy, &rule.field())});
    let miss = |miss: &Miss| {
        let mut value = rule(&miss.rule);
        let reasons: Vec<String> = miss
            .peer
            .iter()
            .chain(&miss.port)
            .map(ToString::to_string)
            .collect();
        value["reasons"] = reasons.into();
        value
    };
    let side = |side: &Side| {
        let isolating: Vec<String> = side.isolating.iter().map(ToString::to_string).collect();
        json!({
            "allowed": side.allowed(),
            "isolatedBy": isolating,
            "allowedBy": side.allowing.iter().map(rule).collect::<Vec<Value>>(),
            "nearest": side.missed.first().map(miss),
        })
    };
    let value = json!({
        "from": name(answer.from),
        "to": name(answer.to),
        "port": answer.transport.to_string(),
        "allowed": answer.explanation.allowed(),
        "egress": side(&answer.explanation.egress),
        "ingress": side(&answer.explanation.ingress),
        "mends": answer.mends,
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)
}

fn word(allowed: bool) -> String {
    let (style, word) = if allowed {
        (GOOD, "allowed")
    } else {
        (BAD, "denied")
    };
    format!("{style}{word}{style:#}")
}

fn name(end: Endpoint<'_>) -> String {
    match end {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Pod { key, pod } => Workload::of(key, pod).to_string(),
    }
}

/// The file and line of a field, in parentheses; nothing for a policy that is in no file.
fn place(policies: &[PolicySource], key: &Key, field: &str) -> String {
    where_is(policies, key, field).map_or_else(String::new, |place| format!("{QUIET} ({place}){QUIET:#}"))
}

fn where_is(policies: &[PolicySource], key: &Key, field: &str) -> Option<String> {
    let source = policies.iter().find(|source| source.object.key() == *key)?;
    match source.node.line_of(field) {
        0 => None, // in no file
        line => Some(format!("{}:{line}", source.file)),
    }
}

fn yaml(policy: &NetworkPolicy) -> String {
    serde_yaml_ng::to_string(policy).unwrap_or_else(|error| format!("# {error}\n"))
}
