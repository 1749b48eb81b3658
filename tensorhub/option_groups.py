"""The table of the server's options: Triton's by its names, defaults and groups, and our own. Pure.

Each field of a group is one option: its name with hyphens is the command line's, its default is the option's, and
`option` adds the kind of value and the text of the help. Parsing, help, the documentation and the hand-over to other
processes are all derived from these fields (`settings`). Source: `tritonserver --help` and command_line_parser.cc.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from tensorhub import option_kinds as kinds
from tensorhub.option_kinds import Kind, Pair, PerDevice, Resource, Restriction, Scoped

_NO_LIBRARIES = "backends, agents and caches are Python packages here, and no shared library is loaded"
_NO_POOLS = "memory is allocated as it is needed, and there is no pool"
_NO_CUDA_STATE = "states grow as they need to"
_EVENT_LOOP = "one event loop in each process serves all connections; see --http-workers and --grpc-workers"
_LATER = "this version does not have it yet"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line.

    Attributes:
        name: with hyphens.
        default: a value of its kind; a tuple of values if repeatable.
        ignored: why the option is accepted and has no effect; "" for one that has.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    repeatable: bool
    ignored: str

    def texts(self, value: Any) -> list[str]:
        """Return the value as the command line would give it: one text, or one for each item."""
        items = value if self.repeatable else (value,)
        return [self.kind.unparse(item) for item in items]


@dataclass(frozen=True, slots=True)
class Deprecated:
    """An old name: `replace(value)` gives the option that took its place and that one's text, None for no change."""

    name: str
    kind: Kind
    help: str
    replacement: str
    replace: Callable[[Any], str | None]
    repeatable: bool = False


def option(kind: Kind, default: Any, help_text: str, ignored: str = "") -> Any:
    """Declare an option; a tuple as the default means that it may be given several times."""
    return field(default=default, metadata={"kind": kind, "help": help_text, "ignored": ignored})


def options_of(group: type) -> list[Option]:
    """Return the options of one group, in the order of its fields."""
    found = []
    for item in fields(group):
        assert item.default is not MISSING
        found.append(
            Option(
                name=item.name.replace("_", "-"),
                kind=item.metadata["kind"],
                default=item.default,
                help=item.metadata["help"],
                repeatable=isinstance(item.default, tuple),
                ignored=item.metadata["ignored"],
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Server:
    """The server as a whole."""

    id: str = option(kinds.TEXT, "triton", "Name of this server, as its metadata tells it.")
    exit_timeout_secs: int = option(
        kinds.SECONDS, 30, "How long requests in flight may take to finish when the server stops."
    )
    run_dir: str = option(
        kinds.TEXT,
        "",
        "Directory in which the processes of this server find each other. One server, one directory. Default: "
        "TENSORHUB_RUN_DIR, else /run/tensorhub for root, else $XDG_RUNTIME_DIR/tensorhub, else /tmp/tensorhub-<uid>.",
    )
    config: str = option(
        kinds.TEXT, "", "TOML file with options by these names; the command line and the environment go first."
    )


@dataclass(frozen=True, slots=True)
class Logging:
    """What is logged, and where to."""

    log_verbose: int = option(kinds.LOG_LEVEL, 0, "Verbosity; 0 is none.")
    log_info: bool = option(kinds.BOOL, True, "Log what happens in the ordinary course.")
    log_warning: bool = option(kinds.BOOL, True, "Log warnings.")
    log_error: bool = option(kinds.BOOL, True, "Log errors.")
    log_format: str = option(
        kinds.choice("default", "ISO8601"), "default", "Form of the time and the severity of each line."
    )
    log_file: str = option(kinds.TEXT, "", "File that gets the log instead of standard error.")


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """Which models there are, and when they are loaded."""

    model_repository: tuple[str, ...] = option(
        kinds.TEXT, (), "Directory with one folder for each model. A model in two of them is not served."
    )
    exit_on_error: bool = option(kinds.BOOL, True, "Stop if a model cannot be loaded at the start.")
    disable_auto_complete_config: bool = option(
        kinds.FLAG, False, "Take every config.pbtxt as it is, and do not fill in what it leaves out."
    )
    strict_readiness: bool = option(
        kinds.BOOL, True, "The server is ready only if all its models are; false: as soon as it answers."
    )
    model_control_mode: str = option(
        kinds.choice("none", "poll", "explicit"),
        "none",
        "none: load all models at the start. poll: also follow changes of the repository. explicit: load --load-model "
        "at the start, and then what clients ask for.",
    )
    repository_poll_secs: int = option(kinds.SECONDS, 15, "Time between two looks at the repository in poll mode.")
    load_model: tuple[str, ...] = option(
        kinds.TEXT, (), "Model to load at the start in explicit mode; * alone loads all."
    )
    model_config_name: str = option(
        kinds.WORD, "", "Take configs/<name>.pbtxt of a model, where there is one, instead of its config.pbtxt."
    )
    model_load_thread_count: int = option(kinds.POSITIVE, 4, "How many models are loaded at the same time.")
    model_load_retry_count: int = option(kinds.COUNT, 0, "How often loading is tried again after a failure.")
    model_namespacing: bool = option(
        kinds.BOOL,
        False,
        "Let models of different repositories have the same name.",
        "model names are unique over all repositories",
    )
    enable_peer_access: bool = option(
        kinds.BOOL, True, "Let GPUs copy from each other.", "whether GPUs reach each other is left to the driver"
    )


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP endpoint."""

    allow_http: bool = option(kinds.BOOL, True, "Serve HTTP.")
    http_address: str = option(kinds.TEXT, "0.0.0.0", "Address to listen on.")
    http_port: int = option(kinds.PORT, 8000, "Port to listen on.")
    reuse_http_port: bool = option(kinds.BOOL, False, "Share the port with other servers that also say so.")
    http_header_forward_pattern: str = option(
        kinds.PATTERN, "", "Regular expression; headers whose names match become parameters of the request."
    )
    http_thread_count: int = option(kinds.POSITIVE, 8, "Threads that serve HTTP.", _EVENT_LOOP)
    http_max_input_size: int = option(
        kinds.integer(1, kinds.INT64_MAX, "bytes"),
        64 * 1024 * 1024,
        "Largest JSON part, tensor in JSON, raw request, or decompressed body. Binary tensors have no limit.",
    )
    http_restricted_api: tuple[Restriction, ...] = option(
        kinds.restriction("api"), (), "Serve these operations only if the request has this header with this value."
    )


@dataclass(frozen=True, slots=True)
class HttpTls:
    """Encryption of HTTP."""

    http_use_ssl: bool = option(kinds.BOOL, False, "Encrypt, with the certificate and key below.")
    http_use_ssl_mutual: bool = option(
        kinds.BOOL, False, "Also demand a certificate of the client; goes before --http-use-ssl."
    )
    http_server_cert: str = option(kinds.TEXT, "", "PEM file of the server's certificate, with its chain.")
    http_server_key: str = option(kinds.TEXT, "", "PEM file of the server's key, without a password.")
    http_root_cert: str = option(kinds.TEXT, "", "PEM file of the certificates that clients' are checked with.")


@dataclass(frozen=True, slots=True)
class Grpc:
    """The gRPC endpoint."""

    allow_grpc: bool = option(kinds.BOOL, True, "Serve gRPC.")
    grpc_address: str = option(kinds.TEXT, "0.0.0.0", "Address to listen on.")
    grpc_port: int = option(kinds.PORT, 8001, "Port to listen on.")
    reuse_grpc_port: bool = option(kinds.BOOL, False, "Share the port with other servers that also say so.")
    grpc_header_forward_pattern: str = option(
        kinds.PATTERN, "", "Regular expression; metadata whose keys match become parameters of the request."
    )
    grpc_infer_thread_count: int = option(kinds.integer(2, 128), 2, "Threads that serve inference.", _EVENT_LOOP)
    grpc_infer_allocation_pool_size: int = option(
        kinds.COUNT, 8, "Messages that are kept for reuse.", "messages are not pooled"
    )
    grpc_max_response_pool_size: int = option(
        kinds.POSITIVE,
        kinds.INT32_MAX,
        "Responses of one stream that may wait to be sent.",
        "how far a stream runs ahead of its client is bounded by flow control",
    )
    grpc_infer_response_compression_level: str = option(
        kinds.choice("none", "low", "medium", "high"), "none", "How much responses are compressed."
    )
    grpc_restricted_protocol: tuple[Restriction, ...] = option(
        kinds.restriction("protocol"),
        (),
        "Serve these operations only if the request has the metadata triton-grpc-protocol-<key> with this value.",
    )


@dataclass(frozen=True, slots=True)
class GrpcTls:
    """Encryption of gRPC."""

    grpc_use_ssl: bool = option(kinds.BOOL, False, "Encrypt, with the certificate and key below.")
    grpc_use_ssl_mutual: bool = option(kinds.BOOL, False, "Also demand a certificate of the client.")
    grpc_server_cert: str = option(kinds.TEXT, "", "PEM file of the server's certificate.")
    grpc_server_key: str = option(kinds.TEXT, "", "PEM file of the server's key.")
    grpc_root_cert: str = option(kinds.TEXT, "", "PEM file of the certificates that clients' are checked with.")


@dataclass(frozen=True, slots=True)
class GrpcConnection:
    """Life and death of gRPC connections."""

    grpc_keepalive_time: int = option(kinds.MILLISECONDS, 7_200_000, "Silence after which the server pings, in ms.")
    grpc_keepalive_timeout: int = option(kinds.MILLISECONDS, 20_000, "How long it waits for the answer, in ms.")
    grpc_keepalive_permit_without_calls: bool = option(kinds.BOOL, False, "Ping also when no call is running.")
    grpc_http2_max_pings_without_data: int = option(kinds.COUNT, 2, "Pings without data in between; 0 is any number.")
    grpc_http2_min_recv_ping_interval_without_data: int = option(
        kinds.MILLISECONDS, 300_000, "Least time between two pings of an idle client, in ms."
    )
    grpc_http2_max_ping_strikes: int = option(
        kinds.COUNT, 2, "Pings that may come too early before the connection is closed; 0 is any number."
    )
    grpc_max_connection_age: int = option(
        kinds.MILLISECONDS, 0, "Time after which a connection is closed, in ms; 0 is never."
    )
    grpc_max_connection_age_grace: int = option(
        kinds.MILLISECONDS, 0, "Time that its calls then have to finish, in ms; 0 is for ever."
    )


@dataclass(frozen=True, slots=True)
class Sagemaker:
    """The endpoint for SageMaker."""

    allow_sagemaker: bool = option(kinds.BOOL, False, "Serve SageMaker's endpoints: /ping, /invocations, /models.")
    sagemaker_port: int = option(kinds.PORT, 8080, "Port to listen on, at --http-address.")
    sagemaker_safe_port_range: str = option(kinds.PORT_RANGE, "", "Ports that the other endpoints may have.")
    sagemaker_thread_count: int = option(kinds.POSITIVE, 8, "Threads that serve it.", _EVENT_LOOP)


@dataclass(frozen=True, slots=True)
class VertexAi:
    """The endpoint for Vertex AI."""

    allow_vertex_ai: bool = option(
        kinds.BOOL,
        False,
        "Serve Vertex AI's endpoint, at the routes that AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE name. With "
        "AIP_MODE=PREDICTION the default is true, and that of --allow-http and --allow-grpc is false.",
    )
    vertex_ai_port: int = option(
        kinds.PORT, 8080, "Port to listen on, at --http-address. With AIP_HTTP_PORT that is the default."
    )
    vertex_ai_thread_count: int = option(kinds.POSITIVE, 8, "Threads that serve it.", _EVENT_LOOP)
    vertex_ai_default_model: str = option(
        kinds.TEXT, "", "Model of requests that name none; needed if there is more than one."
    )


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics for Prometheus."""

    allow_metrics: bool = option(kinds.BOOL, True, "Serve metrics.")
    allow_gpu_metrics: bool = option(kinds.BOOL, True, "Also those of GPUs.")
    allow_cpu_metrics: bool = option(kinds.BOOL, True, "Also those of the processor and the memory.")
    metrics_address: str = option(kinds.TEXT, "", "Address to listen on. Default: that of --http-address.")
    metrics_port: int = option(kinds.PORT, 8002, "Port to listen on.")
    metrics_interval_ms: float = option(
        kinds.real(1), 2000.0, "Least time between two looks at processor, memory and GPUs, in ms."
    )
    metrics_config: tuple[Pair, ...] = option(
        kinds.PAIR, (), "counter_latencies, summary_latencies, summary_quantiles or histogram_latencies."
    )


@dataclass(frozen=True, slots=True)
class Tracing:
    """Traces of requests."""

    trace_config: tuple[Scoped, ...] = option(
        kinds.scoped("mode", optional=True, scopes=("triton", "opentelemetry")),
        (),
        "level, rate, count or mode without a mode before it; triton,file and triton,log-frequency; "
        "opentelemetry,url and others.",
        _LATER,
    )


@dataclass(frozen=True, slots=True)
class Backend:
    """What runs the models."""

    backend_directory: str = option(
        kinds.TEXT, "/opt/tritonserver/backends", "Where backends' shared libraries are.", _NO_LIBRARIES
    )
    backend_config: tuple[Scoped, ...] = option(
        kinds.scoped("backend", optional=True), (), "Setting of one backend, or of all if it names none."
    )


@dataclass(frozen=True, slots=True)
class RepositoryAgent:
    """What prepares models before they are loaded."""

    repoagent_directory: str = option(
        kinds.TEXT, "/opt/tritonserver/repoagents", "Where agents' shared libraries are.", _NO_LIBRARIES
    )


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """The cache of responses."""

    cache_config: tuple[Scoped, ...] = option(
        kinds.scoped("cache", optional=False, scopes=("local", "redis")),
        (),
        "local,size=<bytes> switches it on.",
        _LATER,
    )
    cache_directory: str = option(
        kinds.TEXT, "/opt/tritonserver/caches", "Where caches' shared libraries are.", _NO_LIBRARIES
    )


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """The rate limiter."""

    rate_limit: str = option(
        kinds.choice("off", "execution_count"),
        "off",
        "execution_count: instances wait for the resources they name.",
        _LATER,
    )
    rate_limit_resource: tuple[Resource, ...] = option(
        kinds.RESOURCE, (), "How much there is of a resource, on one device or on each.", _LATER
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory and devices."""

    pinned_memory_pool_byte_size: int = option(kinds.BYTE_SIZE, 256 * 1024 * 1024, "Pinned memory.", _NO_POOLS)
    cuda_memory_pool_byte_size: tuple[PerDevice, ...] = option(
        kinds.per_device(kinds.BYTE_SIZE, "bytes"), (), "Memory of one GPU.", _NO_POOLS
    )
    cuda_virtual_address_size: tuple[PerDevice, ...] = option(
        kinds.per_device(kinds.BYTE_SIZE, "bytes"), (), "Addresses for states that grow.", _NO_CUDA_STATE
    )
    min_supported_compute_capability: float = option(
        kinds.real(0), 6.0, "GPUs below this are not used.", "the frameworks say which GPUs they support"
    )
    buffer_manager_thread_count: int = option(
        kinds.COUNT, 0, "Threads that copy tensors.", "tensors are not copied between threads"
    )
    host_policy: tuple[Scoped, ...] = option(
        kinds.scoped("policy", optional=False),
        (),
        "numa-node or cpu-cores of a policy.",
        "the processors of each process are chosen by whoever starts it, for instance with taskset",
    )
    model_load_gpu_limit: tuple[PerDevice, ...] = option(
        kinds.per_device(kinds.FRACTION, "fraction"),
        (),
        "No model is loaded on a GPU of which more than this is in use.",
        "loading fails when a GPU has no memory left",
    )


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Memory that clients share, and the server's own."""

    allow_client_shm: str = option(
        kinds.choice("auto", "true", "false"),
        "auto",
        "Who may register shared memory: auto: clients on this host; true: all; false: none.",
    )
    shm_allowed_uids: tuple[int, ...] = option(
        kinds.COUNT, (), "User whose segments may be registered, besides the one that the server runs as."
    )
    shm_scope: str = option(
        kinds.SHM_SCOPE,
        "global",
        "Whose regions a client sees. global: all have one set of names, as in Triton; header:NAME: those with the "
        "same value of this header or gRPC metadata; peer: those that connect from the same address.",
    )
    shm_socket: str = option(
        kinds.TEXT,
        "",
        "Path of a Unix socket over which clients register memory by file descriptor, without a name. Default: none.",
    )
    shm_max_regions: int = option(kinds.POSITIVE, 4096, "Most regions that are registered at a time.")
    shm_max_byte_size: int = option(
        kinds.integer(0, kinds.INT64_MAX, "bytes"), 0, "Most memory that is registered at a time; 0 is any amount."
    )
    shm_reap: bool = option(
        kinds.BOOL,
        False,
        "Unregister regions whose segment has been unlinked, or whose client has died, if it can be told.",
    )
    arena_byte_size: int = option(
        kinds.integer(1024 * 1024, kinds.INT64_MAX, "bytes"),
        1024**3,
        "Most memory that each process takes for tensors on their way; none is taken before it is needed.",
    )


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes there are."""

    workers: int = option(kinds.integer(1, 1024), 1, "Processes that run models on the processor.")
    gpu_workers: int = option(
        kinds.integer(0, 64),
        1,
        "Processes that run models on each GPU that is visible (CUDA_VISIBLE_DEVICES); 0: no GPU is used.",
    )
    http_workers: int = option(kinds.integer(1, 1024), 1, "Processes that serve HTTP.")
    grpc_workers: int = option(kinds.integer(1, 1024), 1, "Processes that serve gRPC.")
    grpc_engine: str = option(
        kinds.choice("auto", "reactor", "threads"),
        "auto",
        "reactor: the fast one; threads: gRPC's public server; auto: the fast one where it works.",
    )


def _unless_zero(value: int) -> str | None:
    return f"local,size={value}" if value else None


DEPRECATED: tuple[Deprecated, ...] = (
    Deprecated("model-store", kinds.TEXT, "--model-repository.", "model-repository", str, repeatable=True),
    Deprecated(
        "strict-model-config",
        kinds.BOOL,
        "true is --disable-auto-complete-config.",
        "disable-auto-complete-config",
        lambda value: "true" if value else None,
    ),
    Deprecated(
        "response-cache-byte-size", kinds.BYTE_SIZE, "--cache-config=local,size=<bytes>.", "cache-config", _unless_zero
    ),
    Deprecated(
        "trace-file", kinds.TEXT, "--trace-config=triton,file=<path>.", "trace-config", lambda v: f"triton,file={v}"
    ),
    Deprecated(
        "trace-level",
        kinds.TRACE_LEVEL,
        "--trace-config=level=<level>.",
        "trace-config",
        lambda v: f"level={v}",
        repeatable=True,
    ),
    Deprecated("trace-rate", kinds.COUNT, "--trace-config=rate=<rate>.", "trace-config", lambda v: f"rate={v}"),
    Deprecated(
        "trace-count",
        kinds.integer(-1, kinds.INT32_MAX),
        "--trace-config=count=<count>.",
        "trace-config",
        lambda v: f"count={v}",
    ),
    Deprecated(
        "trace-log-frequency",
        kinds.COUNT,
        "--trace-config=triton,log-frequency=<count>.",
        "trace-config",
        lambda v: f"triton,log-frequency={v}",
    ),
)
