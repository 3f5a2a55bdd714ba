# shellcheck shell=bash
# How the inits of the cluster and of its nodes run their processes. Sourced by them.

# Writes "PID START" of the calling process, as the host counts them, to a file that must not be there yet: of two that
# try, one fails. /proc must still be the host's.
record() { # FILE
    local pid
    read -r pid _ </proc/self/stat
    identity "$pid" >"$1.$pid"
    ln "$1.$pid" "$1"
    rm "$1.$pid"
}

# Runs a command in the background, and again whenever it ends, as systemd would. Its output goes to logs/NAME.log.
keep() { # NAME COMMAND…
    local name=$1
    shift
    while :; do
        "$@" && true
        printf '%s\n' "--- $name ended with status $?; it is started again"
        sleep 1
    done >>"/mnt/logs/$name.log" 2>&1 &
}
