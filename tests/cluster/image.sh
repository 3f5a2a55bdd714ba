# shellcheck shell=bash
# What makes programs into images. A static program needs one layer and no base, and such an image is a tar of three files.

stale() { # FILE SOURCES…: whether FILE is missing, or older than any of them
    local file=$1 source
    shift
    for source; do
        [[ -e $file && ! $source -nt $file ]] || return 0
    done
    return 1
}
image() { # NAME COMMAND…: the program NAME in an image of its own
    local name=$1 file=$images/$1.tar stage command layer
    shift
    stale "$file" "$bin/$name" "$scripts/image.sh" || return 0
    stage=$(mktemp -d "$images/$name.XXXX")
    mkdir -p "$stage/root/tmp"
    chmod 1777 "$stage/root/tmp"
    ln "$bin/$name" "$stage/root/$name"
    tar -C "$stage/root" --owner=0 --group=0 -cf "$stage/layer.tar" .
    rm -r "$stage/root"
    layer=$(sha256sum "$stage/layer.tar")
    command=$(printf ',"%s"' "$@")
    cat >"$stage/config.json" <<JSON
{"architecture":"$(go env GOARCH)","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:${layer%% *}"]},
 "config":{"Entrypoint":["/$name"],"Cmd":[${command:1}],"Env":["PATH=/"],"WorkingDir":"/"}}
JSON
    cat >"$stage/manifest.json" <<JSON
[{"Config":"config.json","RepoTags":["ringfence.test/$name:dev"],"Layers":["layer.tar"]}]
JSON
    tar -C "$stage" -cf "$file.new" manifest.json config.json layer.tar
    mv "$file.new" "$file"
    rm -r "$stage"
}
