//! OpenShift's Route: what Ingress is elsewhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::{BackendPort, Cluster, Ingress, IngressBackend, Key, Observed, Store};

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
    alternate_backends: Option<Vec<RouteTarget>>,
    port: Option<RoutePort>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RouteTarget {
    name: String,
    weight: Option<i64>,
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
        // The router filters the endpoints of the Service, by the name of their port or its number; without a filter it takes all.
        let port = match self.spec.port.as_ref().map(|port| &port.target_port) {
            Some(IntOrString::Int(number)) => BackendPort::Endpoint(number.to_string()),
            Some(IntOrString::String(name)) if !name.is_empty() => BackendPort::Endpoint(name.clone()),
            Some(IntOrString::String(_)) | None => BackendPort::Every,
        };
        let alternate = self.spec.alternate_backends.iter().flatten();
        let targets = std::iter::once(&self.spec.to).chain(alternate);
        let weighed = targets.filter(|target| target.weight != Some(0));
        Ingress {
            class: None,
            backends: weighed
                .map(|target| IngressBackend {
                    service: target.name.clone(),
                    port: port.clone(),
                })
                .collect(),
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
