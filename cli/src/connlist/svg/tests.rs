//! What is drawn, and that it can be read.

use proptest::prelude::*;
use ringfence_netpol::connections::{Connections, Options};

use super::*;
use crate::read::{self, read_texts};

fn drawn(limits: Limits, text: &str) -> String {
    let reading = read_texts([("shop.yaml", text)], &read::Options::default());
    assert_eq!(reading.problems, []);
    let connections = Connections::of(&reading.cluster, Options::default());
    let mut out = Vec::new();
    write_within(limits, connections.workloads(), connections.iter(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The sentences that appear on lines: what the picture says.
fn said(svg: &str) -> Vec<&str> {
    let titles = svg.split("<title>").skip(1);
    let titles = titles.filter_map(|part| part.split_once("</title>").map(|(title, _)| title));
    titles.filter(|title| title.contains("=&gt;")).collect()
}

fn pod(namespace: &str, name: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}}}\n"
    )
}

const CLOSED: &str = "
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: api, namespace: shop}, spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress],
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 443}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop}, spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress],
  ingress: [{ports: [{port: 80}]}], egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]}}
";

#[test]
fn the_picture_of_a_shop() {
    let text = format!("{CLOSED}{}{}", pod("shop", "web"), pod("shop", "api"));
    insta::assert_snapshot!(drawn(Limits::default(), &text));
}

#[test]
fn what_all_of_them_may_do_is_one_line() {
    let pods = ["a", "b", "c", "d"]
        .map(|name| pod("red", name) + &pod("blue", name))
        .concat();
    let open = drawn(Limits::default(), &pods);
    assert_eq!(
        said(&open),
        [
            "outside: 0.0.0.0/0 &lt;=&gt; every workload : everything",
            "every workload =&gt; every workload : everything"
        ]
    );
    let own = "
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: own, namespace: red}, spec: {podSelector: {}, policyTypes: [Ingress, Egress],
  ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}}
";
    let fenced = drawn(Limits::default(), &format!("{pods}---{own}"));
    assert_eq!(
        said(&fenced),
        [
            "outside: 0.0.0.0/0 &lt;=&gt; each workload of blue : everything",
            "each workload of blue =&gt; each workload of blue : everything",
            "each workload of red =&gt; each workload of red : everything"
        ]
    );
}

#[test]
fn too_many_workloads_are_drawn_by_namespace_and_that_is_said() {
    let limits = Limits { spots: 12, lines: 5 };
    let pods: String = (0..6)
        .flat_map(|namespace| (0..4).map(move |index| pod(&format!("n{namespace}"), &format!("p{index}"))))
        .collect();
    let svg = drawn(limits, &pods);
    assert!(
        svg.contains("24 workloads are too many to be drawn one by one"),
        "{svg}"
    );
    assert!(
        svg.contains("2 namespaces with fewer connections are left out."),
        "{svg}"
    );
    assert!(svg.contains("namespace n0, 4 workloads"), "{svg}");
}

#[test]
fn names_are_text_and_nothing_else() {
    let text = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "</text><script>alert(1)</script>\u0001&", "namespace": "\"x"}}"#;
    let svg = drawn(Limits::default(), text);
    assert!(!svg.contains('\u{1}') && svg.contains('\u{fffd}'), "{svg}");
    assert!(!svg.contains("<script"), "{svg}");
    assert!(svg.contains("&lt;/text&gt;&lt;script&gt;"), "{svg}");
}

#[test]
fn an_empty_list_is_a_picture_too() {
    let mut out = Vec::new();
    write(std::iter::empty(), std::iter::empty(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().trim_end().ends_with("</svg>"));
}

/// Clusters of some namespaces where each workload takes from some others.
fn cluster() -> impl Strategy<Value = String> {
    let workload = (0..4_usize, prop::collection::vec(0..9_usize, 0..4), 1..4_u16);
    prop::collection::vec(workload, 1..9).prop_map(|workloads| {
        let mut text = String::new();
        for (index, (namespace, from, port)) in workloads.iter().enumerate() {
            text += &pod(&format!("n{namespace}"), &format!("p{index}"));
            let from: Vec<String> = from
                .iter()
                .map(|from| format!("{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: p{from}}}}}}}"))
                .collect();
            let rules = match from.as_slice() {
                [] => String::new(),
                from => format!("{{from: [{}], ports: [{{port: {port}}}]}}", from.join(", ")),
            };
            text += &format!(
                "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{index}, namespace: n{namespace}}},
                 spec: {{podSelector: {{matchLabels: {{app: p{index}}}}}, policyTypes: [Ingress], ingress: [{rules}]}}}}\n"
            );
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_cluster_has_one_picture_in_which_everything_has_its_place(text in cluster()) {
        let svg = drawn(Limits::default(), &text);
        prop_assert_eq!(&svg, &drawn(Limits::default(), &text));
        prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        let open = svg.matches("<g>").count();
        prop_assert_eq!(open, svg.matches("</g>").count());
    }
}
