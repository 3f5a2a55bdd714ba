//! What it must see of the cluster: namespaces, what is stored in them, and where facts are found.

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, ServiceCIDR};
use kube::Client;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::PolicyObject;
use ringfence_netpol::cluster::PodObject;
use ringfence_netpol::cluster::gateway::{
    GatewayClassObject, GatewayObject, GrpcRouteObject, HttpRouteObject, ReferenceGrantObject,
    TcpRouteObject, TlsRouteObject, UdpRouteObject,
};
use ringfence_runtime::view::View;

/// Those that no controller made from a Service's selector: the API server's own, and what people write.
const ENDPOINTS: &str = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";

/// How many seconds one watch lasts. Two replicas watch: that costs the API server less than one request in a second.
const RENEWAL: u32 = 45;

/// A pod that has finished tells nothing of where anything runs.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Starts to watch everything that it must see.
pub fn watch(view: &View, client: &Client) {
    let view = view.renewing(RENEWAL);
    view.watch::<Namespace>(client.clone());
    view.watch::<NamespaceBaseline>(client.clone());
    view.watch::<PolicyObject>(client.clone());
    view.watch_fields::<PodObject>(client.clone(), RUNNING);
    view.watch::<Service>(client.clone());
    view.watch::<Ingress>(client.clone());
    view.watch::<IngressClass>(client.clone());
    view.watch::<Node>(client.clone());
    view.watch_labelled::<EndpointSlice>(client.clone(), ENDPOINTS);
    view.watch_if_served::<ServiceCIDR>(client.clone());
    view.watch_if_served::<GatewayClassObject>(client.clone());
    view.watch_if_served::<GatewayObject>(client.clone());
    view.watch_if_served::<HttpRouteObject>(client.clone());
    view.watch_if_served::<GrpcRouteObject>(client.clone());
    view.watch_if_served::<TlsRouteObject>(client.clone());
    view.watch_if_served::<TcpRouteObject>(client.clone());
    view.watch_if_served::<UdpRouteObject>(client.clone());
    view.watch_if_served::<ReferenceGrantObject>(client.clone());
}
