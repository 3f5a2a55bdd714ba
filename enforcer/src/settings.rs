//! What can be set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringfence_runtime::settings::{Invalid, Settings};
use ringfence_runtime::telemetry::Log;
use serde::{Deserialize, Serialize};

/// The variable that the downward API fills.
pub const NODE_NAME: &str = "NODE_NAME";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EnforcerSettings {
    /// The name of this node's Node object. Default: the variable `NODE_NAME`.
    pub node_name: String,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, in the node's network.
    pub health_address: SocketAddr,
    /// Where the kernel's state is kept; on a BPF file system that outlives the agent.
    pub pin_path: PathBuf,
    /// Where the container runtime keeps the pods' network namespaces.
    pub netns_path: PathBuf,
    /// Where libcni keeps the results of plugins: by them a pod is known before the API knows its address. It may be absent.
    pub cni_results_path: PathBuf,
    /// A veth that appeared is closed until its pod is known; it is let go as nobody's after this time if every pod of this node
    /// has its own.
    pub let_go_after_seconds: u64,
    /// Whose packets must come from their own address.
    pub source_check: SourceCheck,
    pub log: Log,
}

/// A pod that sends from another address than its own is taken for another pod by every policy that allows that one. Some pods
/// have to: those that route for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceCheck {
    /// Every pod of the node.
    #[default]
    All,
    /// Pods that a policy isolates.
    Isolated,
}

impl Default for EnforcerSettings {
    fn default() -> Self {
        Self {
            node_name: std::env::var(NODE_NAME).unwrap_or_default(),
            health_address: SocketAddr::from(([0, 0, 0, 0], 9472)),
            pin_path: PathBuf::from("/sys/fs/bpf/ringfence"),
            netns_path: PathBuf::from("/var/run/netns"),
            cni_results_path: PathBuf::from("/var/lib/cni/results"),
            let_go_after_seconds: 10,
            source_check: SourceCheck::default(),
            log: Log::default(),
        }
    }
}

impl EnforcerSettings {
    pub fn let_go_after(&self) -> Duration {
        Duration::from_secs(self.let_go_after_seconds)
    }
}

impl Settings for EnforcerSettings {
    const COMPONENT: &'static str = "enforcer";

    fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, reason: &str| {
            Err(Invalid {
                field,
                reason: reason.to_owned(),
            })
        };
        if self.node_name.is_empty() {
            return invalid(
                "nodeName",
                "the node's name is needed; set the variable NODE_NAME from the field spec.nodeName of the pod",
            );
        }
        if !self.pin_path.is_absolute() {
            return invalid("pinPath", "an absolute path is needed, as /sys/fs/bpf/ringfence");
        }
        if !self.netns_path.is_absolute() {
            return invalid("netnsPath", "an absolute path is needed, as /var/run/netns");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_name_is_told_how_to_get_one() {
        let settings = EnforcerSettings {
            node_name: String::new(),
            ..EnforcerSettings::default()
        };
        assert!(settings.validate().unwrap_err().to_string().contains("NODE_NAME"));
        let settings = EnforcerSettings {
            node_name: "one".to_owned(),
            ..settings
        };
        assert_eq!(settings.validate(), Ok(()));
    }
}
