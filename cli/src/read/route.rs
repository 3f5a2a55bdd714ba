//! OpenShift's Route: what Ingress is elsewhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use ringfence_netpol::cluster::{Cluster, Ingress, IngressBackend, Key, Observed, Store, TargetPort};
use serde::{Deserialize, Serialize};

/// As much of a Route as says where it leads.
#[derive(Debug, Clone, Serialize, Deserialize, CustomResource)]
#[kube(
    group = "route.openshift.io",
    version = "v1",
    kind = "Route",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    to: RouteTarget,
    #[serde(default)]
    alternate_backends: Vec<RouteTarget>,
    port: Option<RoutePort>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RouteTarget {
    name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoutePort {
    target_port: IntOrString,
}

impl Observed for Route {
    type Entry = Ingress;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn observe(&self) -> Ingress {
        let port = match self.spec.port.as_ref().map(|port| &port.target_port) {
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok().map(TargetPort::Number),
            Some(IntOrString::String(name)) => Some(TargetPort::Name(name.clone())),
            None => None, // the router chooses; which, is not said here
        };
        let targets = std::iter::once(&self.spec.to).chain(&self.spec.alternate_backends);
        let backend = |target: &RouteTarget| {
            Some(IngressBackend {
                service: target.name.clone(),
                port: port.clone()?,
            })
        };
        Ingress {
            class: None,
            backends: targets.filter_map(backend).collect(),
        }
    }

    fn store(cluster: &mut Cluster) -> &mut Store<Ingress> {
        &mut cluster.ingresses
    }

    /// No Ingress can have such a name, so that neither hides the other.
    fn key(&self) -> Key {
        let meta = self.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        Key::new(
            meta.namespace.as_deref().unwrap_or_default(),
            format!("{name}[Route]"),
        )
    }
}
