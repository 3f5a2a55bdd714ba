//! What the webhook adds to a request of the real API server: policies created in a namespace that is judged, in turns with one that is
//! left out.

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

use crate::large;
use crate::process::Webhook;
use ringfence_bench::Figure;

use crate::report::percentile;
use crate::stand_in::{self, Objects};

/// In view of the webhook, as the large cluster has it.
const JUDGED: &str = "team-003";
const LEFT_OUT: &str = "ringfence-bench-left-out";
const CONFIGURATION: &str = "ringfence-bench";
/// Pairs of requests at each number of clients.
const PAIRS: usize = 2_000;

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
    for name in [JUDGED, LEFT_OUT] {
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
    let configuration = configuration(&webhook);
    configurations
        .create(&PostParams::default(), &configuration)
        .await
        .unwrap();
    // Until the API server has taken notice of it, nothing is judged.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    webhook.judged();
    for (clients, p50, p99) in [(1, 1.0, Some(3.0)), (20, 2.0, None)] {
        let (judged, left_out) = both(&client, clients).await;
        for (part, name, bound) in [(0.5, "p50", Some(p50)), (0.99, "p99", p99)] {
            let (with, without) = (percentile(&judged, part), percentile(&left_out, part));
            println!(
                "through the API server, {clients} clients, {name}: {with:.3} ms judged, {without:.3} ms left out"
            );
            let name = format!("added by way of the API server, {clients} at a time, {name}");
            figures.push(Figure::new(name, with - without, "ms").at_most(bound));
        }
    }
    let judged = webhook.judged().len();
    assert!(judged >= 2 * PAIRS, "the webhook was asked {judged} times only");
    remove(&client).await;
    for name in [JUDGED, LEFT_OUT] {
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

/// How long creating a policy took where it is judged and where it is left out, in milliseconds.
async fn both(client: &Client, clients: usize) -> (Vec<f64>, Vec<f64>) {
    let tasks = (0..clients).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            let (mut judged, mut left_out) = (Vec::new(), Vec::new());
            for i in 0..PAIRS / clients {
                // Which of both comes first changes, so that none is always the one that follows the other.
                let order = if i % 2 == 0 {
                    [JUDGED, LEFT_OUT]
                } else {
                    [LEFT_OUT, JUDGED]
                };
                for namespace in order {
                    let took = create(&client, namespace, &format!("bench-{clients}-{task}-{i}")).await;
                    if namespace == JUDGED {
                        &mut judged
                    } else {
                        &mut left_out
                    }
                    .push(took);
                }
            }
            (judged, left_out)
        })
    });
    let (mut judged, mut left_out) = (Vec::new(), Vec::new());
    for done in futures::future::join_all(tasks).await {
        let (with, without) = done.unwrap();
        judged.extend(with);
        left_out.extend(without);
    }
    (judged, left_out)
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

fn configuration(webhook: &Webhook) -> ValidatingWebhookConfiguration {
    let bundle = ByteString(webhook.authority.pem().into_bytes());
    from_value(json!({
        "metadata": {"name": CONFIGURATION},
        "webhooks": [{
            "name": "bench.ringfence.dev", "failurePolicy": "Fail", "timeoutSeconds": 5, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{}/validate", webhook.address), "caBundle": bundle},
            "rules": [{"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["networkpolicies"], "operations": ["CREATE"], "scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": JUDGED}},
        }],
    }))
    .unwrap()
}
