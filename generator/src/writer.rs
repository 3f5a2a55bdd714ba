//! Writes to the API server: the only place here that does.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::{Digest, FIELD_MANAGER, body};
use ringfence_netpol::baseline::plan::{Action, Why};
use serde_json::json;

use crate::controller::Notice;
use crate::error::Error;
use crate::statuses::{Due, Event};

/// What can be written.
pub trait Writer: Clone + Send + Sync + 'static {
    /// Carries out one step in a namespace.
    fn execute(&self, namespace: &str, action: &Action) -> impl Future<Output = Result<(), Error>> + Send;

    /// Writes the status of a baseline, and what is to be said of it as an Event.
    fn status(&self, due: &Due) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says something as an Event in a namespace. A courtesy: if it is lost, the status of the baseline still says the same.
    fn notify(&self, notice: &Notice) -> impl Future<Output = ()> + Send;
}

/// A real API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    recorder: Recorder,
    patience: Duration,
}

impl ApiServer {
    pub fn new(client: Client, patience: Duration) -> Self {
        let reporter = Reporter {
            controller: "ringfence.dev/generator".to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            patience,
        }
    }

    async fn within<T>(
        &self,
        object: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.patience, request).await {
            Ok(result) => result.map_err(|error| Error::of_request(object, error)),
            Err(_) => Err(Error::Late {
                object: object.to_owned(),
                seconds: self.patience.as_secs(),
            }),
        }
    }

    async fn apply(
        &self,
        namespace: &str,
        policy: &NetworkPolicy,
        digest: Digest,
        why: Why,
    ) -> Result<(), Error> {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        // Forced only over an object of ours, or one that the baseline takes over: if somebody made one of that name since, this is refused, and reported by the next plan.
        let parameters = PatchParams {
            force: why != Why::Missing,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        let object = format!("NetworkPolicy {name}");
        let body =
            body(policy).map_err(|error| Error::of_request(&object, kube::Error::SerdeError(error)))?;
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        let stored = self
            .within(&object, api.patch(name, &parameters, &Patch::Apply(body)))
            .await?;
        if Digest::of_policy(&stored) == digest {
            Ok(())
        } else {
            Err(Error::NotHeld { object })
        }
    }

    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        let object = format!("NetworkPolicy {name}");
        match self.within(&object, api.delete(name, &parameters)).await {
            Ok(_) | Err(Error::Refused { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Writer for ApiServer {
    async fn execute(&self, namespace: &str, action: &Action) -> Result<(), Error> {
        match action {
            Action::Apply { policy, digest, why } => self.apply(namespace, policy, *digest, *why).await,
            Action::Delete { name, uid } => self.delete(namespace, name, uid).await,
        }
    }

    async fn status(&self, due: &Due) -> Result<(), Error> {
        let baseline = due.baseline.as_str();
        let patch = Patch::Apply(json!({
            "apiVersion": NamespaceBaseline::api_version(&()),
            "kind": NamespaceBaseline::kind(&()),
            "metadata": {"name": baseline},
            "status": due.status,
        }));
        let api: Api<NamespaceBaseline> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let request = api.patch_status(baseline, &parameters, &patch);
        let object = format!("NamespaceBaseline {baseline}");
        match self.within(&object, request).await {
            Ok(_) => {}
            Err(Error::Refused { code: 404, .. }) => return Ok(()), // it was deleted meanwhile
            Err(error) => return Err(error),
        }
        if let Some(event) = &due.event {
            self.tell(due, event).await;
        }
        Ok(())
    }

    async fn notify(&self, notice: &Notice) {
        // In the namespace itself, where its people look; Events of what has no namespace would all stand in `default`.
        let namespace = ObjectReference {
            api_version: Some(Namespace::api_version(&()).into_owned()),
            kind: Some(Namespace::kind(&()).into_owned()),
            name: Some(notice.namespace.clone()),
            namespace: Some(notice.namespace.clone()),
            ..ObjectReference::default()
        };
        let policy = ObjectReference {
            api_version: Some(NetworkPolicy::api_version(&()).into_owned()),
            kind: Some(NetworkPolicy::kind(&()).into_owned()),
            name: Some(notice.policy.clone()),
            namespace: Some(notice.namespace.clone()),
            ..ObjectReference::default()
        };
        let event = events::Event {
            type_: EventType::Warning,
            reason: notice.reason.to_owned(),
            note: Some(notice.note.chars().take(NOTE).collect()),
            action: "Reconcile".to_owned(),
            secondary: Some(policy),
        };
        let request = self.recorder.publish(&event, &namespace);
        if let Err(error) = self.within(&notice.namespace, request).await {
            tracing::debug!(namespace = notice.namespace, %error, "an Event could not be written");
        }
    }
}

impl ApiServer {
    /// An Event is a courtesy: if it is lost, the status still says the same.
    async fn tell(&self, due: &Due, event: &Event) {
        let reference = ObjectReference {
            api_version: Some(NamespaceBaseline::api_version(&()).into_owned()),
            kind: Some(NamespaceBaseline::kind(&()).into_owned()),
            name: Some(due.baseline.clone()),
            uid: due.uid.clone(),
            ..ObjectReference::default()
        };
        let event = events::Event {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason.clone(),
            note: Some(event.note.chars().take(NOTE).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let request = self.recorder.publish(&event, &reference);
        if let Err(error) = self.within(&due.baseline, request).await {
            tracing::debug!(baseline = due.baseline, %error, "an Event could not be written");
        }
    }
}

/// The API server takes notes of less than 1 KiB; characters may have several bytes.
const NOTE: usize = 250;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_is_applied_is_the_very_body_that_the_command_line_shows() {
        let policy: NetworkPolicy = serde_yaml_ng::from_str(
            "{metadata: {name: deny, namespace: shop, labels: {b: '1', a: '2'}, annotations: {x: y}}, spec: {podSelector: {}, policyTypes: [Ingress], ingress: []}}",
        )
        .unwrap();
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        let seen = Arc::clone(&sent);
        let stored = serde_json::to_vec(&policy).unwrap();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (seen, stored) = (Arc::clone(&seen), stored.clone());
            async move {
                let bytes = request.into_body().collect_bytes().await.unwrap();
                *seen.lock() = bytes.to_vec();
                Ok::<_, Infallible>(http::Response::new(Body::from(stored)))
            }
        });
        let writer = ApiServer::new(Client::new(service, "default"), Duration::from_secs(5));
        let action = Action::Apply {
            digest: Digest::of_policy(&policy),
            policy: Box::new(policy.clone()),
            why: Why::Missing,
        };
        writer.execute("shop", &action).await.unwrap();
        assert_eq!(*sent.lock(), serde_json::to_vec(&body(&policy).unwrap()).unwrap());
    }
}
