//! What is known of the cluster: typed objects in stores that events are applied to.
//!
//! Each object is converted on arrival to just the fields that matter here, so that an update which changes
//! nothing of them is seen as no change. The state depends on the objects only, never on the order of events.

pub mod gateway;
mod journal;
mod object;
mod observe;
mod pod;
mod route;
mod routing;
mod shared;
mod store;
mod workload;

pub use journal::Changes;
pub use object::{
    ContainerPort, EndpointPort, EndpointSlice, Ingress, IngressBackend, IngressClass, Mesh, Namespace, Node,
    Phase, Pod, Scraping, Service, ServicePort, TargetPort,
};
pub use observe::Observed;
pub use pod::PodObject;
pub use route::Route;
pub use routing::{BackendPort, Dropped, Refusal, Routed, Routing};
pub use shared::Shared;
pub use store::Store;
pub use workload::{Assembly, NAMESPACE_NAME, Owner, Workload};

pub use crate::key::Key;

use gateway::{Gateway, GatewayClass, GatewayRoute, ReferenceGrant};
use ipnet::IpNet;

use crate::api::{LabelStandard, NamespaceBaseline};
use crate::baseline::object::PolicyRecord;
use crate::policy::Policy;
use crate::selector::Labels;

/// Everything that is known of the cluster. A binary watches the kinds that it needs; the other stores stay empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    pub namespaces: Store<Namespace>,
    pub pods: Store<Pod>,
    pub policies: Store<Policy>,
    /// The same objects as [`Self::policies`], as who generates them sees them.
    pub policy_records: Store<PolicyRecord>,
    pub services: Store<Service>,
    pub ingresses: Store<Ingress>,
    pub ingress_classes: Store<IngressClass>,
    pub gateway_classes: Store<GatewayClass>,
    pub gateways: Store<Gateway>,
    /// Of all kinds, each under its name and kind.
    pub gateway_routes: Store<GatewayRoute>,
    pub reference_grants: Store<ReferenceGrant>,
    pub nodes: Store<Node>,
    /// Only those that no controller made from a Service's selector.
    pub endpoint_slices: Store<EndpointSlice>,
    /// The blocks that Services' addresses come from.
    pub service_ranges: Store<Vec<IpNet>>,
    pub baselines: Store<NamespaceBaseline>,
    pub standards: Store<LabelStandard>,
    /// What several of the objects have alike.
    pub shared: Shared,
}

impl Cluster {
    /// The labels of a namespace; `None` while the namespace is not known.
    pub fn namespace_labels(&self, name: &str) -> Option<&Labels> {
        self.namespaces
            .get(&Key::cluster(name))
            .map(|namespace| &namespace.labels)
    }
}
