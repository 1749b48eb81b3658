"""The table of the server's options: Triton's by its names, defaults and groups, and our own. Pure.

Those of what listens are in `network_options`; see `option_table` for how they are declared. Source:
`tritonserver --help` and command_line_parser.cc.
"""

from dataclasses import dataclass

from tensorhub import option_kinds as kinds
from tensorhub.option_kinds import Pair, PerDevice, Resource, Scoped
from tensorhub.option_table import Deprecated, option

_NO_LIBRARIES = "backends, agents and caches are Python packages here, and no shared library is loaded"
_NO_POOLS = "memory is allocated as it is needed, and there is no pool"
_NO_CUDA_STATE = "states grow as they need to"


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
        "Let models of different repositories have the same name. A request for such a name is refused as long as "
        "several of them are loaded.",
    )
    enable_peer_access: bool = option(
        kinds.BOOL, True, "Let GPUs copy from each other.", "whether GPUs reach each other is left to the driver"
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
        kinds.real(1),
        2000.0,
        "Time between two updates of the gauges of processor, memory and GPUs, in ms. They are updated when somebody "
        "asks for the metrics and the last update is as old as that: a server that nobody asks does nothing.",
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
        "local,size=<bytes>: each worker keeps up to so many bytes of responses of models with response_cache. "
        "redis,host=<host> and redis,port=<port>: a Redis server keeps them for all (extra redis); also user, "
        "password, db, connect_timeout, socket_timeout, wait_timeout (ms), pool_size, tls_enabled, cert, key, cacert, "
        "cacert_dir, sni. TRITONCACHE_REDIS_USERNAME and TRITONCACHE_REDIS_PASSWORD stand for user and password.",
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
    )
    rate_limit_resource: tuple[Resource, ...] = option(
        kinds.RESOURCE, (), "How much there is of a resource, on one device or on each."
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory and devices."""

    pinned_memory_pool_byte_size: int = option(
        kinds.BYTE_SIZE,
        256 * 1024 * 1024,
        "Bytes of locked memory of each GPU worker, for tensors on their way to its GPU and back. 0: none.",
    )
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
        "Who may register shared memory, or have it made for outputs: auto: clients on this host; true: all; "
        "false: none.",
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
    shm_allocate_timeout_secs: int = option(
        kinds.POSITIVE, 30, "Seconds that a region which the server makes for an output waits for its client."
    )
    shm_max_regions: int = option(kinds.POSITIVE, 4096, "Most regions at a time: registered, or made for outputs.")
    shm_max_byte_size: int = option(
        kinds.integer(0, kinds.INT64_MAX, "bytes"),
        0,
        "Most memory at a time that is registered, or made for outputs; 0 is any amount.",
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
