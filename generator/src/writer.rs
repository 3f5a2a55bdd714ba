//! Writes to the API server: the only place here that does.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use ringfence_netpol::api::NamespaceBaseline;
use ringfence_netpol::baseline::object::{Digest, FIELD_MANAGER, body};
use ringfence_netpol::baseline::plan::{Action, Basis, Why};
use serde_json::json;
use tokio::time::Instant;

use crate::error::Error;
use crate::notice::Notice;
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
    looked: Arc<Mutex<BTreeMap<String, Looked>>>,
}

/// The generation that a baseline was seen to have, and when; one that is gone has none.
type Looked = (Instant, Option<i64>);

/// How long what was looked up of a baseline counts, so that ten thousand namespaces which lose one at once ask a few times.
const FRESH: Duration = Duration::from_secs(1);

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
            looked: Arc::default(),
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

    /// Makes sure that a baseline is as a step supposes.
    async fn confirm(&self, basis: &Basis) -> Result<(), Error> {
        let Basis { baseline, generation } = basis;
        let known = self.looked.lock().get(baseline).copied();
        let live = match known.filter(|(at, _)| at.elapsed() < FRESH) {
            Some((_, live)) => live,
            None => {
                let at = Instant::now();
                let api: Api<NamespaceBaseline> = Api::all(self.client.clone());
                let object = format!("NamespaceBaseline {baseline}");
                let found = self.within(&object, api.get_metadata_opt(baseline)).await?;
                let live = found.map(|found| found.metadata.generation.unwrap_or_default());
                self.looked.lock().insert(baseline.clone(), (at, live));
                live
            }
        };
        match live == *generation {
            true => Ok(()),
            false => Err(Error::Behind {
                baseline: baseline.clone(),
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
        let (Action::Apply { basis, .. } | Action::Delete { basis, .. }) = action;
        if let Some(basis) = basis {
            self.confirm(basis).await?;
        }
        match action {
            Action::Apply {
                policy, digest, why, ..
            } => self.apply(namespace, policy, *digest, *why).await,
            Action::Delete { name, uid, .. } => self.delete(namespace, name, uid).await,
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

    use kube::client::Body;

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
            basis: None,
        };
        writer.execute("shop", &action).await.unwrap();
        assert_eq!(*sent.lock(), serde_json::to_vec(&body(&policy).unwrap()).unwrap());
    }

    /// An API server with one baseline of some generation, or none; it notes what it is asked.
    fn server(generation: Option<i64>) -> (ApiServer, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let text = format!("{} {}", request.method(), request.uri().path());
            let (code, body) = match (text.starts_with("GET"), generation) {
                (true, Some(generation)) => {
                    (200, json!({"metadata": {"name": "b", "generation": generation}}))
                }
                (true, None) => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}),
                ),
                (false, _) => (200, json!({"kind": "Status", "status": "Success"})),
            };
            seen.lock().push(text);
            let response = http::Response::builder().status(code);
            std::future::ready(response.body(Body::from(body.to_string().into_bytes())))
        });
        (
            ApiServer::new(Client::new(service, "default"), Duration::from_secs(5)),
            asked,
        )
    }

    #[tokio::test]
    async fn what_an_unknown_or_newer_baseline_made_is_not_touched_before_it_is_looked_at() {
        for (live, expected, fits) in [
            (None, None, true),
            (Some(1), None, false),
            (Some(7), Some(1), false),
            (Some(1), Some(1), true),
            (None, Some(1), false),
        ] {
            let (writer, asked) = server(live);
            let delete = Action::Delete {
                name: "deny".to_owned(),
                uid: "1".to_owned(),
                baseline: "b".to_owned(),
                basis: Some(Basis {
                    baseline: "b".to_owned(),
                    generation: expected,
                }),
            };
            for _ in 0..2 {
                let kind = writer
                    .execute("shop", &delete)
                    .await
                    .map_err(|error| error.kind());
                assert_eq!(
                    kind,
                    if fits { Ok(()) } else { Err("behind") },
                    "{live:?} {expected:?}"
                );
            }
            let asked = asked.lock();
            let count = |verb: &str| asked.iter().filter(|text| text.starts_with(verb)).count();
            assert_eq!(
                (count("GET"), count("DELETE")),
                (1, if fits { 2 } else { 0 }),
                "{asked:?}"
            );
        }
    }
}
