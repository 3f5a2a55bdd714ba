# shellcheck shell=bash
# Where this checkout's cluster lives, what it is called, and the few words that every script here needs.

set -euo pipefail

scripts=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
repo=$(realpath "$scripts/../..")
bin=$repo/target/cluster/bin
images=$repo/target/cluster/images
dir=$(realpath -m "${RINGFENCE_CLUSTER_DIR:-$repo/target/cluster/run}")
nodes=(node1 node2)

# Two checkouts on one machine run two clusters: everything that the host can see carries an id made of the folder's path.
hash=$(printf %s "$dir" | sha256sum)
id=${hash:0:4}
link=rf-$id
group=ringfence-$id
# 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so it is nobody's real network; a cluster takes one /24 of it.
net=${RINGFENCE_CLUSTER_NET:-198.$((18 + (0x$id >> 8) % 2)).$((0x$id & 255))}
api=https://$net.1:6443
kubeconfig=$dir/kubeconfig

# What exists within the cluster only. IPv6 is there with FAMILY=dual: its pods take a second longer to start, since the
# kernel looks whether their address is taken.
pods4=10.244 pods6=fd00:10:244 # node1's are 10.244.1.0/24 and fd00:10:244:1::/64
services4=10.96.0.0/16 services6=fd00:10:96::/112
net6=fd00:198:18:

say() { printf '%s\n' "cluster: $*" >&2; }
die() { say "$*"; exit 1; }

require_root() { [[ $(id -u) == 0 ]] || die "this needs root, since it makes namespaces and mounts; run it with sudo."; }

# A process is known by its id and its start time, since ids are used again. Both are on one line of a file in the state folder.
identity() { # PID: "PID START", or nothing if there is none
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The name in brackets may hold spaces: count fields behind it. State is the 3rd field, start time the 22nd.
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != Z ]] && printf '%s %s\n' "$1" "${stat[19]}"
}
alive() { # NAME: prints the host's pid of the init called NAME (hub, node1, node2), fails if it is gone
    local pid start
    { read -r pid start <"$dir/$1.pid"; } 2>/dev/null || return 1
    [[ $(identity "$pid") == "$pid $start" ]] && printf '%s\n' "$pid"
}

# A proxy for the way to the internet has no business between kubectl and a namespace of this machine.
kubectl() { env -u HTTPS_PROXY -u https_proxy -u ALL_PROXY -u all_proxy "$bin/kubectl" --kubeconfig="$kubeconfig" --cache-dir="$dir/cache" "$@"; }
