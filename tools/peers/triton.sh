#!/usr/bin/env bash
# A real Triton Inference Server on this machine, without a container: CPU, Python backend and ensembles, Triton 2.51.
#
#   triton.sh install                               install it if it is not there yet, and stop
#   triton.sh --model-repository=DIR [OPTION...]    the same, then become tritonserver with these options
#
# The binary, its libraries and the Python backend are those inside the PyPI package nvidia-pytriton. It gets a virtual
# environment of its own because it needs numpy 1. It listens on 127.0.0.1 only unless an option says otherwise; the process
# is tritonserver itself (exec), so SIGTERM stops it.
#
# Environment:
#   TENSORHUB_PEERS   folder of installed peers (default: ${XDG_CACHE_HOME:-~/.cache}/tensorhub-peers); here its folder triton/
#   PYTHON            interpreter for the virtual environment (default: python3); it must be a shared build (libpythonX.Y.so)
set -euo pipefail

home=${TENSORHUB_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tensorhub-peers}/triton
release=0.7.0
stub=$home/backends/python/triton_python_backend_stub

die() { echo "triton.sh: $*" >&2; exit 1; }

# Where pip put the packages. A glob and not a call of Python: this runs at each start, and start-up time is measured.
packages() { echo "$home"/venv/lib/python3.*/site-packages; }

# The stub is linked to the shared library of the interpreter the environment was made with.
libraries() { echo "$(packages)/nvidia_pytriton.libs:$(dirname "$(dirname "$(readlink -f "$home/venv/bin/python")")")/lib"; }

install_once() {
    mkdir -p "$home"
    exec 9>"$home.lock"
    flock 9                                      # two benches that start together must not install into one folder
    [ ! -x "$stub" ] || return 0
    echo "triton.sh: installing Triton (nvidia-pytriton $release) into $home" >&2
    "${PYTHON:-python3}" -m venv "$home/venv"
    "$home/venv/bin/pip" install -q --disable-pip-version-check "nvidia-pytriton==$release" >&2
    local server version
    server=$(packages)/pytriton/tritonserver
    version=$("$home/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -e "$server/python_backend_stubs/$version" ] || die "no Python backend for Python $version in nvidia-pytriton $release;" \
        "set PYTHON to one of: $(ls "$server/python_backend_stubs" | tr '\n' ' ')"
    mkdir -p "$home/backends"
    cp -r "$server/backends/python" "$home/backends/"
    # The stub goes in last: its presence is what says that the installation is whole.
    cp "$server/python_backend_stubs/$version/triton_python_backend_stub" "$stub.new"
    if LD_LIBRARY_PATH=$(libraries) ldd "$stub.new" | grep 'not found' >&2; then
        die "the Python backend misses the libraries above; use a Python with a shared library (PYTHON=...)"
    fi
    mv "$stub.new" "$stub"
}

[ $# -gt 0 ] || die "usage: triton.sh install | triton.sh --model-repository=DIR [tritonserver option...]"
[ -x "$stub" ] || (install_once)
[ "$1" != install ] || exit 0

site=$(packages)
export LD_LIBRARY_PATH=$(libraries)
export PATH=$home/venv/bin:$PATH
exec "$site/pytriton/tritonserver/bin/tritonserver" \
    --backend-directory="$home/backends" --cache-directory="$site/pytriton/tritonserver/caches" \
    --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1 "$@"
