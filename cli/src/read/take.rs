//! From a document to the object that a cluster keeps.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use ringfence_netpol::api::{LabelStandard, NamespaceBaseline};
use ringfence_netpol::cluster::{Assembly, Key, Observed, Route, Workload, gateway};
use ringfence_netpol::policy::Policy;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::tree::{Node, Value};
use super::{LabelSource, Options, PolicySource, Problem};

/// Takes objects and keeps account of what it took.
pub struct Taker<'a> {
    options: &'a Options,
    pub assembly: Assembly,
    pub policies: Vec<PolicySource>,
    pub labelled: Vec<LabelSource>,
    pub problems: Vec<Problem>,
    /// How many objects were taken.
    pub taken: usize,
    /// How many objects of kinds that are none of ours, by kind.
    pub passed_over: BTreeMap<String, usize>,
    /// Where each object was defined: kind and key → file and line.
    defined: HashMap<(&'static str, Key), (usize, usize)>,
    files: Vec<String>,
}

/// A known kind: its API group, name, and how it is taken.
struct Kind {
    group: &'static str,
    name: &'static str,
    take: fn(&mut Taker<'_>, &'static str, Node),
}

const KINDS: &[Kind] = &[
    kind("", "Pod", |t, k, n| t.observed::<core::Pod>(k, n, true)),
    kind("", "Namespace", |t, k, n| t.kept::<core::Namespace>(k, n)),
    kind("", "Node", |t, k, n| t.observed::<core::Node>(k, n, false)),
    kind("discovery.k8s.io", "EndpointSlice", |t, k, n| t.slice(k, n)),
    kind("", "Service", |t, k, n| t.observed::<core::Service>(k, n, true)),
    kind("", "ReplicationController", |t, k, n| {
        t.workload::<core::ReplicationController>(k, n)
    }),
    kind("apps", "Deployment", |t, k, n| {
        t.workload::<apps::Deployment>(k, n)
    }),
    kind("apps", "StatefulSet", |t, k, n| {
        t.workload::<apps::StatefulSet>(k, n)
    }),
    kind("apps", "DaemonSet", |t, k, n| t.workload::<apps::DaemonSet>(k, n)),
    kind("apps", "ReplicaSet", |t, k, n| {
        t.workload::<apps::ReplicaSet>(k, n)
    }),
    kind("batch", "Job", |t, k, n| t.workload::<batch::Job>(k, n)),
    kind("batch", "CronJob", |t, k, n| t.workload::<batch::CronJob>(k, n)),
    kind("networking.k8s.io", "NetworkPolicy", |t, k, n| t.policy(k, n)),
    kind("networking.k8s.io", "Ingress", |t, k, n| {
        t.observed::<networking::Ingress>(k, n, true)
    }),
    kind("networking.k8s.io", "ServiceCIDR", |t, k, n| {
        t.observed::<networking::ServiceCIDR>(k, n, false)
    }),
    kind("networking.k8s.io", "IngressClass", |t, k, n| {
        t.observed::<networking::IngressClass>(k, n, false)
    }),
    kind("route.openshift.io", "Route", |t, k, n| {
        t.observed::<Route>(k, n, true)
    }),
    kind(gateway::GROUP, "GatewayClass", |t, k, n| {
        t.observed::<gateway::GatewayClassObject>(k, n, false)
    }),
    kind(gateway::GROUP, "Gateway", |t, k, n| {
        t.observed::<gateway::GatewayObject>(k, n, true)
    }),
    kind(gateway::GROUP, "HTTPRoute", |t, k, n| {
        t.observed::<gateway::HttpRouteObject>(k, n, true)
    }),
    kind(gateway::GROUP, "GRPCRoute", |t, k, n| {
        t.observed::<gateway::GrpcRouteObject>(k, n, true)
    }),
    kind(gateway::GROUP, "TLSRoute", |t, k, n| {
        t.observed::<gateway::TlsRouteObject>(k, n, true)
    }),
    kind(gateway::GROUP, "TCPRoute", |t, k, n| {
        t.observed::<gateway::TcpRouteObject>(k, n, true)
    }),
    kind(gateway::GROUP, "UDPRoute", |t, k, n| {
        t.observed::<gateway::UdpRouteObject>(k, n, true)
    }),
    kind(gateway::GROUP, "ReferenceGrant", |t, k, n| {
        t.observed::<gateway::ReferenceGrantObject>(k, n, true)
    }),
    kind("ringfence.dev", "NamespaceBaseline", |t, k, n| {
        t.observed::<NamespaceBaseline>(k, n, false)
    }),
    kind("ringfence.dev", "LabelStandard", |t, k, n| {
        t.kept::<LabelStandard>(k, n)
    }),
];

const fn kind(group: &'static str, name: &'static str, take: fn(&mut Taker<'_>, &'static str, Node)) -> Kind {
    Kind { group, name, take }
}

impl<'a> Taker<'a> {
    pub fn new(options: &'a Options) -> Self {
        Self {
            options,
            assembly: Assembly::default(),
            policies: Vec::new(),
            labelled: Vec::new(),
            problems: Vec::new(),
            taken: 0,
            passed_over: BTreeMap::new(),
            defined: HashMap::new(),
            files: Vec::new(),
        }
    }

    /// What comes now is of this file.
    pub fn begin(&mut self, file: &str) {
        self.files.push(file.to_owned());
    }

    fn file(&self) -> &str {
        self.files.last().map_or("", String::as_str)
    }

    pub fn fault(&mut self, line: usize, reason: impl Into<String>) {
        let problem = Problem::at(self.file(), line, reason);
        self.problems.push(problem);
    }

    /// Takes a document, or an item of a list whose root says what its items are.
    pub fn take(&mut self, node: Node, list: Option<&Node>) {
        if node.is_null() {
            return;
        }
        if !matches!(node.value, Value::Map(_)) {
            return self.fault(
                node.line(),
                "is no Kubernetes object: a map with apiVersion and kind",
            );
        }
        let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
        let of_list = |key: &str| list.and_then(|list| text(list, key));
        let listed = of_list("kind").and_then(|kind| kind.strip_suffix("List").map(str::to_owned));
        let Some(kind) = text(&node, "kind").or(listed).filter(|kind| !kind.is_empty()) else {
            return self.fault(node.line(), "has no kind, so it is no Kubernetes object");
        };
        if list.is_none() && kind.ends_with("List") && node.get("items").is_some() {
            return; // its items were taken already
        }
        let Some(version) = text(&node, "apiVersion").or_else(|| of_list("apiVersion")) else {
            return self.fault(node.line(), format!("the {kind} has no apiVersion"));
        };
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        match KINDS
            .iter()
            .find(|known| known.name == kind && known.group == group)
        {
            Some(known) => (known.take)(self, known.name, node),
            None => *self.passed_over.entry(kind).or_default() += 1,
        }
    }

    fn observed<K: Observed + DeserializeOwned + kube::Resource<DynamicType = ()>>(
        &mut self,
        kind: &'static str,
        node: Node,
        namespaced: bool,
    ) {
        let line = node.line();
        if let Some(mut object) = self.typed::<K>(kind, &node)
            && self.named(kind, object.meta_mut(), namespaced, line)
        {
            self.assembly.apply(&object);
        }
    }

    /// Takes an object that is in no namespace, and keeps where it stands.
    fn kept<K: Observed + DeserializeOwned + kube::Resource<DynamicType = ()>>(
        &mut self,
        kind: &'static str,
        node: Node,
    ) {
        let Some(mut object) = self.typed::<K>(kind, &node) else {
            return;
        };
        if self.named(kind, object.meta_mut(), false, node.line()) {
            self.assembly.apply(&object);
            self.labelled.push(LabelSource {
                kind,
                key: object.key(),
                file: self.file().to_owned(),
                node,
            });
        }
    }

    fn slice(&mut self, kind: &'static str, node: Node) {
        let line = node.line();
        if let Some(mut object) = self.typed::<discovery::EndpointSlice>(kind, &node)
            && self.named(kind, &mut object.metadata, true, line)
            && !is_of_selector(&object)
        {
            self.assembly.apply(&object);
        }
    }

    fn workload<W: Workload + DeserializeOwned + kube::Resource<DynamicType = ()>>(
        &mut self,
        kind: &'static str,
        node: Node,
    ) {
        let line = node.line();
        if let Some(mut object) = self.typed::<W>(kind, &node)
            && self.named(kind, object.meta_mut(), true, line)
        {
            self.assembly.apply_workload(&object);
        }
    }

    fn policy(&mut self, kind: &'static str, node: Node) {
        let Some(mut object) = self.typed::<networking::NetworkPolicy>(kind, &node) else {
            return;
        };
        if !self.named(kind, &mut object.metadata, true, node.line()) {
            return;
        }
        let defects = Policy::parse(&object).defects;
        if !defects.is_empty() && !self.options.keep_refused {
            let file = self.file().to_owned();
            let about = format!(
                "NetworkPolicy {}/{}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            self.problems.extend(defects.into_iter().map(|defect| Problem {
                file: file.clone(),
                line: Some(node.line_of(&defect.field)),
                object: Some(about.clone()),
                field: Some(defect.field),
                reason: format!("{}; the API server would refuse this policy", defect.error),
            }));
            return;
        }
        self.assembly.apply(&object);
        self.policies.push(PolicySource {
            object,
            file: self.file().to_owned(),
            node,
        });
    }

    /// The node as that type; a problem names the field and its line.
    fn typed<T: DeserializeOwned>(&mut self, kind: &str, node: &Node) -> Option<T> {
        let mut json = node.clone().into_json();
        fill_nulls("", &mut json);
        match serde_path_to_error::deserialize(&json) {
            Ok(object) => Some(object),
            Err(error) => {
                let path = error.path().to_string();
                let field = (path != ".").then_some(path);
                let name = node
                    .get("metadata")
                    .and_then(|meta| meta.get("name"))
                    .and_then(Node::text)
                    .unwrap_or_default();
                self.problems.push(Problem {
                    line: Some(field.as_deref().map_or(node.line(), |field| node.line_of(field))),
                    object: Some(format!("{kind} {name}").trim_end().to_owned()),
                    field,
                    ..Problem::of_file(self.file(), error.into_inner().to_string())
                });
                None
            }
        }
    }

    /// Gives the object its namespace; whether it has a name that no other of its kind has.
    fn named(&mut self, kind: &'static str, meta: &mut ObjectMeta, namespaced: bool, line: usize) -> bool {
        if namespaced {
            let namespace = meta.namespace.take().filter(|namespace| !namespace.is_empty());
            meta.namespace = namespace.or_else(|| Some(self.options.namespace.clone()));
        } else {
            meta.namespace = None;
        }
        let generated = || {
            meta.generate_name
                .as_ref()
                .map(|prefix| format!("{prefix}{}", self.taken))
        };
        let Some(name) = meta
            .name
            .clone()
            .filter(|name| !name.is_empty())
            .or_else(generated)
        else {
            self.fault(line, format!("the {kind} has no metadata.name"));
            return false;
        };
        meta.name = Some(name.clone());
        let key = Key::new(meta.namespace.clone().unwrap_or_default(), name);
        let here = (self.files.len() - 1, line);
        if let Some((file, first)) = self.defined.insert((kind, key.clone()), here) {
            let file = self.files.get(file).cloned().unwrap_or_default();
            self.fault(
                line,
                format!(
                    "{kind} {key} is defined twice, first at {file}:{first}; only one of the two can be meant"
                ),
            );
            return false;
        }
        self.taken += 1;
        true
    }
}

/// Whether Kubernetes made it of a Service's selector.
pub fn is_of_selector(slice: &discovery::EndpointSlice) -> bool {
    let manager = slice.labels().get("endpointslice.kubernetes.io/managed-by");
    manager.is_some_and(|manager| manager == "endpointslice-controller.k8s.io")
}

/// Gives nulls the meaning that they have to an API server, which fills what is null with an empty value: a null label is an empty one, a null
/// rule is an empty rule (and so allows anyone).
fn fill_nulls(under: &str, value: &mut Json) {
    match value {
        Json::Array(items) => {
            for item in items {
                if item.is_null() {
                    *item = match under {
                        "values" | "policyTypes" | "except" | "args" | "command" => {
                            Json::String(String::new())
                        }
                        _ => Json::Object(Map::new()),
                    };
                }
                fill_nulls("", item);
            }
        }
        Json::Object(fields) => {
            for (key, field) in fields {
                if field.is_null() && matches!(under, "labels" | "annotations" | "matchLabels") {
                    *field = Json::String(String::new());
                }
                fill_nulls(key, field);
            }
        }
        _ => {}
    }
}
