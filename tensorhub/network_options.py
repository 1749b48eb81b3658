"""The options of what listens: HTTP, gRPC, and the endpoints of hosting services. Pure.

See `option_table` for how they are declared. Source: `tritonserver --help` and command_line_parser.cc.
"""

from dataclasses import dataclass

from tensorhub import option_kinds as kinds
from tensorhub.option_kinds import Restriction
from tensorhub.option_table import option

_EVENT_LOOP = "one event loop in each process serves all connections; see --http-workers and --grpc-workers"


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
