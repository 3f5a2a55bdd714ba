use super::*;
use crate::cluster::Observed;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod as CorePod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IngressClass, ServiceCIDR};

/// A cluster from YAML documents of Services, Pods and IngressClasses.
fn cluster(yaml: &str) -> Cluster {
    let mut cluster = Cluster::default();
    add(&mut cluster, yaml);
    cluster
}

fn add(cluster: &mut Cluster, yaml: &str) {
    fn apply<K: Observed + serde::de::DeserializeOwned>(cluster: &mut Cluster, value: serde_yaml_ng::Value) {
        cluster.apply(&serde_yaml_ng::from_value::<K>(value).unwrap());
    }
    use serde::Deserialize;
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        let value = serde_yaml_ng::Value::deserialize(document).unwrap();
        match value["kind"].as_str().unwrap() {
            "Service" => apply::<Service>(cluster, value),
            "Pod" => apply::<CorePod>(cluster, value),
            "IngressClass" => apply::<IngressClass>(cluster, value),
            "GatewayClass" => apply::<crate::cluster::gateway::GatewayClassObject>(cluster, value),
            "Namespace" => apply::<Namespace>(cluster, value),
            "Node" => apply::<Node>(cluster, value),
            "EndpointSlice" => apply::<EndpointSlice>(cluster, value),
            "ServiceCIDR" => apply::<ServiceCIDR>(cluster, value),
            other => panic!("{other}"),
        }
    }
}

fn resolved(cluster: &Cluster, name: &str, last_known: &[Fact]) -> Fact {
    let wanted = BTreeSet::from([name.to_owned()]);
    resolve(cluster, &wanted, &BTreeMap::new(), last_known)
        .remove(name)
        .unwrap()
}

/// One line a rule, as `kube-system[k8s-app=kube-dns] 192.0.2.1/32 : TCP/53 UDP/53`.
fn lines(fact: &Fact) -> Vec<String> {
    let labels = |selector: &LabelSelector| {
        let labels = selector.match_labels.iter().flatten();
        labels
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let peer = |peer: &NetworkPolicyPeer| match &peer.ip_block {
        Some(block) => block.cidr.clone(),
        None => format!(
            "{}[{}]",
            peer.namespace_selector
                .as_ref()
                .unwrap()
                .match_labels
                .as_ref()
                .unwrap()[NAMESPACE_NAME],
            labels(peer.pod_selector.as_ref().unwrap())
        ),
    };
    let port = |port: &NetworkPolicyPort| match port.port.as_ref().unwrap() {
        IntOrString::Int(number) => format!("{}/{number}", port.protocol.as_ref().unwrap()),
        IntOrString::String(name) => panic!("a fact is a number: {name}"),
    };
    let line = |rule: &FactRule| {
        let peers: Vec<_> = rule.peers.iter().map(peer).collect();
        let ports: Vec<_> = rule.ports.iter().map(port).collect();
        format!("{} : {}", peers.join(" "), ports.join(" "))
            .trim_end()
            .to_owned()
    };
    fact.rules.iter().map(line).collect()
}

const KUBE_DNS: &str = "
kind: Service
metadata: {namespace: kube-system, name: kube-dns, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: 10.96.0.10
  selector: {k8s-app: kube-dns}
  ports:
    - {name: dns, port: 53, protocol: UDP}
    - {name: dns-tcp, port: 53, protocol: TCP}
    - {name: metrics, port: 9153, protocol: TCP}
";

const NAMED: &str = "
kind: Service
metadata: {namespace: kube-system, name: coredns, labels: {k8s-app: kube-dns}}
spec:
  selector: {app: dns}
  ports: [{port: 53, protocol: UDP, targetPort: dns}, {port: 53, protocol: TCP, targetPort: dns-tcp}]
";

fn dns_pod(name: &str, port: u16) -> String {
    format!(
        "
kind: Pod
metadata: {{namespace: kube-system, name: {name}, labels: {{app: dns}}}}
spec:
  containers:
    - name: c
      ports: [{{name: dns, containerPort: {port}, protocol: UDP}}, {{name: dns-tcp, containerPort: {port}, protocol: TCP}}]
"
    )
}

fn yaml(documents: &[&str]) -> String {
    documents.join("\n---\n")
}

#[test]
fn dns_on_its_own_number_needs_no_pod() {
    let fact = resolved(&cluster(KUBE_DNS), DNS, &[]);
    assert_eq!(lines(&fact), ["kube-system[k8s-app=kube-dns] : TCP/53 UDP/53"]);
    assert_eq!(
        (fact.state, fact.message.as_str()),
        (FactState::Resolved, "Service kube-system/kube-dns")
    );
}

#[test]
fn dns_behind_a_named_port_is_where_its_pods_listen() {
    let fact = resolved(&cluster(&yaml(&[NAMED, &dns_pod("a", 5353)])), DNS, &[]);
    assert_eq!(lines(&fact), ["kube-system[app=dns] : TCP/5353 UDP/5353"]);
}

#[test]
fn pods_that_roll_to_another_port_are_allowed_on_both() {
    let fact = resolved(
        &cluster(&yaml(&[NAMED, &dns_pod("a", 5353), &dns_pod("b", 1053)])),
        DNS,
        &[],
    );
    assert_eq!(
        lines(&fact),
        ["kube-system[app=dns] : TCP/1053 TCP/5353 UDP/1053 UDP/5353"]
    );
}

#[test]
fn two_dns_services_are_two_rules_whose_ports_are_not_mixed() {
    let fact = resolved(&cluster(&yaml(&[KUBE_DNS, NAMED, &dns_pod("a", 5353)])), DNS, &[]);
    assert_eq!(
        lines(&fact),
        [
            "kube-system[app=dns] : TCP/5353 UDP/5353",
            "kube-system[k8s-app=kube-dns] : TCP/53 UDP/53"
        ]
    );
}

#[test]
fn dns_by_udp_only_is_allowed_by_tcp_too() {
    let udp = KUBE_DNS.replace("    - {name: dns-tcp, port: 53, protocol: TCP}\n", "");
    assert_eq!(
        lines(&resolved(&cluster(&udp), DNS, &[])),
        ["kube-system[k8s-app=kube-dns] : TCP/53 UDP/53"]
    );
}

#[test]
fn openshift_has_its_dns_elsewhere() {
    let dns = "
kind: Service
metadata: {namespace: openshift-dns, name: dns-default}
spec:
  selector: {dns.operator.openshift.io/daemonset-dns: default}
  ports: [{port: 53, protocol: UDP, targetPort: 5353}, {port: 53, protocol: TCP, targetPort: 5353}]
";
    let expected = "openshift-dns[dns.operator.openshift.io/daemonset-dns=default] : TCP/5353 UDP/5353";
    assert_eq!(lines(&resolved(&cluster(dns), DNS, &[])), [expected]);
}

#[test]
fn the_node_local_cache_is_asked_on_its_link_local_address_and_on_the_service_s() {
    let cache = "
kind: Pod
metadata: {namespace: kube-system, name: node-local-dns-x, labels: {k8s-app: node-local-dns}}
spec: {hostNetwork: true, containers: []}
";
    assert_eq!(
        lines(&resolved(&cluster(&yaml(&[KUBE_DNS, cache])), DNS, &[])),
        [
            "kube-system[k8s-app=kube-dns] : TCP/53 UDP/53",
            "10.96.0.10/32 169.254.20.10/32 : TCP/53 UDP/53"
        ]
    );
}

#[test]
fn no_dns_stands_for_nothing_and_says_how_to_name_it() {
    let fact = resolved(&Cluster::default(), DNS, &[]);
    assert_eq!((fact.state, fact.rules.len()), (FactState::Unresolved, 0));
    assert!(
        fact.message.contains("spec.facts.dns.services"),
        "{}",
        fact.message
    );
}

#[test]
fn a_service_without_a_selector_or_port_says_why_it_stands_for_nothing() {
    let bare = KUBE_DNS.replace("  selector: {k8s-app: kube-dns}\n", "");
    let fact = resolved(&cluster(&bare), DNS, &[]);
    assert_eq!(fact.state, FactState::Unresolved);
    assert!(fact.message.contains("no selector"), "{}", fact.message);
    let unnamed = yaml(&[NAMED, &dns_pod("a", 5353).replace("name: dns", "name: other")]);
    let fact = resolved(&cluster(&unnamed), DNS, &[]);
    assert!(
        fact.message
            .contains("none of its 1 pods has a UDP port named \"dns\""),
        "{}",
        fact.message
    );
}

#[test]
fn while_all_dns_pods_restart_their_port_stays_as_it_was_last_known() {
    let mut cluster = cluster(&yaml(&[NAMED, &dns_pod("a", 5353)]));
    let before = resolved(&cluster, DNS, &[]);
    cluster.pods = crate::cluster::Store::default();
    let during = resolved(&cluster, DNS, std::slice::from_ref(&before));
    assert_eq!(
        (during.state, lines(&during)),
        (FactState::LastKnown, lines(&before))
    );
    cluster.services = crate::cluster::Store::default();
    let replaced = resolved(&cluster, DNS, std::slice::from_ref(&during));
    assert_eq!(
        (replaced.state, lines(&replaced)),
        (FactState::LastKnown, lines(&before)),
        "also its Service"
    );
    add(&mut cluster, KUBE_DNS);
    let after = resolved(&cluster, DNS, std::slice::from_ref(&replaced));
    assert_eq!(
        (after.state, lines(&after)),
        (
            FactState::Resolved,
            vec!["kube-system[k8s-app=kube-dns] : TCP/53 UDP/53".to_owned()]
        )
    );
}

#[test]
fn a_fact_can_be_pinned_by_services_or_by_hand() {
    let cluster = cluster(&yaml(&[NAMED, &dns_pod("a", 5353)]));
    let sources: BTreeMap<String, FactSource> = serde_yaml_ng::from_str(
        "
dns: {rules: [{peers: [{ipBlock: {cidr: 192.0.2.53/32}}], ports: [{port: 53, protocol: UDP}]}]}
registry: {services: [{namespace: kube-system, name: coredns}, {namespace: x, name: absent}]}
",
    )
    .unwrap();
    let facts = resolve(&cluster, &sources.keys().cloned().collect(), &sources, &[]);
    assert_eq!(
        (facts["dns"].state, lines(&facts["dns"])),
        (FactState::Pinned, vec!["192.0.2.53/32 : UDP/53".to_owned()])
    );
    assert_eq!(
        lines(&facts["registry"]),
        ["kube-system[app=dns] : TCP/5353 UDP/5353"]
    );
    assert_eq!(
        facts["registry"].message,
        "Service kube-system/coredns; Service x/absent: there is no such Service"
    );
}

const NGINX_CLASS: &str = "
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
";

fn nginx_pod(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "
kind: Pod
metadata:
  namespace: {namespace}
  name: {name}
  labels: {{app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/component: controller}}
spec: {{containers: [], {more}}}
status: {{podIPs: [{{ip: 192.0.2.7}}]}}
"
    )
}

const NGINX: &str = "[app.kubernetes.io/component=controller,app.kubernetes.io/name=ingress-nginx] :";

#[test]
fn an_ingress_controller_is_found_by_its_class_where_its_instructions_install_it() {
    let cluster = cluster(&yaml(&[NGINX_CLASS, &nginx_pod("ingress-nginx", "c", "")]));
    let fact = resolved(&cluster, INGRESS_CONTROLLERS, &[]);
    assert_eq!(lines(&fact), [format!("ingress-nginx{NGINX}")]);
    assert_eq!(fact.message, "IngressClass nginx (k8s.io/ingress-nginx)");
}

#[test]
fn an_ingress_controller_is_found_where_helm_noted_it_and_then_nowhere_else() {
    let class = NGINX_CLASS.replace(
        "name: nginx}",
        "name: nginx, annotations: {meta.helm.sh/release-namespace: edge}}",
    );
    let pods = [nginx_pod("edge", "c", ""), nginx_pod("ingress-nginx", "c", "")];
    let cluster = cluster(&yaml(&[&class, &pods[0], &pods[1]]));
    assert_eq!(
        lines(&resolved(&cluster, INGRESS_CONTROLLERS, &[])),
        [format!("edge{NGINX}")]
    );
}

#[test]
fn who_can_label_a_pod_does_not_become_an_ingress_controller() {
    let cluster = cluster(&yaml(&[NGINX_CLASS, &nginx_pod("team-a", "c", "")]));
    let fact = resolved(&cluster, INGRESS_CONTROLLERS, &[]);
    assert_eq!((fact.state, fact.rules.len()), (FactState::Unresolved, 0));
    assert!(
        fact.message.contains("pods that look like it are in team-a"),
        "{}",
        fact.message
    );
}

#[test]
fn a_controller_on_its_node_s_network_is_the_node_s_address() {
    let pod = nginx_pod("ingress-nginx", "c", "hostNetwork: true");
    let cluster = cluster(&yaml(&[NGINX_CLASS, &pod]));
    assert_eq!(
        lines(&resolved(&cluster, INGRESS_CONTROLLERS, &[])),
        ["192.0.2.7/32 :"]
    );
}

#[test]
fn without_a_class_or_with_an_unknown_controller_the_fact_stands_for_nothing() {
    let fact = resolved(&Cluster::default(), INGRESS_CONTROLLERS, &[]);
    assert_eq!(
        (fact.state, fact.message.as_str()),
        (
            FactState::Unresolved,
            "the cluster has no IngressClass and no GatewayClass"
        )
    );
    let own = NGINX_CLASS.replace("k8s.io/ingress-nginx", "example.com/own");
    let fact = resolved(&cluster(&own), INGRESS_CONTROLLERS, &[]);
    assert_eq!(fact.state, FactState::Unresolved);
    assert!(
        fact.message.contains("spec.facts.ingressControllers.rules"),
        "{}",
        fact.message
    );
}

#[test]
fn a_controller_whose_pods_restart_stays_and_one_whose_class_is_gone_does_not() {
    let mut cluster = cluster(&yaml(&[NGINX_CLASS, &nginx_pod("ingress-nginx", "c", "")]));
    let before = resolved(&cluster, INGRESS_CONTROLLERS, &[]);
    cluster.pods = crate::cluster::Store::default();
    let during = resolved(&cluster, INGRESS_CONTROLLERS, std::slice::from_ref(&before));
    assert_eq!(
        (during.state, lines(&during)),
        (FactState::LastKnown, lines(&before))
    );
    cluster.ingress_classes = crate::cluster::Store::default();
    let after = resolved(&cluster, INGRESS_CONTROLLERS, std::slice::from_ref(&during));
    assert_eq!((after.state, after.rules.len()), (FactState::Unresolved, 0));
}

const API_SERVER_SLICE: &str = "
kind: EndpointSlice
metadata: {namespace: default, name: kubernetes, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [198.51.100.2]}, {addresses: [198.51.100.1]}]
ports: [{name: https, port: 6443, protocol: TCP}]
";

#[test]
fn the_api_server_is_its_endpoints_and_not_its_service() {
    let mut cluster = cluster(API_SERVER_SLICE);
    let before = resolved(&cluster, API_SERVER, &[]);
    assert_eq!(lines(&before), ["198.51.100.1/32 198.51.100.2/32 : TCP/6443"]);
    assert_eq!(before.message, "EndpointSlice default/kubernetes");
    add(
        &mut cluster,
        &API_SERVER_SLICE.replace("[{addresses: [198.51.100.2]}, {addresses: [198.51.100.1]}]", "[]"),
    );
    let during = resolved(&cluster, API_SERVER, std::slice::from_ref(&before));
    assert_eq!(
        (during.state, lines(&during)),
        (FactState::LastKnown, lines(&before))
    );
    let never = resolved(&Cluster::default(), API_SERVER, &[]);
    assert_eq!((never.state, never.rules.len()), (FactState::Unresolved, 0));
}

fn node(n: u8) -> String {
    format!(
        "
kind: Node
metadata: {{name: node-{n}}}
spec: {{podCIDR: 10.244.{n}.0/24, podCIDRs: [10.244.{n}.0/24, 'fd00:10:244:{n}::/64']}}
status: {{addresses: [{{type: InternalIP, address: 198.18.0.{n}}}, {{type: Hostname, address: node-{n}}}]}}
"
    )
}

#[test]
fn nodes_are_their_addresses_and_pod_ranges_are_put_together() {
    let nodes = yaml(&[&node(2), &node(3)]);
    let cluster = cluster(&nodes);
    assert_eq!(
        lines(&resolved(&cluster, NODES, &[])),
        ["198.18.0.2/32 198.18.0.3/32 :"]
    );
    assert_eq!(
        lines(&resolved(&cluster, POD_RANGES, &[])),
        ["10.244.2.0/23 fd00:10:244:2::/63 :"]
    );
    let fact = resolved(&Cluster::default(), POD_RANGES, &[]);
    assert_eq!(fact.state, FactState::Unresolved);
    assert!(fact.message.contains("spec.facts.podRanges"), "{}", fact.message);
}

#[test]
fn no_rule_has_more_peers_than_a_status_can_hold() {
    let mut cluster = Cluster::default();
    for high in 0..3u8 {
        for low in 0..200u8 {
            let text = format!(
                "{{kind: Node, metadata: {{name: n-{high}-{low}}}, status: {{addresses: [{{type: InternalIP, address: 10.0.{high}.{low}}}]}}}}"
            );
            add(&mut cluster, &text);
        }
    }
    let fact = resolved(&cluster, NODES, &[]);
    let sizes: Vec<_> = fact.rules.iter().map(|rule| rule.peers.len()).collect();
    assert_eq!(sizes, [256, 256, 88]);
    let again = resolved(&cluster, NODES, std::slice::from_ref(&fact));
    assert_eq!(again, fact);
}

#[test]
fn service_ranges_come_from_the_service_cidrs() {
    let ranges = "{kind: ServiceCIDR, metadata: {name: kubernetes}, spec: {cidrs: [10.96.0.0/16, 'fd00:10:96::/112']}}";
    assert_eq!(
        lines(&resolved(&cluster(ranges), SERVICE_RANGES, &[])),
        ["10.96.0.0/16 fd00:10:96::/112 :"]
    );
}

#[test]
fn prometheus_is_found_where_it_is_installed_and_nowhere_else() {
    let pod = |namespace: &str| {
        format!(
            "
kind: Pod
metadata: {{namespace: {namespace}, name: prometheus-k8s-0, labels: {{app.kubernetes.io/name: prometheus}}}}
spec: {{containers: []}}
"
        )
    };
    let namespace = "{kind: Namespace, metadata: {name: monitoring}}";
    let mut there = cluster(&yaml(&[namespace, &pod("monitoring"), &pod("team-a")]));
    let before = resolved(&there, PROMETHEUS, &[]);
    assert_eq!(
        lines(&before),
        ["monitoring[app.kubernetes.io/name=prometheus] :"]
    );
    there.pods = crate::cluster::Store::default();
    let during = resolved(&there, PROMETHEUS, std::slice::from_ref(&before));
    assert_eq!(
        (during.state, lines(&during)),
        (FactState::LastKnown, lines(&before))
    );
    let tenant = resolved(&cluster(&pod("team-a")), PROMETHEUS, &[]);
    assert_eq!((tenant.state, tenant.rules.len()), (FactState::Unresolved, 0));
}

#[test]
fn meshes_are_the_services_of_their_control_planes() {
    let istiod = "
kind: Service
metadata: {namespace: istio-system, name: istiod-canary, labels: {app: istiod, istio.io/rev: canary}}
spec: {selector: {app: istiod, istio.io/rev: canary}, ports: [{name: https-dns, port: 15012}, {name: https-webhook, port: 443, targetPort: 15017}]}
";
    assert_eq!(
        lines(&resolved(&cluster(istiod), ISTIO, &[])),
        ["istio-system[app=istiod,istio.io/rev=canary] : TCP/15012 TCP/15017"]
    );
    let linkerd = "
kind: Service
metadata: {namespace: linkerd, name: linkerd-dst-headless}
spec: {clusterIP: None, selector: {linkerd.io/control-plane-component: destination}, ports: [{port: 8086}]}
";
    assert_eq!(
        lines(&resolved(&cluster(linkerd), LINKERD, &[])),
        ["linkerd[linkerd.io/control-plane-component=destination] : TCP/8086"]
    );
    assert!(
        resolved(&Cluster::default(), ISTIO, &[])
            .message
            .contains("spec.facts.istio")
    );
}

/// The cluster's DNS, its Service without a selector and with a slice of such ports.
fn dns_by_hand(ports: &str) -> String {
    let bare = KUBE_DNS.replace("  selector: {k8s-app: kube-dns}\n", "");
    let slice = format!(
        "
kind: EndpointSlice
metadata: {{namespace: kube-system, name: dns-1, labels: {{kubernetes.io/service-name: kube-dns}}}}
addressType: IPv4
endpoints: [{{addresses: [192.0.2.53]}}]
ports: {ports}
"
    );
    yaml(&[&bare, &slice])
}

#[test]
fn a_service_whose_endpoints_are_written_by_hand_is_those_endpoints() {
    let by_hand = dns_by_hand("[{port: 53, protocol: UDP}]");
    assert_eq!(
        lines(&resolved(&cluster(&by_hand), DNS, &[])),
        ["192.0.2.53/32 : TCP/53 UDP/53"]
    );
}

#[test]
fn the_controller_of_a_gateway_class_is_found_as_that_of_an_ingress_class() {
    let class = "{kind: GatewayClass, metadata: {name: traefik}, spec: {controllerName: traefik.io/gateway-controller}}";
    let pod = "{kind: Pod, metadata: {namespace: traefik, name: t, labels: {app.kubernetes.io/name: traefik}}, spec: {containers: []}}";
    let fact = resolved(&cluster(&yaml(&[class, pod])), INGRESS_CONTROLLERS, &[]);
    assert_eq!(lines(&fact), ["traefik[app.kubernetes.io/name=traefik] :"]);
    assert_eq!(
        fact.message,
        "GatewayClass traefik (traefik.io/gateway-controller)"
    );
}

#[test]
fn who_may_write_to_the_default_namespace_does_not_become_the_api_server() {
    let forged = API_SERVER_SLICE
        .replace("name: kubernetes, labels", "name: kubernetes-x, labels")
        .replace("198.51.100", "203.0.113");
    let both = resolved(&cluster(&yaml(&[API_SERVER_SLICE, &forged])), API_SERVER, &[]);
    assert_eq!(lines(&both), ["198.51.100.1/32 198.51.100.2/32 : TCP/6443"]);
    let fact = resolved(&cluster(&forged), API_SERVER, &[]);
    assert_eq!((fact.state, fact.rules.len()), (FactState::Unresolved, 0));
}

#[test]
fn of_endpoints_that_are_written_by_hand_only_the_ports_that_are_asked_for_count() {
    let by_hand = dns_by_hand(
        "[{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5353}, {name: metrics, port: 9153}]",
    );
    assert_eq!(
        lines(&resolved(&cluster(&by_hand), DNS, &[])),
        ["192.0.2.53/32 : TCP/5353 UDP/5353"]
    );
}
