"""What SageMaker and Vertex AI tell a container by its environment. Pure.

Both start a container with variables instead of arguments. Some of them change defaults of the command line, which
`vertex_defaults` gives; the rest says what the endpoints serve. Source: sagemaker_server.cc, vertex_ai_server.cc and
command_line_parser.cc of Triton's server.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_PREDICTION = "PREDICTION"
_INFERENCE_TYPES = ("infer", "generate", "generate_stream")


class HostingError(Exception):
    """A variable is missing or has a wrong value; the text is one line for the person who runs the container."""


@dataclass(frozen=True, slots=True)
class SagemakerEnvironment:
    """What the endpoint for SageMaker serves.

    Attributes:
        ping_mode: SAGEMAKER_TRITON_PING_MODE: "ready" or "live", what /ping tells.
        default_model: SAGEMAKER_TRITON_DEFAULT_MODEL_NAME, the model of /invocations.
        inference_type: SAGEMAKER_TRITON_INFERENCE_TYPE, what /invocations does: infer, generate, generate_stream.
    """

    ping_mode: str
    default_model: str
    inference_type: str

    @staticmethod
    def read(environ: Mapping[str, str]) -> "SagemakerEnvironment":
        """Read the variables.

        Raises:
            HostingError: one of them has a wrong value.
        """
        ping_mode = environ.get("SAGEMAKER_TRITON_PING_MODE", "ready")
        if ping_mode not in ("ready", "live"):
            raise HostingError(f"SAGEMAKER_TRITON_PING_MODE is ready or live, got: {ping_mode}")
        inference_type = environ.get("SAGEMAKER_TRITON_INFERENCE_TYPE", "infer")
        if inference_type not in _INFERENCE_TYPES:
            raise HostingError(
                f"Server has invalid inference type '{inference_type}'. Must be one of: {', '.join(_INFERENCE_TYPES)}. "
                "Set it by SAGEMAKER_TRITON_INFERENCE_TYPE"
            )
        return SagemakerEnvironment(
            ping_mode,
            environ.get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"),
            inference_type,
        )


@dataclass(frozen=True, slots=True)
class VertexEnvironment:
    """Where the endpoint for Vertex AI serves: the paths of AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE."""

    predict_route: str
    health_route: str

    @staticmethod
    def read(environ: Mapping[str, str]) -> "VertexEnvironment":
        """Read the variables.

        Raises:
            HostingError: one of them is missing.
        """
        routes = []
        for name in ("AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"):
            if not environ.get(name):
                raise HostingError(f"{name} is not defined for Vertex AI endpoint")
            routes.append(environ[name])
        return VertexEnvironment(*routes)


def vertex_defaults(environ: Mapping[str, str], *, has_repository: bool) -> Iterator[tuple[str, str, str]]:
    """Yield (option, value, variable) for the options whose defaults Vertex AI's variables change.

    Args:
        environ: the environment.
        has_repository: a model repository was given, so that AIP_STORAGE_URI does not count.
    """
    if environ.get("AIP_MODE") == _PREDICTION:
        for option, value in (("allow-vertex-ai", "true"), ("allow-http", "false"), ("allow-grpc", "false")):
            yield option, value, "AIP_MODE"
    if environ.get("AIP_HTTP_PORT"):
        yield "vertex-ai-port", environ["AIP_HTTP_PORT"], "AIP_HTTP_PORT"
    if environ.get("AIP_STORAGE_URI") and not has_repository:
        yield "model-repository", environ["AIP_STORAGE_URI"], "AIP_STORAGE_URI"
