//! What a user applies is what its parts say.

use std::process::Command;

use clap::Parser;

#[test]
fn install_yaml_is_rendered_from_its_parts() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let rendered = std::env::temp_dir().join(format!("ringfence-install-{}.yaml", std::process::id()));
    let status = Command::new(format!("{deploy}/render"))
        .arg(&rendered)
        .status()
        .expect("deploy/render runs");
    assert!(status.success());
    let fresh = std::fs::read_to_string(&rendered).expect("it was rendered");
    std::fs::remove_file(&rendered).expect("it can be removed");
    let stored =
        std::fs::read_to_string(format!("{deploy}/install.yaml")).expect("deploy/install.yaml is there");
    assert!(
        stored == fresh,
        "deploy/install.yaml is not what its parts say; run deploy/render"
    );
}

/// What a command prints, how it ends, and what it complains of.
fn ringfence(words: &[&str]) -> (String, ringfence_cli::Outcome, String) {
    let args = ringfence_cli::args::Args::parse_from([&["ringfence"], words].concat());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = ringfence_cli::run(&args, &mut out, &mut err);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out), outcome, text(&err))
}

/// A cluster as it is found, with a namespace of each tier.
const CLUSTER: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {containers: [{name: c, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: traefik}, spec: {controller: traefik.io/ingress-controller}}
---
{apiVersion: v1, kind: Pod, metadata: {name: traefik, namespace: traefik, labels: {app.kubernetes.io/name: traefik}}, spec: {containers: [{name: c}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.9]}]
ports: [{port: 6443, protocol: TCP}]
";

#[test]
fn everything_that_a_platform_team_starts_from_passes_lint_and_so_does_what_is_made_of_it() {
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let (found, outcome, said) = ringfence(&["lint", policies]);
    assert_eq!(outcome, ringfence_cli::Outcome::Fine, "{found}{said}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let tiers = ["strict", "web", "batch", "platform", "none"];
    let namespace = |tier| {
        format!(
            "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: of-{tier}, labels: {{ringfence.dev/tier: {tier}}}}}}}\n"
        )
    };
    let namespaces: String = tiers.iter().map(namespace).collect();
    std::fs::write(path("cluster.yaml"), format!("{CLUSTER}{namespaces}")).expect("written");
    let baselines = format!("{policies}/baselines");
    let (made, outcome, said) = ringfence(&["generate", &baselines, &path("cluster.yaml")]);
    assert_eq!(outcome, ringfence_cli::Outcome::Fine, "{said}");
    for tier in tiers {
        assert!(
            made.contains(&format!("namespace: of-{tier}")),
            "nothing for {tier}:\n{made}"
        );
    }
    std::fs::write(path("made.yaml"), &made).expect("written");
    let (found, outcome, said) = ringfence(&["lint", &path("cluster.yaml"), &path("made.yaml")]);
    assert_eq!(outcome, ringfence_cli::Outcome::Fine, "{found}{said}\n{made}");
}
