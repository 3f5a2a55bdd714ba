//! Gateway API: as much of its kinds as says what a gateway's controller reaches.
//!
//! The versions that are served (v1, v1beta1, v1alpha2) differ in nothing that is read here.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use super::{Cluster, Key, Observed, Store};
use crate::port::Protocol;
use crate::selector::Selector;

pub const GROUP: &str = "gateway.networking.k8s.io";

/// A class of gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// Which program serves the class, as `traefik.io/gateway-controller`.
    pub controller: String,
    /// The namespace of the Helm release that it came with.
    pub release_namespace: Option<String>,
}

/// A gateway: where connections come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateway {
    pub class: String,
    pub listeners: Vec<Listener>,
}

/// One door of a gateway, and which routes may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or an implementation's own, with its domain.
    pub protocol: String,
    /// TLS is handed on as it comes.
    pub passthrough: bool,
    /// `None`: any.
    pub hostname: Option<String>,
    pub namespaces: AllowedNamespaces,
    /// `None`: all that the protocol can carry. Kinds that are not known here are left out.
    pub kinds: Option<Vec<RouteKind>>,
}

/// Which namespaces the routes of a listener may be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedNamespaces {
    Same,
    All,
    Selected(Selector),
    /// Also where it cannot be understood.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

/// A route: from listeners to Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRoute {
    pub kind: RouteKind,
    /// Empty: any.
    pub hostnames: Vec<String>,
    pub parents: Vec<Parent>,
    /// Those that get no share of the traffic are left out; mirrors and the like are there.
    pub backends: Vec<RouteBackend>,
}

/// The gateway that a route wants to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub gateway: Key,
    /// Only this listener.
    pub listener: Option<String>,
    /// Only listeners at this port.
    pub port: Option<u16>,
}

/// A port of a Service, by the Service's number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteBackend {
    pub service: Key,
    pub port: u16,
}

/// Leave for routes of other namespaces to lead to Services of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Kinds of routes, and the namespaces that they are in.
    pub from: Vec<(RouteKind, String)>,
    /// The Services, by name; `None` is every one.
    pub services: Vec<Option<String>>,
}

impl RouteKind {
    pub const ALL: [Self; 5] = [Self::Http, Self::Grpc, Self::Tls, Self::Tcp, Self::Udp];

    /// The kind's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the gateway speaks towards the backends.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Http | Self::Grpc | Self::Tls | Self::Tcp => Protocol::Tcp,
        }
    }
}

impl ReferenceGrant {
    /// Whether routes of that kind and namespace may lead to the Service.
    pub fn allows(&self, kind: RouteKind, namespace: &str, service: &str) -> bool {
        self.from
            .iter()
            .any(|(granted, from)| *granted == kind && from == namespace)
            && self
                .services
                .iter()
                .any(|name| name.as_deref().is_none_or(|name| name == service))
    }
}

/// A kind's names, as the type of its objects carries them.
pub trait Named: std::fmt::Debug + Clone + Send + Sync + 'static {
    const KIND: &'static str;
    const PLURAL: &'static str;
    const VERSION: &'static str;
    type Spec: std::fmt::Debug + Clone + Default + for<'de> Deserialize<'de> + Send + Sync;
}

/// An object of a kind of this API, as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(bound = "")]
pub struct Object<K: Named> {
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: K::Spec,
    #[serde(skip)]
    kind: PhantomData<K>,
}

macro_rules! kinds {
    ($($marker:ident: $kind:literal, $plural:literal, $version:literal, $spec:ty, $object:ident;)+) => {$(
        #[doc = concat!("The kind ", $kind, ".")]
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $marker;

        impl Named for $marker {
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
            const VERSION: &'static str = $version;
            type Spec = $spec;
        }

        #[doc = concat!("A ", $kind, " as it is read.")]
        pub type $object = Object<$marker>;
    )+};
}

kinds! {
    ClassKind: "GatewayClass", "gatewayclasses", "v1", ClassSpec, GatewayClassObject;
    GatewayKind: "Gateway", "gateways", "v1", GatewaySpec, GatewayObject;
    HttpKind: "HTTPRoute", "httproutes", "v1", RouteSpec, HttpRouteObject;
    GrpcKind: "GRPCRoute", "grpcroutes", "v1", RouteSpec, GrpcRouteObject;
    TlsKind: "TLSRoute", "tlsroutes", "v1alpha2", RouteSpec, TlsRouteObject;
    TcpKind: "TCPRoute", "tcproutes", "v1alpha2", RouteSpec, TcpRouteObject;
    UdpKind: "UDPRoute", "udproutes", "v1alpha2", RouteSpec, UdpRouteObject;
    GrantKind: "ReferenceGrant", "referencegrants", "v1beta1", GrantSpec, ReferenceGrantObject;
}

impl<K: Named> Resource for Object<K> {
    type DynamicType = ();
    type Scope = kube::core::DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassSpec {
    #[serde(default)]
    controller_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    #[serde(default)]
    gateway_class_name: String,
    listeners: Option<Vec<ListenerSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerSpec {
    name: String,
    hostname: Option<String>,
    port: u16,
    protocol: String,
    tls: Option<TlsSpec>,
    allowed_routes: Option<AllowedRoutesSpec>,
}

#[derive(Debug, Clone, Deserialize)]
struct TlsSpec {
    mode: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct AllowedRoutesSpec {
    namespaces: Option<NamespacesSpec>,
    kinds: Option<Vec<KindSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NamespacesSpec {
    from: Option<String>,
    selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, Deserialize)]
struct KindSpec {
    group: Option<String>,
    kind: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    parent_refs: Option<Vec<ParentSpec>>,
    hostnames: Option<Vec<String>>,
    rules: Option<Vec<RuleSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentSpec {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSpec {
    backend_refs: Option<Vec<BackendSpec>>,
    filters: Option<Vec<FilterSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
struct BackendSpec {
    group: Option<String>,
    kind: Option<String>,
    name: String,
    namespace: Option<String>,
    port: Option<u16>,
    weight: Option<i64>,
    filters: Option<Vec<FilterSpec>>,
}

/// What a gateway does besides, if it opens connections for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterSpec {
    request_mirror: Option<CalledSpec>,
    external_auth: Option<CalledSpec>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CalledSpec {
    backend_ref: BackendSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct GrantSpec {
    from: Option<Vec<GrantFromSpec>>,
    to: Option<Vec<GrantToSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
struct GrantFromSpec {
    #[serde(default)]
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Debug, Clone, Deserialize)]
struct GrantToSpec {
    #[serde(default)]
    group: String,
    kind: String,
    name: Option<String>,
}

impl Observed for GatewayClassObject {
    type Entry = GatewayClass;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> GatewayClass {
        GatewayClass {
            controller: self.spec.controller_name.clone(),
            release_namespace: super::observe::release_namespace(self.annotations()),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<GatewayClass> {
        &mut cluster.gateway_classes
    }
}

impl Observed for GatewayObject {
    type Entry = Gateway;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Gateway {
        Gateway {
            class: self.spec.gateway_class_name.clone(),
            listeners: self.spec.listeners.iter().flatten().map(listener).collect(),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Gateway> {
        &mut cluster.gateways
    }
}

fn listener(spec: &ListenerSpec) -> Listener {
    let allowed = spec.allowed_routes.as_ref();
    let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let known = |kind: &KindSpec| {
        let ours = kind.group.as_deref().is_none_or(|group| group == GROUP);
        ours.then(|| RouteKind::parse(&kind.kind)).flatten()
    };
    Listener {
        name: spec.name.clone(),
        port: spec.port,
        protocol: spec.protocol.clone(),
        passthrough: spec.tls.as_ref().and_then(|tls| tls.mode.as_deref()) == Some("Passthrough"),
        hostname: spec.hostname.clone().filter(|name| !name.is_empty()),
        namespaces: match namespaces.map(|allowed| (allowed.from.as_deref(), &allowed.selector)) {
            None | Some((None | Some("Same"), _)) => AllowedNamespaces::Same,
            Some((Some("All"), _)) => AllowedNamespaces::All,
            Some((Some("Selector"), Some(selector))) => {
                Selector::parse(selector).map_or(AllowedNamespaces::None, AllowedNamespaces::Selected)
            }
            Some((Some(_), _)) => AllowedNamespaces::None,
        },
        kinds: allowed
            .and_then(|allowed| allowed.kinds.as_ref())
            .filter(|kinds| !kinds.is_empty())
            .map(|kinds| kinds.iter().filter_map(known).collect()),
    }
}

macro_rules! routes {
    ($($object:ty => $kind:expr),+ $(,)?) => {$(
        impl Observed for $object {
            type Entry = GatewayRoute;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn observe(&self) -> GatewayRoute {
                let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
                route($kind, namespace, &self.spec)
            }

            fn store(cluster: &mut Cluster) -> &mut Store<GatewayRoute> {
                &mut cluster.gateway_routes
            }

            fn owns(key: &Key) -> bool {
                key.name.strip_suffix(']').is_some_and(|name| name.ends_with(&format!("[{}", $kind.name())))
            }

            /// Routes of several kinds may have the same name.
            fn key(&self) -> Key {
                let meta = &self.metadata;
                let name = meta.name.as_deref().unwrap_or_default();
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                Key::new(namespace, format!("{name}[{}]", $kind.name()))
            }
        }
    )+};
}

routes! {
    HttpRouteObject => RouteKind::Http,
    GrpcRouteObject => RouteKind::Grpc,
    TlsRouteObject => RouteKind::Tls,
    TcpRouteObject => RouteKind::Tcp,
    UdpRouteObject => RouteKind::Udp,
}

fn route(kind: RouteKind, namespace: &str, spec: &RouteSpec) -> GatewayRoute {
    let parents = spec.parent_refs.iter().flatten();
    let parents = parents.filter(|parent| {
        // Others are Services, for meshes, or an implementation's own.
        parent.group.as_deref().is_none_or(|group| group == GROUP)
            && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway")
    });
    let mut backends: Vec<RouteBackend> = spec
        .rules
        .iter()
        .flatten()
        .flat_map(called)
        .filter_map(|backend| {
            let service = backend.group.as_deref().unwrap_or_default().is_empty()
                && backend.kind.as_deref().is_none_or(|kind| kind == "Service");
            let port = backend.port.filter(|_| service && backend.weight != Some(0))?;
            let namespace = backend.namespace.as_deref().unwrap_or(namespace);
            Some(RouteBackend {
                service: Key::new(namespace, backend.name.as_str()),
                port,
            })
        })
        .collect();
    backends.sort_unstable();
    backends.dedup();
    GatewayRoute {
        kind,
        hostnames: spec.hostnames.clone().unwrap_or_default(),
        parents: parents
            .map(|parent| Parent {
                gateway: Key::new(
                    parent.namespace.as_deref().unwrap_or(namespace),
                    parent.name.as_str(),
                ),
                listener: parent.section_name.clone(),
                port: parent.port,
            })
            .collect(),
        backends,
    }
}

/// Everyone that a gateway opens connections to because of a rule.
fn called(rule: &RuleSpec) -> impl Iterator<Item = &BackendSpec> {
    let backends = rule.backend_refs.iter().flatten();
    let own = backends
        .clone()
        .flat_map(|backend| backend.filters.iter().flatten());
    let filters = rule.filters.iter().flatten().chain(own);
    let besides = filters
        .flat_map(|filter| [&filter.request_mirror, &filter.external_auth])
        .flatten()
        .map(|called| &called.backend_ref);
    backends.chain(besides)
}

impl Observed for ReferenceGrantObject {
    type Entry = ReferenceGrant;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> ReferenceGrant {
        let from = self.spec.from.iter().flatten();
        let to = self.spec.to.iter().flatten();
        ReferenceGrant {
            from: from
                .filter(|from| from.group == GROUP)
                .filter_map(|from| Some((RouteKind::parse(&from.kind)?, from.namespace.clone())))
                .collect(),
            services: to
                .filter(|to| to.group.is_empty() && to.kind == "Service")
                .map(|to| to.name.clone().filter(|name| !name.is_empty()))
                .collect(),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<ReferenceGrant> {
        &mut cluster.reference_grants
    }
}
