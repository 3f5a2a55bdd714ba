//! The loop that keeps Secrets, the served pair and the API server's trust right. Every replica runs it: whoever
//! comes first writes, the others read, and since each reads before it judges, none undoes another's work.

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::authority::{self, Authority, Leaf};
use crate::plan::{self, Lifetimes};
use crate::serve::{self, Served};
use crate::store::{MANAGER, Store, Stored};

/// How soon it is looked at again after something failed.
const AFTER_FAILURE: std::time::Duration = std::time::Duration::from_secs(2);
/// How often somebody else may be first before that is an error.
const ATTEMPTS: usize = 5;

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub namespace: String,
    pub authority_secret: String,
    pub leaf_secret: String,
    /// The names that clients know the server by.
    pub names: Vec<String>,
    /// The configurations, of either kind, whose webhooks are ours.
    pub configuration: String,
    pub lifetimes: Lifetimes,
}

/// What holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// A pair is served.
    pub serving: bool,
    /// The API server trusts it: every webhook of the configuration carries the bundle.
    pub trusted: bool,
    pub leaf_not_after: OffsetDateTime,
    pub authority_not_after: OffsetDateTime,
}

/// Certificates cannot be kept; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Api {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("{what}: somebody else was first {ATTEMPTS} times in a row")]
    Contended { what: &'static str },
    #[error(transparent)]
    Certificate(#[from] authority::Error),
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

impl Error {
    /// The class of this error, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Contended { .. } => "contended",
            Self::Certificate(_) => "certificate",
            Self::Serve(_) => "serve",
        }
    }
}

/// Keeps certificates.
pub struct Keeper {
    client: Client,
    settings: Settings,
    authority: Store,
    leaf: Store,
    served: Served,
    /// What held last: it is put back if a Secret is deleted or spoilt, so that nobody's trust is lost by that.
    known: Option<Authority>,
    current: Option<Leaf>,
    status: watch::Sender<Option<Status>>,
}

impl Keeper {
    pub fn new(client: Client, settings: Settings, served: Served) -> Self {
        let store = |name: &str, kind| Store::new(client.clone(), &settings.namespace, name, kind);
        Self {
            authority: store(&settings.authority_secret, "Opaque"),
            leaf: store(&settings.leaf_secret, "kubernetes.io/tls"),
            client,
            settings,
            served,
            known: None,
            current: None,
            status: watch::channel(None).0,
        }
    }

    /// `None` until everything held once.
    pub fn status(&self) -> watch::Receiver<Option<Status>> {
        self.status.subscribe()
    }

    /// Keeps certificates for ever. Whatever happens to the webhook configuration is seen at once, everything else
    /// within a minute. A failure leaves what is served as it is.
    pub async fn run(mut self) {
        let mut changes = std::pin::pin!(self.changes());
        loop {
            let wait = match self.reconcile(OffsetDateTime::now_utc()).await {
                Ok(()) => self.settings.lifetimes.look(),
                Err(error) => {
                    tracing::warn!(kind = error.kind(), %error, "certificates; trying again");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Some(()) = changes.next() => {}
            }
        }
    }

    /// Whatever happens to the configurations of our name.
    fn changes(&self) -> impl futures::Stream<Item = ()> + use<> {
        let by_name = format!("metadata.name={}", self.settings.configuration);
        let validating = events::<ValidatingWebhookConfiguration>(self.client.clone(), &by_name);
        let mutating = events::<MutatingWebhookConfiguration>(self.client.clone(), &by_name);
        futures::stream::select(validating, mutating)
    }

    /// Makes everything right once.
    ///
    /// # Errors
    /// The first thing that could not be made right; what was served is served still.
    pub async fn reconcile(&mut self, now: OffsetDateTime) -> Result<(), Error> {
        let authority = self.keep_authority(now).await?;
        self.known = Some(authority.clone());
        // Trust comes first: what a new CA signs is of no use to whoever has not heard of it.
        let trust = self.spread(&authority.pem()).await;
        let leaf = self.keep_leaf(&authority, trust.as_ref().ok(), now).await?;
        if self.current.as_ref() != Some(&leaf) {
            self.served.set(&leaf)?;
            tracing::info!(until = %leaf.certificate.not_after, "a serving certificate is in use");
            self.current = Some(leaf.clone());
        }
        let trusted = trust? != Trust::Nowhere;
        self.status.send_replace(Some(Status {
            serving: true,
            trusted,
            leaf_not_after: leaf.certificate.not_after,
            authority_not_after: authority.newest().map_or(now, |newest| newest.not_after),
        }));
        Ok(())
    }

    async fn keep_authority(&self, now: OffsetDateTime) -> Result<Authority, Error> {
        const WHAT: &str = "the CA's Secret";
        for _ in 0..ATTEMPTS {
            let secret = self.authority.read().await.map_err(|e| api(WHAT, e))?;
            let stored = readable(&secret, WHAT, || {
                Authority::read(secret.get("ca.crt"), secret.get("ca.key"))
            });
            let lost = stored.is_none();
            let stored = stored.or_else(|| self.known.clone());
            let reason = plan::authority(stored.as_ref(), &self.settings.lifetimes, now);
            let wanted = match (stored, reason) {
                (Some(stored), None) if !lost => return Ok(stored),
                (Some(stored), None) => stored,
                (stored, _) => {
                    let older = stored.map(|stored| stored.bundle).unwrap_or_default();
                    Authority::issue(&older, now, self.settings.lifetimes.authority)?
                }
            };
            let bundle = wanted.pem();
            let data = [("ca.crt", bundle.as_str()), ("ca.key", wanted.key.as_str())];
            if written(self.authority.write(&secret, data).await, WHAT)? {
                said("the CA", reason);
                return Ok(wanted);
            }
        }
        Err(Error::Contended { what: WHAT })
    }

    /// While it is not known that the bundle is everywhere, what is merely due stays as it is.
    async fn keep_leaf(
        &self,
        authority: &Authority,
        trust: Option<&Trust>,
        now: OffsetDateTime,
    ) -> Result<Leaf, Error> {
        const WHAT: &str = "the serving certificate's Secret";
        let Settings { names, lifetimes, .. } = &self.settings;
        for _ in 0..ATTEMPTS {
            let secret = self.leaf.read().await.map_err(|e| api(WHAT, e))?;
            let stored = readable(&secret, WHAT, || {
                Leaf::read(secret.get("tls.crt"), secret.get("tls.key"))
            });
            let lost = stored.is_none();
            let stored = stored.or_else(|| self.current.clone());
            let reason = plan::leaf(stored.as_ref(), authority, names, lifetimes, now);
            let spread = matches!(trust, Some(Trust::There | Trust::Nowhere)) || authority.bundle.len() < 2;
            let reason = reason.filter(|reason| spread || !reason.can_wait());
            let wanted = match (stored, reason) {
                (Some(stored), None) if !lost => return Ok(stored),
                (Some(stored), None) => stored,
                (_, _) => Leaf::issue(authority, names, now, lifetimes.leaf)?,
            };
            let bundle = authority.pem();
            let data = [
                ("tls.crt", wanted.certificate.pem.as_str()),
                ("tls.key", wanted.key.as_str()),
                ("ca.crt", bundle.as_str()),
            ];
            if written(self.leaf.write(&secret, data).await, WHAT)? {
                said("the serving certificate", reason);
                return Ok(wanted);
            }
        }
        Err(Error::Contended { what: WHAT })
    }

    /// Puts the bundle into every webhook of our configurations.
    async fn spread(&self, bundle: &str) -> Result<Trust, Error> {
        let validating = self.trust::<ValidatingWebhookConfiguration>(bundle).await?;
        let mutating = self.trust::<MutatingWebhookConfiguration>(bundle).await?;
        Ok(validating.max(mutating))
    }

    async fn trust<K>(&self, bundle: &str) -> Result<Trust, Error>
    where
        K: Resource<DynamicType = ()>,
    {
        const WHAT: &str = "the webhook configuration";
        let name = &self.settings.configuration;
        let resource = kube::api::ApiResource::erase::<K>(&());
        let configurations: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let Some(configuration) = configurations.get_opt(name).await.map_err(|e| api(WHAT, e))? else {
            return Ok(Trust::Nowhere);
        };
        let encoded = serde_json::to_value(k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
        let encoded = encoded.unwrap_or_default();
        let Some(webhooks) = untrusting(&configuration.data, &encoded) else {
            self.let_go(&configurations, &configuration).await;
            return Ok(Trust::There);
        };
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = configurations
            .patch(name, &params, &Patch::Apply(&patch))
            .await
            .map_err(|e| api(WHAT, e))?;
        tracing::info!(configuration = %name, kind = %K::kind(&()), "put the CA's bundle into every webhook");
        self.let_go(&configurations, &written).await;
        Ok(Trust::Fresh)
    }

    /// Takes our name from what we wrote. A webhook that the next version leaves out or renames would otherwise be kept for our sake, as a
    /// name and a bundle, which the API server refuses, and with it the upgrade. Where somebody else is first it is for the next look.
    async fn let_go(&self, configurations: &Api<DynamicObject>, configuration: &DynamicObject) {
        let Some(others) = without_us(configuration) else {
            return;
        };
        let name = &self.settings.configuration;
        let version = &configuration.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version, "managedFields": others}});
        let params = PatchParams::default();
        if let Err(error) = configurations.patch(name, &params, &Patch::Merge(&patch)).await {
            tracing::debug!(%error, "the webhook configuration still names us as an owner");
        }
    }
}

/// How far the bundle has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// There is no configuration that could carry it.
    Nowhere,
    /// All webhooks have it, and had it before.
    There,
    /// Some were given it just now.
    Fresh,
}

/// Who else owns what of the configuration, if we are among the owners. (The last one stays: without any, the API server would begin anew.)
fn without_us(configuration: &DynamicObject) -> Option<Vec<ManagedFieldsEntry>> {
    let all = configuration.metadata.managed_fields.as_ref()?;
    let ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(MANAGER);
    let others: Vec<ManagedFieldsEntry> = all.iter().filter(|entry| !ours(entry)).cloned().collect();
    (!others.is_empty() && others.len() < all.len()).then_some(others)
}

/// What to apply so that every webhook has the bundle; `None` if all have it.
fn untrusting(configuration: &Value, bundle: &Value) -> Option<Vec<Value>> {
    let webhooks = configuration.get("webhooks")?.as_array()?;
    let has = |webhook: &Value| webhook.pointer("/clientConfig/caBundle") == Some(bundle);
    if webhooks.iter().all(has) {
        return None;
    }
    let ours = |webhook: &Value| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}});
    Some(webhooks.iter().map(ours).collect())
}

fn events<K>(client: Client, by_name: &str) -> impl futures::Stream<Item = ()> + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(by_name);
    watcher(Api::<K>::all(client), config)
        .default_backoff()
        .filter_map(|event| async move {
            match event {
                Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => Some(()),
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(%error, "the webhook configuration cannot be watched; trying again");
                    None
                }
            }
        })
        .boxed()
}

fn said(what: &'static str, reason: Option<plan::Reason>) {
    match reason {
        Some(reason) => tracing::info!(what, %reason, "issued"),
        None => tracing::warn!(what, "its Secret was gone or spoilt; put back what was in use"),
    }
}

/// What a Secret holds; what cannot be read is as good as absent, and is said.
fn readable<T>(
    secret: &Stored,
    what: &'static str,
    read: impl FnOnce() -> Result<T, authority::Error>,
) -> Option<T> {
    if !secret.exists() {
        return None;
    }
    read()
        .inspect_err(|error| tracing::warn!(%error, "{what} cannot be used"))
        .ok()
}

/// Whether it was written; not, if somebody else was first.
fn written(result: Result<(), kube::Error>, what: &'static str) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        // It exists by now, or is of another version.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(api(what, error)),
    }
}

fn api(what: &'static str, source: kube::Error) -> Error {
    Error::Api {
        what,
        source: Box::new(source),
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
