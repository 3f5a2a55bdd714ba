# shellcheck shell=bash
# The configuration of a node's containerd, CNI plugins, kubelet and kube-proxy. Sourced by node-init.

dual() { [[ $(</mnt/shape) == *dual ]]; }

cni_plugins() { # Debian's folder, or the one that upstream's packages use
    local folder
    for folder in /usr/lib/cni /opt/cni/bin; do
        [[ ! -x $folder/host-local ]] || { echo "$folder"; return; }
    done
}

containerd_file() {
    # There may be no CAP_SYS_RESOURCE here, without which runc cannot lower an oom_score_adj.
    cat <<CONFIG
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "ringfence.test/pause:dev"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_plugins)"
    conf_dir = "/etc/cni/net.d"
CONFIG
}

# Both plugins give a pod a veth whose other end is in the node. With ptp it is routed, with bridge it is a bridge's port.
cni_file() { # NUMBER
    local plugin ranges="[{\"subnet\": \"$pods4.$1.0/24\"}]" routes='{"dst": "0.0.0.0/0"}'
    if dual; then
        ranges+=", [{\"subnet\": \"$pods6:$1::/64\"}]" routes+=', {"dst": "::/0"}'
    fi
    case $(</mnt/shape) in
        ptp*) plugin='"type": "ptp", "ipMasq": false' ;;
        bridge*) plugin='"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false' ;;
    esac
    cat <<CONFIG
{
  "cniVersion": "1.0.0",
  "name": "ringfence-test",
  "plugins": [{
    $plugin,
    "ipam": {
      "type": "host-local", "dataDir": "/run/cni/addresses",
      "ranges": [$ranges],
      "routes": [$routes]
    }
  }]
}
CONFIG
}

kubelet_file() { # NAME
    cat <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /mnt/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /mnt/pki/$1.crt
tlsPrivateKeyFile: /mnt/pki/$1.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: /etc/kubernetes/resolv.conf
maxPods: 250
serializeImagePulls: false
volumePluginDir: /var/lib/kubelet/volume-plugins
# The machine's cgroups may be version 1, and the node has only a part of them.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
# A full disk on a developer's machine is no reason to evict pods.
evictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, memory.available: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
CONFIG
}

kube_proxy_file() { # NAME
    cat <<CONFIG
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: /mnt/pki/kube-proxy.kubeconfig}
hostnameOverride: $1
# Traffic from a pod to a ClusterIP keeps its source address.
detectLocalMode: ClusterCIDR
clusterCIDR: $pods4.0.0/16$(! dual || echo ",$pods6::/56")
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
CONFIG
}

node_files() { # NUMBER
    local name=node$1
    mkdir -p /etc/containerd /etc/cni/net.d /etc/kubernetes /var/lib/kubelet/volume-plugins
    rm -rf /etc/cni/net.d/*
    containerd_file >/etc/containerd/ringfence.toml
    cni_file "$1" >/etc/cni/net.d/10-ringfence-test.conflist
    kubelet_file "$name" >/etc/kubernetes/kubelet.yaml
    kube_proxy_file "$name" >/etc/kubernetes/kube-proxy.yaml
    : >/etc/kubernetes/resolv.conf
    : >/etc/resolv.conf
}
