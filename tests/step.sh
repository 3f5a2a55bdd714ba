# shellcheck shell=bash
# Sourced: how the steps of a long run look.

# step TITLE COMMAND…: runs it, and says how long it took.
step() {
    local title=$1 start=$SECONDS
    shift
    printf '\n\033[1m%s\033[0m\n' "$title" >&2
    "$@" || { local status=$?; printf '\n\033[1;31m%s: FAILED\033[0m (%s)\n' "$title" "$*" >&2; exit "$status"; }
    printf '\033[2m%s: %s s\033[0m\n' "$title" "$((SECONDS - start))" >&2
}

# need_root WHY: ends, unless this is root.
need_root() {
    [[ $EUID == 0 ]] && return
    printf 'This needs root: %s. Run it again as root.\n' "$1" >&2
    exit 1
}
