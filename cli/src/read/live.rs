//! Reading a live cluster, through the kubeconfig: the same objects as from files, listed page by page.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy, ServiceCIDR};
use kube::api::{DynamicObject, ListParams};
use kube::config::KubeConfigOptions;
use kube::discovery::{self, ApiGroup};
use kube::error::DiscoveryError;
use kube::{Api, Client, Config, Resource, ResourceExt};
use ringfence_netpol::api::{LabelStandard, NamespaceBaseline};
use ringfence_netpol::cluster::{Observed, Owner, Route, gateway};
use serde::de::DeserializeOwned;

use super::take::{Taker, is_of_selector};
use super::tree;
use super::{Options, PolicySource, Reading, finish, text_sources};

/// How many objects are asked for at once.
const PAGE: u32 = 500;

/// How long a server may take to be there: somebody is waiting.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a cluster cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kubeconfig cannot be used: {0}")]
    Config(String),
    #[error("the cluster at {server} cannot be reached: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("{kind} cannot be listed: {error}")]
    List { kind: String, error: kube::Error },
    #[error("what the cluster has of {group} cannot be found out: {error}")]
    Discovery { group: &'static str, error: kube::Error },
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Reads the cluster of a context of the kubeconfig, and sources beside it.
///
/// # Errors
/// If the cluster cannot be reached, or does not let its pods, namespaces, policies or Services be listed.
pub fn read(context: Option<&str>, sources: &[String], options: &Options) -> Result<Reading, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let choice = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = match context {
            Some(_) => Config::from_kubeconfig(&choice)
                .await
                .map_err(|e| Error::Config(e.to_string())),
            None => Config::infer().await.map_err(|e| Error::Config(e.to_string())),
        }?;
        let mut config = config;
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|e| Error::Config(e.to_string()))?;
        let read = read_from(client, sources, options).await;
        read.map_err(|error| match error {
            Error::List { error, .. } if !matches!(error, kube::Error::Api(_)) => Error::Unreachable {
                server,
                reason: innermost(&error),
            },
            error => error,
        })
    })
}

async fn read_from(client: Client, sources: &[String], options: &Options) -> Result<Reading, Error> {
    let mut taker = Taker::new(options);
    taker.begin("the cluster");
    each::<Namespace>(&client, |object| taker.live(&object)).await?;
    each::<Pod>(&client, |object| taker.live(&object)).await?;
    each::<Service>(&client, |object| taker.live(&object)).await?;
    each::<NetworkPolicy>(&client, |object| taker.live_policy(object)).await?;
    // Nothing depends on these being there, or on being allowed to see them.
    let mut unseen = Vec::new();
    let mut note =
        |result: Result<(), Error>| unseen.extend(result.err().filter(is_refused).map(|e| e.to_string()));
    note(each::<Ingress>(&client, |object| taker.live(&object)).await);
    note(each::<Route>(&client, |object| taker.live(&object)).await);
    note(gateways(&client, &mut taker).await);
    let mut hidden = Vec::new();
    let mut hide =
        |result: Result<(), Error>| hidden.extend(result.err().filter(is_refused).map(|e| e.to_string()));
    hide(each::<IngressClass>(&client, |object| taker.live(&object)).await);
    hide(each::<Node>(&client, |object| taker.live(&object)).await);
    hide(each::<EndpointSlice>(&client, |object| taker.live_slice(&object)).await);
    hide(each::<ServiceCIDR>(&client, |object| taker.live(&object)).await);
    hide(each::<NamespaceBaseline>(&client, |object| taker.live(&object)).await);
    let _ = each::<LabelStandard>(&client, |object| taker.live(&object)).await;
    let _ = owners::<ReplicaSet>(&client, &mut taker).await;
    let _ = owners::<Job>(&client, &mut taker).await;
    let mut problems = Vec::new();
    text_sources(&mut taker, sources, options, &mut problems);
    Ok(Reading {
        unseen,
        hidden,
        ..finish(taker, problems)
    })
}

/// What is behind an error: those around it say only that there was one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether something is there and was not shown; kinds that the cluster does not have are no loss.
fn is_refused(error: &Error) -> bool {
    let (Error::List { error, .. } | Error::Discovery { error, .. }) = error else {
        return true;
    };
    !matches!(error, kube::Error::Api(status) if status.code == 404)
        && !matches!(error, kube::Error::Discovery(DiscoveryError::MissingApiGroup(_)))
}

/// The kinds of Gateway API that the cluster has, in the versions that it serves.
async fn gateways(client: &Client, taker: &mut Taker<'_>) -> Result<(), Error> {
    let group = discovery::oneshot::group(client, gateway::GROUP).await;
    let group = group.map_err(|error| Error::Discovery {
        group: gateway::GROUP,
        error,
    })?;
    served::<gateway::GatewayClassObject>(client, &group, taker).await?;
    served::<gateway::GatewayObject>(client, &group, taker).await?;
    served::<gateway::ReferenceGrantObject>(client, &group, taker).await?;
    served::<gateway::HttpRouteObject>(client, &group, taker).await?;
    served::<gateway::GrpcRouteObject>(client, &group, taker).await?;
    served::<gateway::TlsRouteObject>(client, &group, taker).await?;
    served::<gateway::TcpRouteObject>(client, &group, taker).await?;
    served::<gateway::UdpRouteObject>(client, &group, taker).await
}

/// Takes every object of a kind, in the most stable version of it, if there is one.
async fn served<K>(client: &Client, group: &ApiGroup, taker: &mut Taker<'_>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Observed + DeserializeOwned,
{
    let served = group.resources_by_stability();
    let Some((resource, _)) = served.iter().find(|(resource, _)| resource.kind == K::kind(&())) else {
        return Ok(());
    };
    let api = Api::<DynamicObject>::all_with(client.clone(), resource);
    each_of(api, &resource.plural, |object| {
        let read = serde_json::to_value(&object).and_then(serde_json::from_value::<K>);
        match read {
            Ok(object) => taker.live(&object),
            Err(error) => taker.fault(0, format!("{} {}: {error}", resource.kind, object.name_any())),
        }
    })
    .await
}

/// Hands out every object of a kind, of all namespaces.
async fn each<K>(client: &Client, take: impl FnMut(K)) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    each_of(Api::<K>::all(client.clone()), &K::plural(&()), take).await
}

async fn each_of<K>(api: Api<K>, plural: &str, mut take: impl FnMut(K)) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await.map_err(|error| Error::List {
            kind: plural.to_owned(),
            error,
        })?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Ok(()),
            Some(token) => parameters = parameters.continue_token(&token),
        }
    }
}

/// Which workloads own the workloads of a kind: only their metadata is asked for.
async fn owners<K>(client: &Client, taker: &mut Taker<'_>) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&parameters).await?;
        for object in page.items {
            let owner = Owner {
                name: object.name_any(),
                kind: K::kind(&()).into_owned(),
            };
            if let Some(parent) = Owner::of(&object.metadata) {
                let namespace = object.namespace().unwrap_or_default();
                taker.assembly.apply_owner(&namespace, owner, parent);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Ok(()),
            Some(token) => parameters = parameters.continue_token(&token),
        }
    }
}

impl Taker<'_> {
    /// What is stored was accepted, and there is nothing to doubt about its name.
    fn live<K: Observed>(&mut self, object: &K) {
        self.assembly.apply(object);
        self.taken += 1;
    }

    /// Those that Kubernetes makes of a Service's selector say nothing that its pods do not.
    fn live_slice(&mut self, object: &EndpointSlice) {
        if !is_of_selector(object) {
            self.live(object);
        }
    }

    fn live_policy(&mut self, object: NetworkPolicy) {
        self.live(&object);
        let node = tree::Node::from_json(serde_json::to_value(&object).unwrap_or_default());
        self.policies.push(PolicySource {
            object,
            file: "the cluster".to_owned(),
            node,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server with two pages of pods and a policy, and gateways, where nobody may see Jobs and Ingresses.
    async fn serve(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let path = request.uri().path();
        let second = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("continue=more"));
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]);
        let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "shop", "ownerReferences": owner("ReplicaSet", "web-1")}});
        let (items, token): (Vec<Value>, &str) = match path {
            "/api/v1/pods" if !second => (vec![pod("web-1-a")], "more"),
            "/api/v1/pods" => (vec![pod("web-1-b")], ""),
            "/apis/apps/v1/replicasets" => (
                vec![
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                     "metadata": {"name": "web-1", "namespace": "shop", "ownerReferences": owner("Deployment", "web")}}),
                ],
                "",
            ),
            "/apis/networking.k8s.io/v1/networkpolicies" => (
                vec![json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}})],
                "",
            ),
            "/apis/batch/v1/jobs" | "/apis/networking.k8s.io/v1/ingresses" | "/api/v1/nodes" => {
                return Ok(failure(403, "Forbidden"));
            }
            "/apis/route.openshift.io/v1/routes" => return Ok(failure(404, "NotFound")),
            "/apis" => return Ok(answer(&group_list())),
            "/apis/gateway.networking.k8s.io/v1" => {
                return Ok(answer(&resources("v1", "httproutes", "HTTPRoute")));
            }
            "/apis/gateway.networking.k8s.io/v1alpha2" => {
                return Ok(answer(&resources("v1alpha2", "tcproutes", "TCPRoute")));
            }
            "/apis/gateway.networking.k8s.io/v1/httproutes" => (vec![route("HTTPRoute", "v1", "web")], ""),
            "/apis/gateway.networking.k8s.io/v1alpha2/tcproutes" => {
                (vec![route("TCPRoute", "v1alpha2", "raw")], "")
            }
            _ => (vec![], ""),
        };
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": token}, "items": items});
        Ok(answer(&list))
    }

    fn answer(value: &Value) -> http::Response<Body> {
        http::Response::new(Body::from(value.to_string().into_bytes()))
    }

    fn failure(code: u16, reason: &str) -> http::Response<Body> {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code});
        let mut response = answer(&status);
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        response
    }

    /// Gateway API, of which HTTPRoute is served as v1 and TCPRoute as v1alpha2 only.
    fn group_list() -> Value {
        let version = |version: &str| json!({"groupVersion": format!("gateway.networking.k8s.io/{version}"), "version": version});
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "gateway.networking.k8s.io", "versions": [version("v1"), version("v1alpha2")], "preferredVersion": version("v1")},
        ]})
    }

    fn resources(version: &str, plural: &str, kind: &str) -> Value {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("gateway.networking.k8s.io/{version}"), "resources": [
            {"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "watch"]},
        ]})
    }

    fn route(kind: &str, version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("gateway.networking.k8s.io/{version}"), "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "main"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}})
    }

    #[test]
    fn a_live_cluster_is_read_like_files_with_pods_under_their_deployments() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let reading = runtime.block_on(async {
            let client = Client::new(tower::service_fn(serve), "default");
            read_from(client, &[], &Options::default()).await.unwrap()
        });
        let owners: Vec<String> = reading
            .cluster
            .pods
            .iter()
            .map(|(key, pod)| format!("{key} of {}", pod.owner.as_ref().unwrap()))
            .collect();
        assert_eq!(
            owners,
            [
                "shop/web-1-a of web[Deployment]",
                "shop/web-1-b of web[Deployment]"
            ]
        );
        assert_eq!((reading.policies.len(), reading.cluster.policies.len()), (1, 1));
        assert_eq!(reading.policies[0].node.line_of("spec.podSelector"), 0);
        let routes: Vec<String> = reading
            .cluster
            .gateway_routes
            .iter()
            .map(|(key, _)| key.to_string())
            .collect();
        assert_eq!(routes, ["shop/raw[TCPRoute]", "shop/web[HTTPRoute]"]);
        // What the cluster does not have is no loss; what it does not show is one.
        assert_eq!(reading.unseen.len(), 1, "{:?}", reading.unseen);
        assert!(
            reading.unseen[0].starts_with("ingresses cannot be listed"),
            "{:?}",
            reading.unseen
        );
        assert!(
            reading.hidden.len() == 1 && reading.hidden[0].starts_with("nodes cannot be listed"),
            "{:?}",
            reading.hidden
        );
    }
}
