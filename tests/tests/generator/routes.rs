//! Facts of a real cluster, and what its Ingresses route to.

use anyhow::ensure;
use k8s_openapi::api::core::v1::{Endpoints, Node};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::{Patch, PatchParams};
use ringfence_tests::target::until;
use serde_json::json;

use crate::harness::{DENY, Generator, SETTLE, Stage};

/// Every block and port of a policy's egress rules.
fn blocks(spec: &k8s_openapi::api::networking::v1::NetworkPolicySpec) -> Vec<String> {
    let peers = spec
        .egress
        .iter()
        .flatten()
        .flat_map(|rule| rule.to.iter().flatten());
    peers
        .filter_map(|peer| peer.ip_block.as_ref())
        .map(|block| block.cidr.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_the_nodes_and_the_ranges_are_those_of_the_cluster() -> anyhow::Result<()> {
    const NS: &str = "g-facts";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    let template = |name: &str, fact: &str| {
        format!(
            "{{name: {name}, spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{fact: {fact}}}]}}}}"
        )
    };
    let facts = [
        ("api", "apiServer"),
        ("nodes", "nodes"),
        ("pods", "podRanges"),
        ("services", "serviceRanges"),
    ];
    let templates: Vec<String> = facts.iter().map(|(name, fact)| template(name, fact)).collect();
    let templates: Vec<&str> = templates.iter().map(String::as_str).collect();
    stage.baseline(NS, "", &templates).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["api", "nodes", "pods", "services"]).await?;
    stage.condition(NS, "FactsResolved", "True").await?;

    #[allow(deprecated)] // the oldest way to ask, so that it is another than the generator's
    let endpoints = Api::<Endpoints>::namespaced(stage.target.client.clone(), "default")
        .get("kubernetes")
        .await?;
    let subset = endpoints.subsets.unwrap_or_default().remove(0);
    let address = format!("{}/32", subset.addresses.unwrap_or_default().remove(0).ip);
    let api = stage.stored(NS, "api").await?;
    ensure!(blocks(&api) == [address], "{:?}", blocks(&api));
    let port = api
        .egress
        .unwrap_or_default()
        .remove(0)
        .ports
        .unwrap_or_default()
        .remove(0)
        .port;
    ensure!(
        port == Some(IntOrString::Int(subset.ports.unwrap_or_default().remove(0).port)),
        "{port:?}"
    );

    let nodes = Api::<Node>::all(stage.target.client.clone())
        .list(&Default::default())
        .await?;
    let stored = blocks(&stage.stored(NS, "nodes").await?);
    for node in &nodes {
        let address = node
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten());
        for address in address.filter(|address| address.type_ == "InternalIP") {
            ensure!(
                stored
                    .iter()
                    .any(|block| block.split('/').next() == Some(&address.address)),
                "{stored:?}"
            );
        }
    }
    for name in ["pods", "services"] {
        ensure!(
            !blocks(&stage.stored(NS, name).await?).is_empty(),
            "{name} has no range"
        );
    }
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_is_followed_to_another_port_and_to_a_second_service() -> anyhow::Result<()> {
    const NS: &str = "g-dns";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let second = [
        "-n",
        "kube-system",
        "delete",
        "service/second-dns",
        "pod/second-dns",
        "--ignore-not-found",
        "--wait=true",
    ];
    stage.target.kubectl(&second).await?;
    let _generator = Generator::start(&stage).await?;
    stage.baseline(NS, "", &[crate::harness::DNS]).await?;
    stage.namespace(NS, NS).await?;
    let before = stage.stored(NS, "allow-dns").await?;
    // A second DNS, whose pods listen on a port of another number, by name.
    let service = "
apiVersion: v1
kind: Service
metadata: {name: second-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  selector: {app: second-dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns}, {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}]
";
    let pod = |port: u16| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: second-dns, namespace: kube-system, labels: {{app: second-dns}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: dns
      image: ringfence.test/agnhost:dev
      imagePullPolicy: IfNotPresent
      args: [pause]
      ports: [{{name: dns, containerPort: {port}, protocol: UDP}}, {{name: dns-tcp, containerPort: {port}}}]
"
        )
    };
    let ports = |spec: &k8s_openapi::api::networking::v1::NetworkPolicySpec| -> Vec<i32> {
        let rules = spec.egress.iter().flatten();
        let ports = rules.flat_map(|rule| rule.ports.iter().flatten());
        let mut numbers: Vec<i32> = ports
            .filter_map(|port| match port.port {
                Some(IntOrString::Int(number)) => Some(number),
                _ => None,
            })
            .collect();
        numbers.dedup();
        numbers
    };
    for port in [5353, 1053] {
        stage
            .target
            .apply(&format!("{service}\n---\n{}", pod(port)))
            .await?;
        until(&format!("DNS on {port} too"), SETTLE, || async {
            let spec = stage.stored(NS, "allow-dns").await?;
            Ok((ports(&spec).contains(&i32::from(port)) && ports(&spec).contains(&53)).then_some(()))
        })
        .await?;
        // While its only pod is gone, its port stays as it was last known.
        let delete = ["-n", "kube-system", "delete", "pod", "second-dns", "--wait=true"];
        stage.target.kubectl(&delete).await?;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let spec = stage.stored(NS, "allow-dns").await?;
        ensure!(ports(&spec).contains(&i32::from(port)), "{:?}", ports(&spec));
    }
    stage.target.kubectl(&second).await?;
    until("the second DNS to be forgotten", SETTLE, || async {
        Ok((stage.stored(NS, "allow-dns").await? == before).then_some(()))
    })
    .await?;
    stage.remove(&[NS], &[NS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ingress_routes_to_is_opened_and_follows_it() -> anyhow::Result<()> {
    const NS: &str = "g-routed";
    let stage = Stage::take(&[NS], &[NS]).await?;
    let _generator = Generator::start(&stage).await?;
    let routed = "{name: allow-ingress, forEach: RoutedService, spec: {podSelector: {}, policyTypes: [Ingress], \
                  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}]}]}}";
    stage.baseline(NS, "", &[DENY, routed]).await?;
    stage.namespace(NS, NS).await?;
    stage.has(NS, &["default-deny"]).await?;
    let service = |target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {NS}}}, spec: {{selector: {{app: web}}, \
             ports: [{{name: http, port: 80, targetPort: {target}}}, {{name: metrics, port: 9090}}]}}}}"
        )
    };
    let ingress = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: web, namespace: {NS}}}, spec: {{rules: [{{http: {{paths: [\
         {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}]}}}}]}}}}"
    );
    stage.target.apply(&ingress).await?;
    stage.target.apply(&service("8080")).await?;
    stage.has(NS, &["allow-ingress-web", "default-deny"]).await?;
    let policy = stage.stored(NS, "allow-ingress-web").await?;
    let selector = policy
        .pod_selector
        .clone()
        .unwrap_or_default()
        .match_labels
        .unwrap_or_default();
    ensure!(
        selector == [("app".to_owned(), "web".to_owned())].into(),
        "{selector:?}"
    );
    let only_port = |port: IntOrString| {
        let policies = stage.policies(NS);
        async move {
            until(&format!("port {port:?}, and no other"), SETTLE, || async {
                let spec = policies.get("allow-ingress-web").await?.spec.unwrap_or_default();
                let ports: Vec<_> = spec
                    .ingress
                    .iter()
                    .flatten()
                    .flat_map(|rule| rule.ports.iter().flatten())
                    .filter_map(|port| port.port.clone())
                    .collect();
                Ok((ports == [port.clone()]).then_some(()))
            })
            .await
        }
    };
    only_port(IntOrString::Int(8080)).await?;
    stage.target.apply(&service("http")).await?;
    only_port(IntOrString::String("http".to_owned())).await?;
    let ingresses: Api<k8s_openapi::api::networking::v1::Ingress> =
        Api::namespaced(stage.target.client.clone(), NS);
    let other = json!({"spec": {"rules": [{"http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 9090}}}}]}}]}});
    ingresses
        .patch("web", &PatchParams::default(), &Patch::Merge(&other))
        .await?;
    only_port(IntOrString::Int(9090)).await?;
    stage
        .target
        .kubectl(&["-n", NS, "delete", "ingress", "web"])
        .await?;
    stage.has(NS, &["default-deny"]).await?;
    stage.remove(&[NS], &[NS]).await
}
