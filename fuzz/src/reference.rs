//! What the API's documentation and its server say, written a second time and in other words: by `std`'s addresses and by
//! regular expressions where `netpol` counts bytes, over the API's own types where `netpol` has its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use regex::Regex;

/// Whether a selector selects an object with these labels.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    for (key, value) in selector.match_labels.iter().flatten() {
        if labels.get(key) != Some(value) {
            return false;
        }
    }
    for expression in selector.match_expressions.iter().flatten() {
        let has = labels.contains_key(&expression.key);
        let among = has
            && expression
                .values
                .iter()
                .flatten()
                .any(|value| *value == labels[&expression.key]);
        let holds = match expression.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            "Exists" => has,
            "DoesNotExist" => !has,
            other => panic!("{other} is no operator"),
        };
        if !holds {
            return false;
        }
    }
    true
}

/// The fields for which an API server (1.36) refuses a policy; none if it takes it.
pub fn refused(object: &NetworkPolicy) -> Vec<String> {
    let Some(spec) = &object.spec else {
        return Vec::new();
    };
    let mut fields = Vec::new();
    if let Some(pods) = &spec.pod_selector {
        selector("spec.podSelector", pods, &mut fields);
    }
    let ingress = spec
        .ingress
        .iter()
        .flatten()
        .map(|rule| ("from", &rule.from, &rule.ports));
    let egress = spec
        .egress
        .iter()
        .flatten()
        .map(|rule| ("to", &rule.to, &rule.ports));
    let at = |list: &str, index: usize| format!("spec.{list}[{index}]");
    let ingress = ingress
        .enumerate()
        .map(|(index, rule)| (at("ingress", index), rule));
    let egress = egress
        .enumerate()
        .map(|(index, rule)| (at("egress", index), rule));
    for (rule, (peers_field, peers, ports)) in ingress.chain(egress) {
        for (index, one) in ports.iter().flatten().enumerate() {
            port(&format!("{rule}.ports[{index}]"), one, &mut fields);
        }
        for (index, one) in peers.iter().flatten().enumerate() {
            peer(&format!("{rule}.{peers_field}[{index}]"), one, &mut fields);
        }
    }
    match spec.policy_types.as_deref().unwrap_or_default() {
        types if types.len() > 2 => fields.push("spec.policyTypes".to_owned()),
        types => {
            let odd = types
                .iter()
                .enumerate()
                .filter(|(_, name)| *name != "Ingress" && *name != "Egress");
            fields.extend(odd.map(|(index, _)| format!("spec.policyTypes[{index}]")));
        }
    }
    fields
}

fn selector(field: &str, selector: &LabelSelector, fields: &mut Vec<String>) {
    for (key, value) in selector.match_labels.iter().flatten() {
        if !is_key(key) || !is_value(value) {
            fields.push(format!("{field}.matchLabels"));
        }
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let values = expression.values.as_deref().unwrap_or_default();
        match (expression.operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
            ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => {
                fields.push(format!("{field}.values"))
            }
            _ => fields.push(format!("{field}.operator")),
        }
        if !is_key(&expression.key) {
            fields.push(format!("{field}.key"));
        }
        let bad = values.iter().enumerate().filter(|(_, value)| !is_value(value));
        fields.extend(bad.map(|(at, _)| format!("{field}.values[{at}]")));
    }
}

fn peer(field: &str, peer: &NetworkPolicyPeer, fields: &mut Vec<String>) {
    let selectors = [
        ("podSelector", &peer.pod_selector),
        ("namespaceSelector", &peer.namespace_selector),
    ];
    let given = selectors
        .iter()
        .filter(|(_, selector)| selector.is_some())
        .count();
    for (name, given) in selectors {
        if let Some(given) = given {
            selector(&format!("{field}.{name}"), given, fields);
        }
    }
    let Some(block) = &peer.ip_block else {
        if given == 0 {
            fields.push(field.to_owned());
        }
        return;
    };
    if given > 0 {
        fields.push(field.to_owned());
    }
    let Some(cidr) = net(&block.cidr) else {
        // What is excepted from nothing is not looked at.
        fields.push(format!("{field}.ipBlock.cidr"));
        return;
    };
    if !cidr.is_clean() {
        fields.push(format!("{field}.ipBlock.cidr"));
    }
    for (index, text) in block.except.iter().flatten().enumerate() {
        let fits = net(text).is_some_and(|except| except.is_clean() && cidr.is_wider_than(except));
        if !fits {
            fields.push(format!("{field}.ipBlock.except[{index}]"));
        }
    }
}

fn port(field: &str, port: &NetworkPolicyPort, fields: &mut Vec<String>) {
    if port
        .protocol
        .as_ref()
        .is_some_and(|name| !["TCP", "UDP", "SCTP"].contains(&name.as_str()))
    {
        fields.push(format!("{field}.protocol"));
    }
    let is_number = |number: i32| number > 0 && number < 65536;
    let (number_is_bad, end_is_bad) = match (&port.port, port.end_port) {
        (None, end) => (false, end.is_some()),
        (Some(IntOrString::Int(number)), None) => (!is_number(*number), false),
        (Some(IntOrString::Int(number)), Some(end)) => {
            (!is_number(*number), end < *number || !is_number(end))
        }
        (Some(IntOrString::String(name)), end) => (!is_port_name(name), end.is_some()),
    };
    if number_is_bad {
        fields.push(format!("{field}.port"));
    }
    if end_is_bad {
        fields.push(format!("{field}.endPort"));
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a regular expression")
}

fn is_key(key: &str) -> bool {
    static PREFIX: LazyLock<Regex> =
        LazyLock::new(|| regex(r"\A[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\z"));
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        [name] => !name.is_empty() && is_value(name),
        [prefix, name] => prefix.len() < 254 && PREFIX.is_match(prefix) && !name.is_empty() && is_value(name),
        _ => false,
    }
}

fn is_value(value: &str) -> bool {
    static VALUE: LazyLock<Regex> =
        LazyLock::new(|| regex(r"\A(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\z"));
    value.len() < 64 && VALUE.is_match(value)
}

fn is_port_name(name: &str) -> bool {
    static NAME: LazyLock<Regex> = LazyLock::new(|| regex(r"\A[a-z0-9]+(-[a-z0-9]+)*\z"));
    static LETTER: LazyLock<Regex> = LazyLock::new(|| regex("[a-z]"));
    name.len() < 16 && NAME.is_match(name) && LETTER.is_match(name)
}

/// An address with a prefix length, as bits from the left.
#[derive(Clone, Copy)]
struct Net {
    v6: bool,
    bits: u128,
    length: u32,
    mapped: bool,
    /// Without leading zeros and the like.
    strict: bool,
}

impl Net {
    fn masked(self, length: u32) -> u128 {
        if length == 0 {
            0
        } else {
            self.bits >> (128 - length)
        }
    }

    /// Without bits beyond the prefix, and of the family that it looks to be of.
    fn is_clean(self) -> bool {
        let rest = self.bits.checked_shl(self.length).unwrap_or(0);
        self.strict && rest == 0 && !self.mapped
    }

    fn is_wider_than(self, other: Self) -> bool {
        self.v6 == other.v6
            && self.length < other.length
            && self.masked(self.length) == other.masked(self.length)
    }
}

fn net(text: &str) -> Option<Net> {
    let (address, length) = text.split_once('/')?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = length.parse().ok().filter(|_| digits)?;
    // Older servers read leading zeros in IPv4; a newer one reads them too, to find what is excepted outside of the block.
    let bare = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        bare => bare.to_owned(),
    };
    let plain: Vec<String> = address.split('.').map(bare).collect();
    let strict_length = length.len() == 1 || !length.starts_with('0');
    match (address.parse::<IpAddr>(), plain.join(".").parse::<Ipv4Addr>()) {
        (Ok(IpAddr::V4(v4)), _) => net_v4(v4, number, strict_length),
        (Ok(IpAddr::V6(v6)), _) => net_v6(v6, number, strict_length),
        (Err(_), Ok(v4)) => net_v4(v4, number, false),
        (Err(_), Err(_)) => None,
    }
}

fn net_v4(address: Ipv4Addr, length: u32, strict: bool) -> Option<Net> {
    let bits = u128::from(u32::from(address)) << 96;
    (length <= 32).then_some(Net {
        v6: false,
        bits,
        length,
        mapped: false,
        strict,
    })
}

fn net_v6(address: Ipv6Addr, length: u32, strict: bool) -> Option<Net> {
    let mapped = address.to_ipv4_mapped().is_some();
    (length <= 128).then_some(Net {
        v6: true,
        bits: u128::from(address),
        length,
        mapped,
        strict,
    })
}
