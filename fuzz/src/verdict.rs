//! The evaluator, the compiled rules (made at once, or followed change by change) and the connections of the whole cluster are
//! witnesses of one meaning; and how a cluster came to be what it is says nothing about what it means.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::compile::{self, Compiler, NodeRules, compile};
use ringfence_netpol::connections::{Connections, End, Options};
use ringfence_netpol::evaluate::{Endpoint, evaluate};
use ringfence_netpol::port::{Protocol, Transport};

use crate::cluster::{NODES, Object, Objects};
use crate::draw::{Draw, PORTS};

/// In and about the blocks that policies have.
const OUTSIDE: [&str; 8] = [
    "10.0.0.7",
    "10.0.1.7",
    "10.0.9.9",
    "0.0.0.0",
    "255.255.255.255",
    "2001:db8::7",
    "2001:db8::107",
    "::",
];

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let objects = Objects::draw(&mut draw);
    let transports = transports(&mut draw);
    let outside: IpAddr = draw.of(&OUTSIDE).parse().expect("an address");
    let cluster = objects.cluster();
    let nodes: BTreeMap<&str, NodeRules> = NODES.map(|node| (node, compile(&cluster, node))).into();
    assert_eq!(
        nodes,
        by_other_ways(&objects, &mut draw),
        "the order of events changed the rules of {objects:?}"
    );

    let connections = Connections::of(
        &cluster,
        Options {
            blocks_match_pods: true,
            ipv6: true,
        },
    );
    let pods = cluster
        .pods
        .iter()
        .filter_map(|(key, _)| Endpoint::of(&cluster, key));
    let ends: Vec<Endpoint<'_>> = pods.chain([Endpoint::Address(outside)]).collect();
    for (from, to) in ends
        .iter()
        .flat_map(|from| ends.iter().map(move |to| (*from, *to)))
    {
        if from == to {
            continue; // a pod to itself never asks the rules
        }
        for transport in &transports {
            let verdict = evaluate(&cluster, from, to, *transport);
            let named = || format!("{from:?} -> {to:?} {transport}\nof {objects:#?}");
            assert_eq!(
                compile::verdict(|node| nodes.get(node), from, to, *transport),
                verdict,
                "compiled | evaluated: {}",
                named()
            );
            if let Some(listed) = listed(&connections, from, to, *transport) {
                assert_eq!(listed, verdict.allowed(), "listed | evaluated: {}", named());
            }
        }
    }
}

fn transports(draw: &mut Draw<'_>) -> Vec<Transport> {
    let transport = |draw: &mut Draw<'_>| {
        let protocol = draw.of(&Protocol::ALL);
        Transport::Port(protocol, draw.of(&PORTS).wrapping_add(u16::from(draw.one_in(6))))
    };
    let mut transports = draw.list(3, transport);
    transports.extend([Transport::Port(Protocol::Tcp, 80), Transport::Portless]);
    transports
}

/// The same rules, of a cluster whose objects came in another order, some of them twice, and some after others of their name; as followed by what
/// is told of every change, at once or of several together.
fn by_other_ways(objects: &Objects, draw: &mut Draw<'_>) -> BTreeMap<&'static str, NodeRules> {
    let mut cluster = Cluster::default();
    let mut compilers = NODES.map(|node| (node, Compiler::new(node)));
    let mut coming: Vec<Object<'_>> = objects.iter().collect();
    for at in (1..coming.len()).rev() {
        coming.swap(at, draw.up_to(at));
    }
    let mut follow = |cluster: &Cluster| {
        for (node, compiler) in &mut compilers {
            compiler.update(cluster);
            assert_eq!(
                compiler.rules(),
                compile(cluster, node),
                "followed | compiled: {objects:#?}"
            );
        }
    };
    for (at, object) in coming.iter().enumerate() {
        object.apply(&mut cluster);
        match draw.up_to(6) {
            1 => coming[draw.up_to(at)].apply(&mut cluster),
            2 => {
                let other = draw.up_to(at);
                coming[other].delete(&mut cluster);
                follow(&cluster);
                coming[other].apply(&mut cluster);
            }
            3 => follow(&cluster),
            _ => {}
        }
    }
    follow(&cluster);
    compilers.map(|(node, compiler)| (node, compiler.rules())).into()
}

/// Whether the list of connections has it; `None` where it lists no such ends: two addresses.
fn listed(
    connections: &Connections,
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    transport: Transport,
) -> Option<bool> {
    if let (Endpoint::Address(_), Endpoint::Address(_)) = (from, to) {
        return None;
    }
    let is = |end: End<'_>, endpoint: Endpoint<'_>| match (end, endpoint) {
        (End::Workload(workload), Endpoint::Pod { key, .. }) => {
            Key::new(&workload.namespace, &workload.name) == *key
        }
        (End::Outside(range), Endpoint::Address(address)) => (range.first..=range.last).contains(&address),
        _ => false,
    };
    let mut found = connections
        .iter()
        .filter(|c| is(c.from, from) && is(c.to, to) && c.ports.contains(transport));
    Some(found.next().is_some())
}
