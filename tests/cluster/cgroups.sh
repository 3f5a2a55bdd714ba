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

# Makes the groups and writes their folders to the state folder, since who takes them down may sit in another group.
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

# Removes the groups, once no process is in them.
cgroup_remove() {
    local folder
    [[ -e $dir/cgroups ]] || return 0
    while read -r _ folder; do
        [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} +
    done <"$dir/cgroups"
    rm "$dir/cgroups"
}
