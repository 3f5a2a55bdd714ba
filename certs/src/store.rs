//! The Secrets: read, created by whoever comes first, replaced only as they were read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// The one field manager that all of this crate is written as.
pub(crate) const MANAGER: &str = "ringfence-certs";

/// One Secret.
pub(crate) struct Store {
    api: Api<Secret>,
    name: String,
    kind: &'static str,
}

/// A Secret as it was read: what is in it, and which version that was.
#[derive(Default)]
pub(crate) struct Stored {
    version: Option<String>,
    data: BTreeMap<String, ByteString>,
}

impl Stored {
    pub(crate) fn exists(&self) -> bool {
        self.version.is_some()
    }

    pub(crate) fn get(&self, key: &str) -> &[u8] {
        self.data.get(key).map_or(&[], |value| value.0.as_slice())
    }
}

impl Store {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, kind: &'static str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            kind,
        }
    }

    pub(crate) async fn read(&self) -> Result<Stored, kube::Error> {
        let secret = self.api.get_opt(&self.name).await?;
        Ok(secret.map_or_else(Stored::default, |secret| Stored {
            version: secret.metadata.resource_version,
            data: secret.data.unwrap_or_default(),
        }))
    }

    /// Writes over what was read. A conflict (somebody else was first) is the API server's 409.
    pub(crate) async fn write<const N: usize>(
        &self,
        read: &Stored,
        data: [(&str, &str); N],
    ) -> Result<(), kube::Error> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: read.version.clone(),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/part-of".to_owned(),
                    "ringfence".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some(self.kind.to_owned()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        };
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        if read.exists() {
            self.api.replace(&self.name, &params, &secret).await?;
        } else {
            self.api.create(&params, &secret).await?;
        }
        Ok(())
    }
}
