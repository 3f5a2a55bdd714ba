//! The rules of this node as the cluster changes, and what there is to say of them. Pure.

use std::collections::BTreeSet;

use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::compile::{Compiler, Delta};

use crate::seats::Pods;

/// Follows the cluster.
pub struct Rules {
    compiler: Compiler,
    pods: Pods,
    /// Defects that were said.
    said: BTreeSet<String>,
}

/// What a change of the cluster changed here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub delta: Delta,
    /// Parts of policies that cannot be understood, which were not said so far.
    pub defects: Vec<String>,
}

impl Rules {
    pub fn new(node: &str) -> Self {
        Self {
            compiler: Compiler::new(node),
            pods: Pods::default(),
            said: BTreeSet::new(),
        }
    }

    /// Takes what changed of the cluster since the last time.
    pub fn follow(&mut self, cluster: &Cluster) -> Changed {
        let delta = self.compiler.update(cluster);
        if !delta.endpoints.is_empty() {
            self.pods = Pods::of(self.compiler.endpoints());
        }
        let mut defects = BTreeSet::new();
        for policy in self.compiler.defective() {
            let key = &policy.key;
            defects.extend(policy.defects.iter().map(|defect| format!("{key}: {defect}")));
        }
        let fresh = defects.difference(&self.said).cloned().collect();
        self.said = defects;
        Changed {
            delta,
            defects: fresh,
        }
    }

    /// All of the rules.
    pub fn everything(&self) -> Delta {
        self.compiler.snapshot()
    }

    /// How many parts of policies that concern pods of this node cannot be understood.
    pub fn defects(&self) -> usize {
        self.said.len()
    }

    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    pub fn pods_mut(&mut self) -> &mut Pods {
        &mut self.pods
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::{Value, from_value, json};

    fn pod(node: &str) -> Pod {
        from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"nodeName": node, "containers": []},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]},
        }))
        .unwrap()
    }

    fn policy(name: &str, spec: Value) -> NetworkPolicy {
        from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_of_this_node_is_known_by_its_address_as_long_as_it_is_there() {
        let mut cluster = Cluster::default();
        let mut rules = Rules::new("here");
        let address = "10.0.0.1".parse().unwrap();
        cluster.apply(&pod("elsewhere"));
        assert_eq!(rules.follow(&cluster), Changed::default());
        assert!(!rules.pods().has(&address));
        cluster.apply(&pod("here"));
        assert_eq!(rules.follow(&cluster).delta.endpoints.len(), 1);
        assert!(rules.pods().has(&address));
        cluster.delete(&pod("here"));
        rules.follow(&cluster);
        assert!(!rules.pods().has(&address));
    }

    #[test]
    fn a_defect_is_said_once_and_only_while_it_concerns_a_pod_here() {
        let mut cluster = Cluster::default();
        let mut rules = Rules::new("here");
        let odd = policy(
            "odd",
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "nowhere"}}]}]}),
        );
        cluster.apply(&odd);
        assert!(rules.follow(&cluster).defects.is_empty(), "it selects no pod");
        cluster.apply(&pod("here"));
        let defects = rules.follow(&cluster).defects;
        assert!(
            defects[0].starts_with("shop/odd: spec.ingress[0].from[0].ipBlock.cidr"),
            "{defects:?}"
        );
        cluster.apply(&policy("other", json!({})));
        assert!(rules.follow(&cluster).defects.is_empty(), "it was said");
        assert_eq!(rules.defects(), 1);
        cluster.delete(&odd);
        rules.follow(&cluster);
        assert_eq!(rules.defects(), 0);
    }
}
