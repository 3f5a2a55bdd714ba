//! Certificates that somebody else issues and renews, as cert-manager does, mounted as files.
//!
//! Kubernetes renews a mounted Secret by swapping a symbolic link above the files, so that neither file is ever written; and whoever
//! watches the files themselves sees nothing. Here both are read at intervals, and compared with what was read before.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::keeper::Status;
use crate::serve::{self, Clients, Served};
use crate::{authority, keeper};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The files cannot be served; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Certificate(#[from] authority::Error),
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

/// Serves what is mounted in a folder: `tls.crt`, `tls.key`, and `ca.crt` if it is there.
pub struct Mounted {
    folder: PathBuf,
    served: Served,
    read: Option<[Vec<u8>; 2]>,
    status: watch::Sender<Option<Status>>,
}

impl Mounted {
    pub fn new(folder: impl Into<PathBuf>, served: Served) -> Self {
        Self {
            folder: folder.into(),
            served,
            read: None,
            status: watch::channel(None).0,
        }
    }

    /// `None` until a pair is served.
    pub fn status(&self) -> watch::Receiver<Option<keeper::Status>> {
        self.status.subscribe()
    }

    /// Serves what is there, for ever. What cannot be served leaves what was before.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the mounted certificate cannot be served; trying again");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks once; whether another pair is served from now on.
    ///
    /// # Errors
    /// If the files cannot be read, or, in the very moment of a swap, do not belong together.
    pub async fn look(&mut self) -> Result<bool, Error> {
        let pair = [
            file(&self.folder.join("tls.crt")).await?,
            file(&self.folder.join("tls.key")).await?,
        ];
        if self.read.as_ref() == Some(&pair) {
            return Ok(false);
        }
        let what = "the serving certificate";
        let leaf = authority::read(what, &pair[0])?;
        let leaf_not_after = leaf.first().ok_or(authority::Error::Empty { what })?.not_after;
        self.served.set_pem(&pair[0], &pair[1])?;
        let ca = match file(&self.folder.join("ca.crt")).await {
            Ok(pem) => authority::read("the CA's certificate", &pem)?,
            Err(_) => Vec::new(), // some issuers give none
        };
        tracing::info!(until = %leaf_not_after, "a mounted certificate is in use");
        self.status.send_replace(Some(Status {
            serving: true,
            // Who trusts it is the injector's business.
            trusted: true,
            leaf_not_after,
            authority_not_after: ca.first().map_or(leaf_not_after, |ca| ca.not_after),
        }));
        self.read = Some(pair);
        Ok(true)
    }
}

/// Follows the file with the CAs that clients' certificates must come from.
pub struct MountedClients {
    path: PathBuf,
    clients: Clients,
    read: Vec<u8>,
}

impl MountedClients {
    /// Follows a file of which this was read.
    pub fn new(path: impl Into<PathBuf>, clients: Clients, read: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            clients,
            read,
        }
    }

    /// Takes what is there, for ever. What cannot be used leaves what was before.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the CAs of clients cannot be used; those from before stay in force");
            }
        }
    }

    /// Looks once; whether others count from now on.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no CA.
    pub async fn look(&mut self) -> Result<bool, Error> {
        let read = file(&self.path).await?;
        if read == self.read {
            return Ok(false);
        }
        self.clients.set(&read)?;
        self.read = read;
        tracing::info!("other CAs of clients are in force");
        Ok(true)
    }
}

async fn file(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Leaf};
    use std::os::unix::fs::symlink;
    use time::{Duration, OffsetDateTime};

    /// Writes a version as the kubelet does, and swaps the link to it in one step.
    fn mount(folder: &Path, version: &str, certificate: &str, key: &str) {
        let data = folder.join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("tls.crt"), certificate).unwrap();
        std::fs::write(data.join("tls.key"), key).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            let _ = symlink(Path::new("..data").join(name), folder.join(name));
        }
    }

    fn leaf(days: i64) -> Leaf {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::issue(&[], now, Duration::days(100)).unwrap();
        Leaf::issue(&authority, &["a.svc".to_owned()], now, Duration::days(days)).unwrap()
    }

    #[tokio::test]
    async fn other_cas_of_clients_are_taken_over_and_what_is_none_changes_nothing() {
        let now = OffsetDateTime::now_utc();
        let ca = || Authority::issue(&[], now, Duration::days(1)).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let first = ca();
        std::fs::write(&path, &first).unwrap();
        let clients = Clients::of(first.as_bytes()).unwrap();
        let mut mounted = MountedClients::new(&path, clients, first.into_bytes());
        assert!(!mounted.look().await.unwrap());
        std::fs::write(&path, "no PEM").unwrap();
        assert!(mounted.look().await.is_err());
        std::fs::write(&path, ca()).unwrap();
        assert!(mounted.look().await.unwrap());
        assert!(!mounted.look().await.unwrap());
    }

    #[tokio::test]
    async fn a_swapped_link_is_noticed_and_a_pair_that_does_not_match_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::default();
        let mut mounted = Mounted::new(folder.path(), served);
        let status = mounted.status();
        assert!(mounted.look().await.is_err(), "there is nothing yet");
        assert_eq!(*status.borrow(), None);
        let first = leaf(1);
        mount(folder.path(), "..1", &first.certificate.pem, &first.key);
        assert!(mounted.look().await.unwrap());
        assert!(!mounted.look().await.unwrap(), "it is the same");
        let until =
            |status: &watch::Receiver<Option<Status>>| status.borrow().clone().unwrap().leaf_not_after;
        assert_eq!(until(&status), first.certificate.not_after);

        let second = leaf(2);
        mount(folder.path(), "..2", &second.certificate.pem, &first.key);
        assert!(mounted.look().await.is_err());
        assert_eq!(
            until(&status),
            first.certificate.not_after,
            "the former is served still"
        );
        mount(folder.path(), "..3", &second.certificate.pem, &second.key);
        assert!(mounted.look().await.unwrap());
        assert_eq!(until(&status), second.certificate.not_after);
    }
}
