# shellcheck shell=bash
# Takes the cluster down, in whatever state it is. Sourced after settings.sh and cgroups.sh, with the lock held.

teardown() {
    local pid since
    # It is process 1 of its namespace: when it is gone, so is everything in it, and with that the mounts and the networks.
    if pid=$(alive hub); then
        kill -KILL "$pid"
        while alive hub >/dev/null; do sleep 0.02; done
    fi
    # If the state folder was wiped while the cluster was up, its processes are still to be known by their groups.
    cgroup_kill
    cgroup_remove
    # The kernel takes a namespace's devices away in the background.
    since=$SECONDS
    while ip link show "$link" &>/dev/null; do
        ((SECONDS - since < 10)) || ip link delete "$link"
        sleep 0.05
    done
    [[ ! -d $dir ]] ||
        rm -rf "${dir:?}"/{etcd,pki,images,node1,node2,bin,scripts,kubeconfig,shape,api.ready,hub.ready,cgroups,cache} "$dir"/*.pid*
}
