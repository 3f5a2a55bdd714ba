# shellcheck shell=bash
# Takes the cluster down, in whatever state it is. Sourced after settings.sh and cgroups.sh, with the lock held.

teardown() {
    local pid
    if pid=$(alive hub); then
        # It is process 1 of its namespace: when it is gone, so is everything in it, and with that the mounts and the networks.
        kill -KILL "$pid"
        while alive hub >/dev/null; do sleep 0.02; done
    fi
    # The kernel takes a namespace's devices away in the background.
    while ip link show "$link" &>/dev/null; do sleep 0.05; done
    cgroup_remove
    rm -rf "${dir:?}"/{etcd,pki,images,node1,node2,bin,scripts,kubeconfig,cni,api.ready,hub.ready} "$dir"/*.pid*
}
