//! Facts for people: a line for each of what they stand for.

use std::io::{self, Write};

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use ringfence_netpol::api::baseline::{Fact, FactState};
use ringfence_netpol::cluster::NAMESPACE_NAME;
use ringfence_netpol::selector::Selector;

use super::Known;

/// How many peers a line names.
const PEERS: usize = 4;

const HEAD: [&str; 6] = ["FACT", "STATE", "USED BY", "PEERS", "PORTS", "FROM"];

pub(super) fn write(known: &[Known], out: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![HEAD.map(str::to_owned)];
    for known in known {
        lines.extend(rows(known));
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).filter_map(width).collect();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn rows(known: &Known) -> Vec<[String; 6]> {
    let Fact {
        name,
        state,
        message,
        rules,
    } = &known.fact;
    let users = match known.used_by.as_slice() {
        [] => "-".to_owned(),
        users => users.join(", "),
    };
    let mut rows: Vec<[String; 6]> = rules
        .iter()
        .map(|rule| {
            let from = match (rule.origin.as_str(), state) {
                ("", FactState::Pinned) => message.clone(),
                (origin, _) => origin.to_owned(),
            };
            [
                name.clone(),
                format!("{state:?}"),
                users.clone(),
                peers(&rule.peers),
                ports(&rule.ports),
                from,
            ]
        })
        .collect();
    // What is wanting, of a fact that stands for nothing or for less than it might, is in its message only.
    let nothing = || "-".to_owned();
    let told = |part: &str| rules.iter().any(|rule| rule.origin == part);
    if rules.is_empty() {
        let state = format!("{state:?}");
        rows.push([name.clone(), state, users, nothing(), nothing(), message.clone()]);
    } else if *state != FactState::Pinned && !message.split("; ").all(told) {
        rows.push(["", "", "", "", "", &format!("({message})")].map(str::to_owned));
    }
    // What a line repeats of the one above is left out.
    for row in rows.iter_mut().skip(1) {
        row.iter_mut().take(3).for_each(String::clear);
    }
    rows
}

fn peers(peers: &[NetworkPolicyPeer]) -> String {
    let mut named: Vec<String> = peers.iter().take(PEERS).map(peer).collect();
    if peers.len() > PEERS {
        named.push(format!("and {} more", peers.len() - PEERS));
    }
    named.join(", ")
}

fn peer(peer: &NetworkPolicyPeer) -> String {
    if let Some(block) = &peer.ip_block {
        return match block.except.as_deref() {
            None | Some([]) => block.cidr.clone(),
            Some(except) => format!("{} except {}", block.cidr, except.join(" ")),
        };
    }
    let pods = match peer.pod_selector.as_ref().map(selector) {
        Some(selector) if selector != "everything" => selector,
        _ => "every pod".to_owned(),
    };
    let Some(namespaces) = &peer.namespace_selector else {
        return pods;
    };
    let by_name = namespaces.match_labels.as_ref().filter(|labels| {
        labels.len() == 1 && namespaces.match_expressions.as_ref().is_none_or(Vec::is_empty)
    });
    match by_name.and_then(|labels| labels.get(NAMESPACE_NAME)) {
        Some(name) => format!("{pods} in {name}"),
        None => match selector(namespaces).as_str() {
            "everything" => format!("{pods} in every namespace"),
            selector => format!("{pods} in namespaces {selector}"),
        },
    }
}

fn selector(selector: &LabelSelector) -> String {
    match Selector::parse(selector) {
        Ok(selector) => selector.to_string(),
        Err(error) => format!("({error})"),
    }
}

fn ports(ports: &[NetworkPolicyPort]) -> String {
    if ports.is_empty() {
        return "all".to_owned();
    }
    let port = |port: &NetworkPolicyPort| {
        let number = match (&port.port, port.end_port) {
            (None, _) => "all".to_owned(),
            (Some(IntOrString::Int(number)), None) => number.to_string(),
            (Some(IntOrString::Int(number)), Some(end)) => format!("{number}-{end}"),
            (Some(IntOrString::String(name)), _) => name.clone(),
        };
        format!("{} {number}", port.protocol.as_deref().unwrap_or("TCP"))
    };
    ports.iter().map(port).collect::<Vec<_>>().join(", ")
}
