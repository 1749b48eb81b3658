"""How Gunicorn serves the HTTP frontend:  gunicorn -c python:tensorhub.http.gunicorn_conf tensorhub.http:app

Every value that a site may want to change comes from the environment; the comments say what the others are for.

    TENSORHUB_HTTP_ADDRESS   127.0.0.1      address, or unix:/path/to/socket
    TENSORHUB_HTTP_PORT      8000
    TENSORHUB_HTTP_WORKERS   1              processes; each is a frontend of its own
    TENSORHUB_HTTP_REUSE_PORT false         share the port with other servers that say so too
    TENSORHUB_HTTP_CERT                     PEM file of a certificate: HTTPS
    TENSORHUB_HTTP_KEY                      PEM file of its key
    TENSORHUB_HTTP_CLIENT_CA                PEM file of the certificates that clients must show one of
    TENSORHUB_HTTP_TIMEOUT   60             seconds that a client may pause while it sends a body
    TENSORHUB_EXIT_TIMEOUT   30             seconds that requests in flight get at shutdown
    TENSORHUB_HTTP_LOG_LEVEL warning        of Gunicorn itself
    TENSORHUB_LOG_INFO, ...                 the log options of the server, by their names
    TENSORHUB_RUN_DIR                       the server that this frontend belongs to
"""

import gc
import os
import ssl
from typing import Any

from tensorhub import logs
from tensorhub.ipc import hub_line, lifeline

_address = os.environ.get("TENSORHUB_HTTP_ADDRESS", "127.0.0.1")
_port = os.environ.get("TENSORHUB_HTTP_PORT", "8000")
_host = f"[{_address}]" if ":" in _address else _address

bind = [_address if _address.startswith("unix:") else f"{_host}:{_port}"]
reuse_port = os.environ.get("TENSORHUB_HTTP_REUSE_PORT", "false") == "true"
workers = int(os.environ.get("TENSORHUB_HTTP_WORKERS", "1"))

certfile = os.environ.get("TENSORHUB_HTTP_CERT") or None
keyfile = os.environ.get("TENSORHUB_HTTP_KEY") or None
ca_certs = os.environ.get("TENSORHUB_HTTP_CLIENT_CA") or None
cert_reqs = ssl.CERT_REQUIRED if ca_certs else ssl.CERT_NONE

# Gunicorn's ASGI worker, with three repairs (see the module). Event loop and HTTP parser are the fast ones; it is an
# error if they are not there.
worker_class = "tensorhub.http.gunicorn_worker.Worker"
asgi_loop = "uvloop"
http_parser = "fast"
asgi_lifespan = "on"

# Each worker opens sockets and threads of its own, which do not survive a fork.
preload_app = False

# Names with underscores are names like others; Gunicorn drops them because WSGI could not tell them from hyphens.
header_map = "dangerous"

# Bodies have no limit here: the frontend streams them, and refuses what its options do not allow.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 16384

timeout = int(os.environ.get("TENSORHUB_HTTP_TIMEOUT", "60"))
graceful_timeout = int(os.environ.get("TENSORHUB_EXIT_TIMEOUT", "30"))

# Clients of an inference server hold on to their connections; setting up a new one costs more than a small request.
keepalive = 300
worker_connections = 10000
backlog = 1024

# A client that has gone has its request cancelled by the app at once; nothing is left to do after that.
asgi_disconnect_grace_period = 1

# No file is left anywhere: no control socket, no pid file, and the heartbeat file has no name (and stays in memory).
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

accesslog = None
errorlog = "-"
loglevel = os.environ.get("TENSORHUB_HTTP_LOG_LEVEL", "warning")
proc_name = "tensorhub-http"


def on_starting(server: Any) -> None:
    """Gunicorn's hook, in the master before it listens: end with the supervisor, and log as the server does."""
    if lifeline.follow_parent():
        _log_as_the_server_does()


def pre_fork(server: Any, worker: Any) -> None:
    """Gunicorn's hook, in the master before each fork: have as much as possible stay shared with the worker.

    PERF: a page stays shared until one of them writes to it. An import writes to many, so that of what only a worker
    needs is done here; and so does a collection, which looks at no object that is frozen. With one worker this saves
    3 MB of 46.
    """
    import uvloop  # noqa: F401

    import tensorhub.frontend.gateway  # noqa: F401

    hub_line.load_library()
    gc.collect()
    gc.freeze()


def post_fork(server: Any, worker: Any) -> None:
    """Gunicorn's hook, in each new worker process."""
    if lifeline.follow_parent(server.pid):
        _log_as_the_server_does()


def _log_as_the_server_does() -> None:
    logs.set_up(logs.from_environ(os.environ), "http")
    logs.adopt("gunicorn.error")
