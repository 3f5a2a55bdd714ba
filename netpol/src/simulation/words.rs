//! What a change does, as findings.

use std::collections::BTreeSet;

use super::{CUTS, CUTS_DNS, Change, Connection, Effect, FROM_WORLD, NAMED, OPENS, TO_WORLD, Tally};
use crate::finding::{Finding, Mend, Object, Severity};
use crate::policy::Direction;

/// The findings for a change. What is refused is for the settings to say; by themselves they only tell.
pub fn findings(change: Change<'_>, effect: &Effect) -> Vec<Finding> {
    let object = Object::new("NetworkPolicy", change.key);
    let field = match (change.before, change.after) {
        (_, None) => "metadata.name",
        _ => "spec",
    };
    let finding = |code, message: String, consequence: &str, mend: Option<&str>| Finding {
        code,
        severity: Severity::Warn,
        object: object.clone(),
        field: field.to_owned(),
        message,
        consequence: consequence.to_owned(),
        mend: mend.map(Mend::text),
    };
    let mut found = Vec::new();
    if effect.opened.count > 0 {
        let message = told("opens", &effect.opened, effect.incomplete);
        found.push(finding(OPENS, message, "this is so as the cluster is now", None));
    }
    if effect.cut.count > 0 {
        let message = told("cuts", &effect.cut, effect.incomplete);
        found.push(finding(
            CUTS,
            message,
            "this is so as the cluster is now, for connections that are open too",
            None,
        ));
    }
    if !effect.without_dns.is_empty() {
        found.push(finding(
            CUTS_DNS,
            format!(
                "after this {} cannot reach the cluster's DNS",
                named(&effect.without_dns)
            ),
            "they cannot resolve names any more, so nearly nothing works there",
            Some("add an egress rule to the DNS pods, by UDP and TCP, as the baseline's allow-dns has"),
        ));
    }
    for (direction, workloads) in &effect.world {
        let workloads = named(workloads);
        found.push(match direction {
            Direction::Ingress => finding(
                FROM_WORLD,
                format!("after this {workloads} can be reached from any address"),
                "whoever finds a way to the pod network, or a node port or load balancer to it, comes in",
                Some("name in from who may come"),
            ),
            Direction::Egress => finding(
                TO_WORLD,
                format!("after this {workloads} may open connections to any address"),
                "what is taken from there can be sent anywhere",
                Some("name in to where they may go"),
            ),
        });
    }
    found
}

fn told(verb: &str, tally: &Tally, incomplete: bool) -> String {
    let more = if incomplete { "at least " } else { "" };
    let noun = if tally.count == 1 {
        "connection"
    } else {
        "connections"
    };
    let shown =
        |connection: &Connection| format!("{} → {} ({})", connection.from, connection.to, connection.ports);
    let first: Vec<String> = tally.first.iter().map(shown).collect();
    let rest = match tally.count - tally.first.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("{verb} {more}{} {noun}: {}{rest}", tally.count, first.join(", "))
}

fn named(workloads: &BTreeSet<String>) -> String {
    let first: Vec<&str> = workloads.iter().take(NAMED).map(String::as_str).collect();
    match workloads.len() - first.len() {
        0 => first.join(", "),
        rest => format!("{} and {rest} more", first.join(", ")),
    }
}
