//! Scenarios on an API server in memory, which knows objects, versions and conflicts, and no more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use time::Duration;

use super::*;

#[path = "life_tests.rs"]
mod life;

const SECRETS: &str = "/api/v1/namespaces/system/secrets";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";

/// Objects by their path, and what was asked.
#[derive(Clone, Default)]
struct Server {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    versions: u64,
    writes: Vec<String>,
    down: bool,
    /// Configurations can be read, and not written.
    sealed: bool,
}

impl Server {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default();
                // Others get their turn between any two requests.
                tokio::task::yield_now().await;
                let object: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) =
                    server.with(|state| state.answer(&head.method, head.uri.path(), object));
                let text = serde_json::to_vec(&answer).unwrap();
                let response = Response::builder().status(status).body(Body::from(text)).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "system")
    }

    fn keeper(&self) -> Keeper {
        self.keeper_with(Lifetimes::default(), Served::default())
    }

    fn keeper_with(&self, lifetimes: Lifetimes, served: Served) -> Keeper {
        let settings = Settings {
            namespace: "system".to_owned(),
            authority_secret: "ca".to_owned(),
            leaf_secret: "tls".to_owned(),
            names: vec!["hook.system.svc".to_owned()],
            configuration: "ringfence".to_owned(),
            lifetimes,
        };
        Keeper::new(self.client(), settings, served)
    }

    fn install_configuration(&self) {
        let webhooks = json!([
            {"name": "a", "clientConfig": {"service": {"name": "x"}}},
            {"name": "b", "clientConfig": {"service": {"name": "x"}}},
        ]);
        let object = json!({"metadata": {"name": "ringfence", "resourceVersion": "1"}, "webhooks": webhooks});
        self.with(|state| state.objects.insert(CONFIGURATION.to_owned(), object));
    }

    /// What each webhook trusts.
    fn trusted(&self) -> Vec<Value> {
        self.with(|state| {
            let webhooks = state.objects[CONFIGURATION]["webhooks"].as_array().unwrap();
            webhooks
                .iter()
                .map(|webhook| webhook["clientConfig"]["caBundle"].clone())
                .collect()
        })
    }

    fn secret(&self, name: &str, key: &str) -> Value {
        self.with(|state| state.objects[&format!("{SECRETS}/{name}")]["data"][key].clone())
    }

    fn writes(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.writes))
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, object: Value) -> (StatusCode, Value) {
        let failure = |status: StatusCode, reason: &str| {
            let code = status.as_u16();
            (
                status,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}),
            )
        };
        if self.down {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        let stored = self.objects.get(path).cloned();
        match (method.as_str(), stored) {
            ("GET", Some(stored)) => (StatusCode::OK, stored),
            ("GET", None) => failure(StatusCode::NOT_FOUND, "NotFound"),
            ("POST", _) => {
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.store(path, object)
            }
            ("PUT", Some(stored))
                if stored["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] =>
            {
                self.store(path.to_owned(), object)
            }
            ("PUT", _) => failure(StatusCode::CONFLICT, "Conflict"),
            ("PATCH", _) if self.sealed => failure(StatusCode::FORBIDDEN, "Forbidden"),
            ("PATCH", Some(mut stored)) if object["webhooks"].is_null() => {
                stored["metadata"]["managedFields"] = object["metadata"]["managedFields"].clone();
                self.store(path.to_owned(), stored)
            }
            ("PATCH", Some(mut stored)) => {
                if let Some(owners) = stored["metadata"]["managedFields"].as_array_mut() {
                    owners.push(json!({"manager": MANAGER, "operation": "Apply"}));
                }
                for ours in object["webhooks"].as_array().unwrap() {
                    let theirs = stored["webhooks"].as_array_mut().unwrap();
                    let theirs = theirs
                        .iter_mut()
                        .find(|webhook| webhook["name"] == ours["name"])
                        .unwrap();
                    theirs["clientConfig"]["caBundle"] = ours["clientConfig"]["caBundle"].clone();
                }
                self.store(path.to_owned(), stored)
            }
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn store(&mut self, path: String, mut object: Value) -> (StatusCode, Value) {
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.writes
            .push(path.rsplit('/').next().unwrap_or_default().to_owned());
        self.objects.insert(path, object.clone());
        (StatusCode::OK, object)
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)
}

#[tokio::test]
async fn the_first_replica_creates_everything_and_again_changes_nothing() {
    let server = Server::default();
    server.install_configuration();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    assert_eq!(server.writes(), ["ca", "ringfence", "tls"]);
    let bundle = server.secret("ca", "ca.crt");
    assert_eq!(server.trusted(), [bundle.clone(), bundle]);
    assert!(keeper.status().borrow().as_ref().unwrap().trusted);
    keeper.reconcile(now() + Duration::hours(1)).await.unwrap();
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let server = Server::default();
    server.install_configuration();
    let mut replicas = [server.keeper(), server.keeper(), server.keeper()];
    let results = futures::future::join_all(replicas.iter_mut().map(|keeper| keeper.reconcile(now()))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let leaf = replicas[0].current.clone();
    assert!(leaf.is_some() && replicas.iter().all(|keeper| keeper.current == leaf));
    let writes = server.writes();
    for name in ["ca", "tls"] {
        assert_eq!(
            writes.iter().filter(|written| *written == name).count(),
            1,
            "{writes:?}"
        );
    }
    let bundle = server.secret("ca", "ca.crt");
    assert!(server.trusted().iter().all(|trusted| *trusted == bundle));
}

#[tokio::test]
async fn it_stays_no_owner_of_what_whoever_installs_may_take_away_again() {
    let server = Server::default();
    server.install_configuration();
    let installer = json!([{"manager": "kubectl", "operation": "Apply"}]);
    let owners = |server: &Server| {
        server.with(|state| state.objects[CONFIGURATION]["metadata"]["managedFields"].clone())
    };
    server.with(|state| {
        let configuration = state.objects.get_mut(CONFIGURATION).unwrap();
        configuration["metadata"]["managedFields"] = installer.clone();
    });
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    assert_eq!(server.trusted()[0], server.secret("ca", "ca.crt"));
    assert_eq!(owners(&server), installer);
    // Nor of what an older version wrote.
    server.with(|state| {
        let configuration = state.objects.get_mut(CONFIGURATION).unwrap();
        let owners = configuration["metadata"]["managedFields"].as_array_mut().unwrap();
        owners.push(json!({"manager": MANAGER, "operation": "Apply"}));
    });
    keeper.reconcile(now()).await.unwrap();
    assert_eq!(owners(&server), installer);
    server.writes();
    keeper.reconcile(now()).await.unwrap();
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn a_new_ca_signs_nothing_while_its_bundle_cannot_be_spread() {
    let server = Server::default();
    server.install_configuration();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    // A leaf of the old CA that is due only after the new one could sign for long.
    let before_rotation = now() + Duration::days(3 * 365 + 110);
    keeper.reconcile(before_rotation).await.unwrap();
    let old = keeper.current.clone();
    server.with(|state| state.sealed = true);
    let due = now() + Duration::days(3 * 365 + 175);
    let failed = keeper.reconcile(due).await;
    assert!(failed.is_err());
    let later = due + Duration::days(1);
    assert!(keeper.reconcile(later).await.is_err());
    assert_eq!(keeper.current, old, "what is in use is trusted still");
    server.with(|state| state.sealed = false);
    keeper.reconcile(later).await.unwrap();
    assert_eq!(keeper.current, old, "it was told of only now");
    keeper.reconcile(later + Duration::minutes(1)).await.unwrap();
    assert_ne!(keeper.current, old);
}

#[tokio::test]
async fn a_bundle_that_somebody_wiped_comes_back() {
    let server = Server::default();
    server.install_configuration();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    server.install_configuration();
    server.writes();
    keeper.reconcile(now()).await.unwrap();
    assert_eq!(server.writes(), ["ringfence"]);
}

#[tokio::test]
async fn a_replica_that_missed_a_rotation_does_not_put_the_old_bundle_back() {
    let server = Server::default();
    server.install_configuration();
    let (mut one, mut other) = (server.keeper(), server.keeper());
    one.reconcile(now()).await.unwrap();
    other.reconcile(now()).await.unwrap();
    let later = now() + Duration::days(4 * 365);
    one.reconcile(later).await.unwrap();
    server.writes();
    other.reconcile(later).await.unwrap();
    assert!(
        server.writes().is_empty(),
        "what the first one made right is right"
    );
    assert_eq!(one.current, other.current);
}

#[tokio::test]
async fn what_is_in_use_is_put_back_where_a_secret_is_spoilt_or_deleted() {
    let server = Server::default();
    server.install_configuration();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    let (leaf, bundle) = (keeper.current.clone(), server.secret("ca", "ca.crt"));
    server.writes();
    server.with(|state| {
        let secret = state.objects.get_mut(&format!("{SECRETS}/tls")).unwrap();
        secret["data"]["tls.key"] = json!("bm8ga2V5");
        state.objects.remove(&format!("{SECRETS}/ca"));
    });
    keeper.reconcile(now()).await.unwrap();
    assert_eq!(server.writes(), ["ca", "tls"]);
    assert_eq!((keeper.current, server.secret("ca", "ca.crt")), (leaf, bundle));
}

#[tokio::test]
async fn a_replica_that_finds_spoilt_secrets_at_its_start_issues_anew() {
    let server = Server::default();
    server.install_configuration();
    server.keeper().reconcile(now()).await.unwrap();
    server.writes();
    server.with(|state| {
        let secret = state.objects.get_mut(&format!("{SECRETS}/ca")).unwrap();
        secret["data"] = json!({});
    });
    server.keeper().reconcile(now()).await.unwrap();
    assert_eq!(server.writes(), ["ca", "ringfence", "tls"]);
}

#[tokio::test]
async fn an_outage_leaves_what_is_served_and_what_was_said_as_they_are() {
    let server = Server::default();
    server.install_configuration();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    let (before, status) = (keeper.current.clone(), keeper.status().borrow().clone());
    server.with(|state| state.down = true);
    let error = keeper.reconcile(now() + Duration::days(100)).await.unwrap_err();
    assert_eq!(error.kind(), "api");
    assert_eq!(
        (keeper.current.clone(), keeper.status().borrow().clone()),
        (before, status)
    );
}

#[tokio::test]
async fn without_a_configuration_it_serves_and_says_that_nobody_trusts_it() {
    let server = Server::default();
    let mut keeper = server.keeper();
    keeper.reconcile(now()).await.unwrap();
    let status = keeper.status().borrow().clone().unwrap();
    assert_eq!((status.serving, status.trusted), (true, false));
}

#[test]
fn a_bundle_that_is_missing_or_another_is_put_into_every_webhook() {
    let bundle = json!("QUJD");
    let webhook = |name: &str, bundle: Value| json!({"name": name, "clientConfig": {"caBundle": bundle, "service": {"name": "x"}}});
    let with = |bundles: [Value; 2]| {
        let [a, b] = bundles;
        json!({"webhooks": [webhook("a", a), webhook("b", b)]})
    };
    assert_eq!(untrusting(&with([bundle.clone(), bundle.clone()]), &bundle), None);
    let expected = vec![
        json!({"name": "a", "clientConfig": {"caBundle": "QUJD"}}),
        json!({"name": "b", "clientConfig": {"caBundle": "QUJD"}}),
    ];
    for bad in [Value::Null, json!(""), json!("REVG")] {
        assert_eq!(
            untrusting(&with([bundle.clone(), bad]), &bundle),
            Some(expected.clone())
        );
    }
    assert_eq!(untrusting(&json!({}), &bundle), None);
}
