//! An API server that only lists: pages of what it was given, and watches in which nothing ever happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};

use crate::{large, reviews};

/// What is listed, by path.
#[derive(Clone, Default)]
pub struct Objects(Arc<BTreeMap<&'static str, Vec<Value>>>);

const PATHS: [&str; 6] = [
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/api/v1/services",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/ringfence.dev/v1alpha1/labelstandards",
    "/apis/ringfence.dev/v1alpha1/namespacebaselines",
];

impl Objects {
    pub fn none() -> Self {
        Self(Arc::new(PATHS.iter().map(|path| (*path, Vec::new())).collect()))
    }

    /// 10,000 pods as large as pods are, and 2,000 policies, in 200 namespaces; two standards and a baseline that hold for all of them.
    pub fn large() -> Self {
        let mut namespaces = vec![reviews::kube_system()];
        let (mut pods, mut policies) = (reviews::dns_pods(), Vec::new());
        for n in 0..large::NAMESPACES {
            namespaces.push(json!(large::namespace(n, n % 20)));
            pods.extend((0..large::WORKLOADS).map(|w| reviews::pod(n, w, w % 5)));
            policies.extend((0..large::POLICIES).map(|p| json!(large::policy(n, p, 443))));
        }
        let of = [
            namespaces,
            pods,
            vec![reviews::dns_service()],
            policies,
            reviews::standards(),
            vec![reviews::baseline()],
        ];
        Self(Arc::new(PATHS.into_iter().zip(of).collect()))
    }
}

/// Listens on loopback, until the process ends.
pub async fn serve(objects: Objects) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(objects);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn answer(State(objects): State<Objects>, method: Method, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default().split('&');
    let query: BTreeMap<&str, &str> = query.filter_map(|pair| pair.split_once('=')).collect();
    let Some(all) = objects.0.get(uri.path()).filter(|_| method == Method::GET) else {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        return (StatusCode::NOT_FOUND, Json(status)).into_response();
    };
    if query.get("watch").is_some_and(|watch| *watch != "false") {
        let nothing = stream::pending::<Result<Vec<u8>, std::io::Error>>();
        return Body::from_stream(nothing).into_response();
    }
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (
        number("continue").unwrap_or(0),
        number("limit").unwrap_or(all.len()),
    );
    let to = (from + limit.max(1)).min(all.len());
    let more = if to < all.len() {
        to.to_string()
    } else {
        String::new()
    };
    let list = json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": "1", "continue": more},
        "items": &all[from..to],
    });
    Json(list).into_response()
}
