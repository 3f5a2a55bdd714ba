# shellcheck shell=bash
# The cluster's cgroups: one group a hierarchy, with a group for each node in it, below the group that the starter is in
# (version 1), or at the root (version 2, where a group that has processes may not hand controllers down).
# Sourced after settings.sh.

cgroup_v2() { [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; }

# Prints "CONTROLLERS FOLDER" for each hierarchy, FOLDER being where this process's own group is to be seen.
cgroup_hierarchies() {
    local controllers path mount
    while IFS=: read -r _ controllers path; do
        mount=/sys/fs/cgroup/${controllers#name=}
        if [[ -z $controllers ]]; then
            if cgroup_v2; then mount=/sys/fs/cgroup path=/; else mount=/sys/fs/cgroup/unified; fi
        fi
        [[ ! -e $mount/cgroup.procs ]] || printf '%s %s\n' "${controllers:-unified}" "$(realpath "$mount/$path")"
    done </proc/self/cgroup
}

# Makes the groups, and writes their folders to the state folder, for who has to enter them.
cgroup_create() {
    local controllers parent folder file
    : >"$dir/cgroups"
    while read -r controllers parent; do
        echo "$controllers $parent/$group" >>"$dir/cgroups"
        for folder in "$parent/$group" "${nodes[@]/#/$parent/$group/}"; do
            mkdir -p "$folder"
            # A fresh cpuset is empty, and a process cannot enter it so.
            for file in cpuset.cpus cpuset.mems; do
                [[ $controllers != *cpuset* ]] || cat "$folder/../$file" >"$folder/$file"
            done
        done
        if cgroup_v2; then
            mkdir -p "$parent/$group/hub"
            sed 's/^/+/; s/ / +/g' "$parent/$group/cgroup.controllers" >"$parent/$group/cgroup.subtree_control"
        fi
    done < <(cgroup_hierarchies)
}

# Moves the calling process into the cluster's group, or into a group below it.
cgroup_enter() { # GROUPS-FILE [CHILD]
    local folder
    while read -r _ folder; do
        echo 0 >"$folder${2:+/$2}/cgroup.procs"
    done <"$1"
}

# In a node's own cgroup and mount namespace: shows the node its own groups as if they were the whole tree.
cgroup_mount() { # GROUPS-FILE
    local controllers folder
    if cgroup_v2; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir /sys/fs/cgroup/init
        echo 0 >/sys/fs/cgroup/init/cgroup.procs
        sed 's/^/+/; s/ / +/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
        return
    fi
    mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
    while read -r controllers _; do
        folder=/sys/fs/cgroup/${controllers#name=}
        mkdir "$folder"
        case $controllers in
            unified) mount -t cgroup2 cgroup2 "$folder" ;;
            name=*) mount -t cgroup -o "none,$controllers" cgroup "$folder" ;;
            *) mount -t cgroup -o "$controllers" cgroup "$folder" ;;
        esac
        # "cpu,cpuacct" is to be found by either name.
        local name
        for name in ${controllers//,/ }; do
            [[ $controllers != *,* ]] || ln -s "$folder" "/sys/fs/cgroup/$name"
        done
    done <"$1"
}

# Prints every group that is the cluster's, wherever it is: who takes it down may sit elsewhere than who started it.
cgroup_find() { find /sys/fs/cgroup -type d -name "$group" 2>/dev/null || true; }

# Ends what still runs in them.
cgroup_kill() {
    local folder pids
    while read -r folder; do
        while pids=$(find "$folder" -name cgroup.procs -exec cat {} + | sort -u) && [[ -n $pids ]]; do
            # shellcheck disable=SC2086
            kill -KILL $pids 2>/dev/null || true
            sleep 0.05
        done
    done < <(cgroup_find)
}

# Removes them, once no process is in them; a process that has just ended can still be counted for a moment.
cgroup_remove() {
    local folder tries
    while read -r folder; do
        for tries in {1..40}; do
            find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.05
        done
        [[ ! -d $folder ]] || say "the cgroup $folder cannot be removed."
    done < <(cgroup_find)
}
