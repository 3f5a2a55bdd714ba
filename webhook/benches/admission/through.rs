//! What the webhook adds to a request of the real API server: policies created in a namespace that is judged, in turns with one that is
//! left out and one for which a webhook is asked that judges nothing.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{from_value, json};

use crate::client::Door;
use crate::process::Webhook;
use crate::{large, peer};
use ringfence_bench::Figure;

use crate::report::percentile;
use crate::stand_in::{self, Objects};

/// In view of the webhook, as the large cluster has it.
const JUDGED: &str = "team-003";
const LEFT_OUT: &str = "ringfence-bench-left-out";
const PEER: &str = "ringfence-bench-peer";
const NAMESPACES: [&str; 3] = [JUDGED, LEFT_OUT, PEER];
const CONFIGURATION: &str = "ringfence-bench";
/// How often each is asked at each number of clients.
const TURNS: usize = 2_000;

/// The address by which the API server reaches this machine.
fn own_address(api_server: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(api_server).unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

pub async fn measure(figures: &mut Vec<Figure>) {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(
        Kubeconfig::read_from(ringfence_bench::kubeconfig().unwrap()).unwrap(),
        &options,
    )
    .await
    .unwrap();
    let uri = config.cluster_url.clone();
    let own = own_address(&format!(
        "{}:{}",
        uri.host().unwrap(),
        uri.port_u16().unwrap_or(443)
    ));
    let client = Client::try_from(config).unwrap();
    let objects: SocketAddr = stand_in::serve(Objects::large()).await;
    let webhook = Webhook::start(objects, &own).await;
    remove(&client).await;
    for name in NAMESPACES {
        let namespace: Namespace = from_value(json!({"metadata": {"name": name}})).unwrap();
        match Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {} // of an earlier run
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let configuration = configuration(&[(JUDGED, &webhook.door), (PEER, &peer::start(&own))]);
    configurations
        .create(&PostParams::default(), &configuration)
        .await
        .unwrap();
    // Until the API server has taken notice of it, nothing is judged.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    webhook.judged();
    for (clients, p50, p99) in [(1, 1.0, Some(3.0)), (20, 2.0, None)] {
        let [judged, left_out, peer] = in_turns(&client, clients).await;
        for (part, name, bound) in [(0.5, "p50", Some(p50)), (0.99, "p99", p99)] {
            let [with, without, peer] = [&judged, &left_out, &peer].map(|times| percentile(times, part));
            println!(
                "through the API server, {clients} clients, {name}: {with:.3} ms judged, {without:.3} ms left out, {peer:.3} ms not judged"
            );
            let added = |by: &str| format!("added by way of the API server{by}, {clients} at a time, {name}");
            figures.push(Figure::new(added(""), with - without, "ms").at_most(bound));
            figures.push(Figure::new(
                added(" by one that judges nothing"),
                peer - without,
                "ms",
            ));
        }
    }
    let judged = webhook.judged().len();
    assert!(judged >= 2 * TURNS, "the webhook was asked {judged} times only");
    remove(&client).await;
    for name in NAMESPACES {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .delete(name, &DeleteParams::background())
            .await
            .unwrap();
    }
    webhook.stop();
}

async fn remove(client: &Client) {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    match configurations
        .delete(CONFIGURATION, &DeleteParams::default())
        .await
    {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{CONFIGURATION}: {error}"),
    }
}

/// How long creating a policy took in each of these namespaces, in milliseconds.
async fn in_turns(client: &Client, clients: usize) -> [Vec<f64>; NAMESPACES.len()] {
    let tasks = (0..clients).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut took = NAMESPACES.map(|_| Vec::new());
            for i in 0..TURNS / clients {
                // Which of them comes first changes, so that none always follows the same other.
                for turn in 0..NAMESPACES.len() {
                    let ahead = if i % 2 == 0 { turn } else { NAMESPACES.len() - turn };
                    let which = (i + ahead) % NAMESPACES.len();
                    let name = format!("bench-{clients}-{task}-{i}");
                    took[which].push(create(&client, NAMESPACES[which], &name).await);
                }
            }
            took
        })
    });
    let mut took = NAMESPACES.map(|_| Vec::new());
    for done in futures::future::join_all(tasks).await {
        for (all, of_task) in took.iter_mut().zip(done.unwrap()) {
            all.extend(of_task);
        }
    }
    took
}

async fn create(client: &Client, namespace: &str, name: &str) -> f64 {
    let mut policy: NetworkPolicy = large::policy(3, 4, 443);
    policy.metadata.name = Some(name.to_owned());
    policy.metadata.namespace = Some(namespace.to_owned());
    let dry = PostParams {
        dry_run: true, // all of admission, and nothing that stays
        ..PostParams::default()
    };
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let start = Instant::now();
    policies.create(&dry, &policy).await.unwrap();
    start.elapsed().as_secs_f64() * 1000.0
}

fn configuration(asked: &[(&str, &Door)]) -> ValidatingWebhookConfiguration {
    let hooks = asked.iter().map(|(namespace, door)| {
        json!({
            "name": format!("{namespace}.ringfence.dev"), "failurePolicy": "Fail", "timeoutSeconds": 5, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "url": format!("https://{}/validate", door.address),
                "caBundle": ByteString(door.authority.clone().into_bytes()),
            },
            "rules": [{"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["networkpolicies"], "operations": ["CREATE"], "scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        })
    });
    let hooks: Vec<_> = hooks.collect();
    from_value(json!({"metadata": {"name": CONFIGURATION}, "webhooks": hooks})).unwrap()
}
