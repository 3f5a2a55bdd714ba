//! Writes to the API server: the only place here that does.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use ringfence_netpol::api::{NamespaceBaseline, NamespaceBaselineStatus};
use ringfence_netpol::baseline::object::{Digest, FIELD_MANAGER};
use ringfence_netpol::baseline::plan::{Action, Why};
use serde_json::json;

use crate::error::Error;

/// What can be written.
pub trait Writer: Clone + Send + Sync + 'static {
    /// Carries out one step in a namespace.
    fn execute(&self, namespace: &str, action: &Action) -> impl Future<Output = Result<(), Error>> + Send;

    /// Writes the status of a baseline.
    fn status(
        &self,
        baseline: &str,
        status: &NamespaceBaselineStatus,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A real API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    patience: Duration,
}

impl ApiServer {
    pub fn new(client: Client, patience: Duration) -> Self {
        Self { client, patience }
    }

    async fn within<T>(
        &self,
        object: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.patience, request).await {
            Ok(result) => result.map_err(|error| Error::of_request(object, error)),
            Err(_) => Err(Error::Late {
                policy: object.to_owned(),
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
        // Forced only over an object of ours: if somebody made one of that name since, this is refused, and reported by the next plan.
        let parameters = PatchParams {
            force: why == Why::Differs,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        let stored = self
            .within(name, api.patch(name, &parameters, &Patch::Apply(policy)))
            .await?;
        if Digest::of_policy(&stored) == digest {
            Ok(())
        } else {
            Err(Error::NotHeld {
                policy: name.to_owned(),
            })
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
        match self.within(name, api.delete(name, &parameters)).await {
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

    async fn status(&self, baseline: &str, status: &NamespaceBaselineStatus) -> Result<(), Error> {
        let patch = json!({
            "apiVersion": "ringfence.dev/v1alpha1",
            "kind": "NamespaceBaseline",
            "metadata": {"name": baseline},
            "status": status,
        });
        let api: Api<NamespaceBaseline> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match self
            .within(
                baseline,
                api.patch_status(baseline, &parameters, &Patch::Apply(patch)),
            )
            .await
        {
            // It was deleted meanwhile.
            Ok(_) | Err(Error::Refused { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
