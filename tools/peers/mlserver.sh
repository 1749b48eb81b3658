#!/usr/bin/env bash
# MLServer, a Python server of the same protocol, in a virtual environment of its own.
#
#   mlserver.sh install                                           install it if it is not there yet, and stop
#   mlserver.sh FOLDER RUN_DIR HTTP_PORT GRPC_PORT METRICS_PORT   the same, then become MLServer with FOLDER's models
#
# Environment: TENSORHUB_PEERS (folder of installed peers, as for triton.sh; here its folder mlserver/) and PYTHON.
set -euo pipefail

home=${TENSORHUB_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tensorhub-peers}/mlserver
# The newest uvloop gives a new process no event loop, which this release of MLServer counts on.
packages=(mlserver==1.7.1 'uvloop<0.22')

install_once() {
    mkdir -p "$home"
    exec 9>"$home.lock"
    flock 9                                      # two benches that start together must not install into one folder
    [ ! -e "$home/complete" ] || return 0
    echo "mlserver.sh: installing ${packages[*]} into $home" >&2
    "${PYTHON:-python3}" -m venv "$home/venv"
    "$home/venv/bin/pip" install -q --disable-pip-version-check "${packages[@]}" >&2
    touch "$home/complete"
}

[ "${1:-}" = install ] || [ $# -eq 5 ] || {
    echo "usage: mlserver.sh install | mlserver.sh FOLDER RUN_DIR HTTP_PORT GRPC_PORT METRICS_PORT" >&2
    exit 1
}
[ -e "$home/complete" ] || (install_once)
[ "$1" != install ] || exit 0

export MLSERVER_HOST=127.0.0.1 MLSERVER_HTTP_PORT=$3 MLSERVER_GRPC_PORT=$4 MLSERVER_METRICS_PORT=$5
export MLSERVER_DEBUG=false MLSERVER_GRPC_MAX_MESSAGE_LENGTH=134217728
folder=$(realpath "$1")
cd "$2"                                          # it leaves files of its metrics where it is started
exec "$home/venv/bin/mlserver" start "$folder"
