//! Where routes lead, as tables.

use serde::de::DeserializeOwned;

use super::*;
use crate::cluster::gateway::{
    GatewayObject, GrpcRouteObject, HttpRouteObject, ReferenceGrantObject, TcpRouteObject, TlsRouteObject,
};
use crate::cluster::{Assembly, Route};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;

fn object<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml_ng::from_str(yaml).unwrap()
}

/// A gateway `infra/main` with one listener, and an HTTPRoute `shop/web` to it.
fn shop(listener: &str, route: &str) -> Assembly {
    let mut assembly = Assembly::default();
    assembly.apply(&object::<core::Namespace>(
        "{metadata: {name: shop, labels: {edge: public}}}",
    ));
    assembly.apply(&object::<GatewayObject>(&format!(
        "{{metadata: {{name: main, namespace: infra}}, spec: {{gatewayClassName: g, listeners: [{{name: web, port: 80, {listener}}}]}}}}"
    )));
    assembly.apply(&object::<HttpRouteObject>(&format!(
        "{{metadata: {{name: web, namespace: shop}}, spec: {{parentRefs: [{{name: main, namespace: infra}}], {route}}}}}"
    )));
    assembly
}

fn shown(assembly: Assembly) -> Vec<String> {
    let routing = Routing::of(&assembly.finish());
    let routed = routing
        .routed
        .iter()
        .map(|routed| format!("{} {:?}", routed.service, routed.port));
    let dropped = routing
        .dropped
        .iter()
        .map(|dropped| format!("{}: {}", dropped.route, dropped.why));
    routed.chain(dropped).collect()
}

const OPEN: &str = "protocol: HTTP, allowedRoutes: {namespaces: {from: All}}";
const BACKEND: &str = "rules: [{backendRefs: [{name: api, port: 8080}]}]";

#[test]
fn a_route_leads_where_a_listener_takes_it() {
    let leads = ["shop/api Number(8080)"];
    let namespace =
        "HTTPRoute shop/web: no listener of the Gateway infra/main takes routes from this namespace";
    let kind = "HTTPRoute shop/web: no listener of the Gateway infra/main takes routes of this kind";
    let hostname =
        "HTTPRoute shop/web: no listener of the Gateway infra/main has a host name in common with it";
    let table: [(&str, &str, &str); 17] = [
        (OPEN, "", ""),
        ("protocol: HTTP", "", namespace),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: Same}}",
            "",
            namespace,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: None}}",
            "",
            namespace,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: public}}}}",
            "",
            "",
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: none}}}}",
            "",
            namespace,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}",
            "",
            namespace,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}",
            "",
            kind,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{group: example.com, kind: HTTPRoute}]}",
            "",
            kind,
        ),
        (
            "protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: []}",
            "",
            "",
        ),
        (
            "protocol: TCP, allowedRoutes: {namespaces: {from: All}}",
            "",
            kind,
        ),
        (
            "protocol: example.com/own, allowedRoutes: {namespaces: {from: All}}",
            "",
            "",
        ),
        (
            "protocol: HTTPS, hostname: '*.Example.com', allowedRoutes: {namespaces: {from: All}}",
            "hostnames: [a.b.example.com],",
            "",
        ),
        (
            "protocol: HTTPS, hostname: '*.example.com', allowedRoutes: {namespaces: {from: All}}",
            "hostnames: [example.com],",
            hostname,
        ),
        (
            "protocol: HTTPS, hostname: a.example.com, allowedRoutes: {namespaces: {from: All}}",
            "hostnames: ['*.example.com'],",
            "",
        ),
        (
            "protocol: HTTPS, hostname: '*.example.com', allowedRoutes: {namespaces: {from: All}}",
            "hostnames: ['*.a.example.com'],",
            "",
        ),
        (
            "protocol: HTTPS, hostname: a.example.com, allowedRoutes: {namespaces: {from: All}}",
            "hostnames: [b.example.com],",
            hostname,
        ),
    ];
    for (listener, names, refusal) in table {
        let found = shown(shop(listener, &format!("{names} {BACKEND}")));
        if refusal.is_empty() {
            assert_eq!(found, leads, "{listener} {names}");
        } else {
            assert_eq!(found, [refusal], "{listener} {names}");
        }
    }
}

#[test]
fn a_section_or_port_chooses_among_listeners() {
    let with = |parent: &str| {
        let mut assembly = shop(OPEN, "rules: []");
        assembly.apply(&object::<HttpRouteObject>(&format!(
            "{{metadata: {{name: x, namespace: shop}}, spec: {{parentRefs: [{{name: main, namespace: infra, {parent}}}], {BACKEND}}}}}"
        )));
        shown(assembly)
    };
    assert_eq!(with("sectionName: web"), ["shop/api Number(8080)"]);
    assert_eq!(with("port: 80"), ["shop/api Number(8080)"]);
    assert_eq!(
        with("sectionName: admin, port: 81"),
        ["HTTPRoute shop/x: the Gateway infra/main has no listener admin at port 81"]
    );
}

#[test]
fn another_namespace_must_grant_that_its_services_are_led_to() {
    let abroad = "rules: [{backendRefs: [{name: api, namespace: bank, port: 1}]}]";
    let with = |grant: &str| {
        let mut assembly = shop(OPEN, abroad);
        assembly.apply(&object::<ReferenceGrantObject>(grant));
        shown(assembly)
    };
    let refused = [
        "HTTPRoute shop/web: the Service bank/api is in another namespace, and no ReferenceGrant there allows routes like this one to lead to it",
    ];
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    let grant = |namespace: &str, from: &str, to: &str| {
        format!(
            "{{metadata: {{name: g, namespace: {namespace}}}, spec: {{from: [{from}], to: [{{group: '', kind: {to}}}]}}}}"
        )
    };
    assert_eq!(with(&grant("bank", from, "Service")), ["bank/api Number(1)"]);
    assert_eq!(
        with(&grant("bank", from, "Service, name: api")),
        ["bank/api Number(1)"]
    );
    let mut assembly = shop(OPEN, abroad);
    assembly.apply(&object::<ReferenceGrantObject>(&grant("bank", from, "Service")));
    let cluster = assembly.finish();
    assert_eq!(
        Routing::into(&cluster, "bank").routed,
        Routing::of(&cluster).routed
    );
    assert!(Routing::into(&cluster, "shop").routed.is_empty());
    let from_grpc = "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}";
    let from_infra = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}";
    for no in [
        grant("bank", from, "Service, name: other"),
        grant("bank", from, "Secret"),
        grant("shop", from, "Service"),
        grant("bank", from_grpc, "Service"),
        grant("bank", from_infra, "Service"),
    ] {
        assert_eq!(with(&no), refused, "{no}");
    }
}

#[test]
fn mirrors_are_reached_too_and_backends_without_a_share_are_not() {
    let rules = "rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 1}}}],
        backendRefs: [{name: none, port: 2, weight: 0}, {name: some, port: 3, weight: 1, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: deep, port: 4}}}]},
                      {name: bucket, kind: Bucket, group: example.com, port: 5}]}]";
    assert_eq!(
        shown(shop(OPEN, rules)),
        [
            "shop/copy Number(1)",
            "shop/deep Number(4)",
            "shop/some Number(3)"
        ]
    );
}

#[test]
fn every_kind_of_route_needs_a_listener_that_carries_it() {
    let with = |protocol: &str| {
        let listener = format!("protocol: {protocol}, allowedRoutes: {{namespaces: {{from: All}}}}");
        let mut assembly = shop(&listener, "rules: [{backendRefs: [{name: http, port: 1}]}]");
        let spec = |name: &str| {
            format!(
                "{{metadata: {{name: web, namespace: shop}}, spec: {{parentRefs: [{{name: main, namespace: infra}}], rules: [{{backendRefs: [{{name: {name}, port: 1}}]}}]}}}}"
            )
        };
        assembly.apply(&object::<GrpcRouteObject>(&spec("grpc")));
        assembly.apply(&object::<TlsRouteObject>(&spec("tls")));
        assembly.apply(&object::<TcpRouteObject>(&spec("tcp")));
        let routing = Routing::of(&assembly.finish());
        routing
            .routed
            .into_iter()
            .map(|routed| routed.service.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(with("HTTP"), ["grpc", "http"]);
    assert_eq!(with("HTTPS, tls: {mode: Terminate}"), ["grpc", "http"]);
    assert_eq!(with("TLS, tls: {mode: Passthrough}"), ["tls"]);
    assert_eq!(with("TLS"), ["tcp", "tls"]);
    assert_eq!(with("TCP"), ["tcp"]);
}

#[test]
fn routes_to_gateways_that_are_not_known_and_to_meshes_lead_nowhere() {
    let mut assembly = Assembly::default();
    for (name, parent) in [
        ("a", "{name: main}"),
        ("b", "{name: api, kind: Service, group: ''}"),
    ] {
        assembly.apply(&object::<HttpRouteObject>(&format!(
            "{{metadata: {{name: {name}, namespace: shop}}, spec: {{parentRefs: [{parent}], {BACKEND}}}}}"
        )));
    }
    assert_eq!(
        shown(assembly),
        [
            "HTTPRoute shop/a: the Gateway shop/main is not known, so that it cannot be said whether it takes the route"
        ]
    );
}

#[test]
fn a_backend_means_ports_of_the_pods_behind_the_service() {
    let pod: core::Pod = object(
        "{metadata: {name: p, namespace: shop, labels: {app: api}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}",
    );
    let service: core::Service = object(
        "{metadata: {name: api, namespace: shop}, spec: {selector: {app: api}, ports: [{name: web, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: 9090},
          {name: dns, port: 53, protocol: UDP}]}}",
    );
    let mut assembly = Assembly::default();
    assembly.apply(&pod);
    assembly.apply(&service);
    let cluster = assembly.finish();
    let key = Key::new("shop", "api");
    let ports = |port: BackendPort, protocol| {
        let routed = Routed {
            service: key.clone(),
            port,
            protocol,
        };
        let service = cluster.services.get(&key).unwrap();
        let pod = cluster.pods.values().next().unwrap();
        let ports = routed.ports(service, pod);
        ports.ranges().iter().map(|range| range.first).collect::<Vec<_>>()
    };
    let endpoint = |text: &str| BackendPort::Endpoint(text.to_owned());
    let table = [
        (BackendPort::Number(80), vec![8080]),
        (BackendPort::Number(8080), vec![]),
        (BackendPort::Name("admin".to_owned()), vec![9090]),
        (BackendPort::Name("http".to_owned()), vec![]),
        (endpoint("web"), vec![8080]),
        (endpoint("8080"), vec![8080]),
        (endpoint("80"), vec![]),
        (endpoint("http"), vec![]),
        (BackendPort::Every, vec![8080, 9090]),
    ];
    for (port, expected) in table {
        assert_eq!(ports(port.clone(), Protocol::Tcp), expected, "{port:?}");
    }
    assert_eq!(ports(BackendPort::Number(53), Protocol::Udp), [53]);
}

#[test]
fn a_route_of_openshift_leads_to_all_that_it_names_and_an_ingress_to_its_own() {
    let mut assembly = Assembly::default();
    assembly.apply(&object::<Route>(
        "{metadata: {name: web, namespace: shop}, spec: {to: {kind: Service, name: a, weight: 100}, alternateBackends: [{kind: Service, name: b, weight: 0}, {kind: Service, name: c}]}}",
    ));
    assembly.apply(&object::<Route>(
        "{metadata: {name: one, namespace: shop}, spec: {to: {kind: Service, name: d}, port: {targetPort: 8080}}}",
    ));
    assembly.apply(&object::<networking::Ingress>(
        "{metadata: {name: web, namespace: shop}, spec: {defaultBackend: {service: {name: e, port: {name: http}}}}}",
    ));
    assert_eq!(
        shown(assembly),
        [
            "shop/a Every",
            "shop/c Every",
            "shop/d Endpoint(\"8080\")",
            "shop/e Name(\"http\")"
        ]
    );
}
