//! What of the stored objects does not meet the label standards: admission sees changes only. Told in metrics, and in each
//! standard's status.
//!
//! Every replica looks, and writes only what is not there yet: both come to the same, so that neither undoes the other's work.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use ringfence_netpol::api::{LabelStandard, LabelStandardStatus};
use ringfence_netpol::cluster::{Cluster, Key};
use ringfence_netpol::standard::audit::audit_one;
use ringfence_runtime::view::View;
use serde_json::json;

use crate::metrics::Metrics;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(30);
const MANAGER: &str = "ringfence-webhook";

/// Looks for ever, as long as the cluster is in view.
pub async fn run(client: Client, view: View, metrics: Metrics) {
    let standards: Api<LabelStandard> = Api::all(client);
    loop {
        tokio::time::sleep(EVERY).await;
        if !view.progress().synced() {
            continue;
        }
        let found = look(&view).await;
        let wanting = wanting(&view.read(), &found);
        metrics.standards(&found);
        for (name, status) in wanting {
            // Each field by itself: a merge leaves alone what it is not told of.
            let patch = Patch::Merge(json!({"status": {
                "observedGeneration": status.observed_generation,
                "checked": status.checked,
                "violating": status.violating,
                "examples": status.examples,
            }}));
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            if let Err(error) = standards.patch_status(&name, &params, &patch).await {
                tracing::warn!(standard = name, %error, "the status of a label standard cannot be written; trying again");
            }
        }
    }
}

/// What to say of each standard. One after the other: requests are judged in between, and what changes is taken in.
async fn look(view: &View) -> BTreeMap<String, LabelStandardStatus> {
    let keys: Vec<Key> = view.read().standards.iter().map(|(key, _)| key.clone()).collect();
    let mut found = BTreeMap::new();
    for key in keys {
        let status = {
            let cluster = view.read();
            cluster
                .standards
                .get(&key)
                .map(|standard| audit_one(&cluster, standard))
        };
        if let Some(status) = status {
            found.insert(key.name, status);
        }
        tokio::task::yield_now().await;
    }
    found
}

/// The standards whose status says something else.
fn wanting(
    cluster: &Cluster,
    found: &BTreeMap<String, LabelStandardStatus>,
) -> Vec<(String, LabelStandardStatus)> {
    let differs = |name: &str, status: &LabelStandardStatus| {
        let stored = cluster.standards.get(&Key::cluster(name));
        stored.is_some_and(|stored| stored.status.as_ref() != Some(status))
    };
    found
        .iter()
        .filter(|(name, status)| differs(name, status))
        .map(|(name, status)| (name.clone(), status.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::testing::cluster;
    use ringfence_netpol::standard::audit::audit;

    #[test]
    fn a_status_is_written_once_and_again_when_something_changed() {
        let mut cluster = cluster();
        let found = audit(&cluster);
        let first = wanting(&cluster, &found);
        assert_eq!(first.len(), 1);
        assert_eq!(
            (first[0].1.checked, first[0].1.violating),
            (2, 2),
            "kube-system is left alone"
        );
        let key = Key::cluster("tiers");
        let mut standard = cluster.standards.get(&key).unwrap().clone();
        standard.status = Some(first[0].1.clone());
        cluster.standards.apply(key, standard);
        assert_eq!(wanting(&cluster, &audit(&cluster)), []);
        cluster.namespaces.delete(&Key::cluster("shop"));
        assert_eq!(wanting(&cluster, &audit(&cluster))[0].1.checked, 1);
    }
}
