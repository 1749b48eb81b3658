"""The HTTP interface as an OpenAPI 3.1 document: the whole server's, and one for each model with its tensors. Pure.

OPERATIONS is the table of the interface; documents, tests and the page on the protocol are made of it or checked with
it. A document names the models of the moment, and for restricted operations the header that they need.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorhub.protocol.openapi_schemas import COMPONENTS, Schema, reference
from tensorhub.restrictions import Category, Restrictions

OPENAPI_VERSION = "3.1.0"

JSON = "application/json"
EVENTS = "text/event-stream"
_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        body: component of the request's body; "" for none.
        body_required: a request without it is an error.
        answer: component of the answer; "" for an empty one.
        versioned: the path may have /versions/{version} behind the model.
    """

    category: Category
    method: str
    path: str
    summary: str
    answer: str = ""
    body: str = ""
    body_required: bool = False
    versioned: bool = False
    answer_type: str = JSON

    @property
    def paths(self) -> tuple[str, ...]:
        """With and without the version."""
        if not self.versioned:
            return (self.path,)
        return (self.path, self.path.replace("{model}", "{model}/versions/{version}"))


_MODEL = "/v2/models/{model}"
_LOAD = "/v2/repository/models/{model}/"


def _regions(kind: str, word: str, schema: str) -> Iterator[Operation]:
    root, one = f"/v2/{kind}sharedmemory", f"/v2/{kind}sharedmemory/region/{{region}}"
    memory = Category.SHARED_MEMORY
    yield Operation(memory, "GET", f"{root}/status", f"All registered regions of {word} shared memory", schema + "s")
    yield Operation(memory, "GET", f"{one}/status", f"One registered region of {word} shared memory", schema + "s")
    yield Operation(
        memory,
        "POST",
        f"{one}/register",
        f"Register a region of {word} shared memory",
        body=schema,
        body_required=True,
    )
    yield Operation(memory, "POST", f"{one}/unregister", f"Unregister a region of {word} shared memory")
    yield Operation(memory, "POST", f"{root}/unregister", f"Unregister all regions of {word} shared memory")


OPERATIONS: tuple[Operation, ...] = (
    Operation(Category.HEALTH, "GET", "/v2/health/live", "Is the server alive?"),
    Operation(Category.HEALTH, "GET", "/v2/health/ready", "Is the server ready?"),
    Operation(Category.HEALTH, "GET", _MODEL + "/ready", "Is a model ready?", versioned=True),
    Operation(Category.METADATA, "GET", "/v2", "Name, version and extensions of the server", "ServerMetadata"),
    Operation(Category.METADATA, "GET", _MODEL, "Inputs and outputs of a model", "ModelMetadata", versioned=True),
    Operation(
        Category.MODEL_CONFIG, "GET", _MODEL + "/config", "Configuration of a model", "ModelConfig", versioned=True
    ),
    Operation(
        Category.INFERENCE,
        "POST",
        _MODEL + "/infer",
        "Run a model",
        "InferResponse",
        "InferRequest",
        body_required=True,
        versioned=True,
    ),
    Operation(
        Category.INFERENCE,
        "POST",
        _MODEL + "/generate",
        "Run a model, with its tensors as members of one object",
        "GenerateResponse",
        "GenerateRequest",
        body_required=True,
        versioned=True,
    ),
    Operation(
        Category.INFERENCE,
        "POST",
        _MODEL + "/generate_stream",
        "The same, with any number of answers as server-sent events",
        "GenerateResponse",
        "GenerateRequest",
        body_required=True,
        versioned=True,
        answer_type=EVENTS,
    ),
    Operation(Category.STATISTICS, "GET", "/v2/models/stats", "Statistics of all models", "Statistics"),
    Operation(Category.STATISTICS, "GET", _MODEL + "/stats", "Statistics of a model", "Statistics", versioned=True),
    Operation(
        Category.MODEL_REPOSITORY, "POST", "/v2/repository/index", "The models there are", "Index", "IndexRequest"
    ),
    Operation(Category.MODEL_REPOSITORY, "POST", _LOAD + "load", "Load a model, or load it again", body="LoadRequest"),
    Operation(Category.MODEL_REPOSITORY, "POST", _LOAD + "unload", "Unload a model", body="UnloadRequest"),
    *_regions("system", "system", "SystemRegion"),
    *_regions("cuda", "CUDA", "CudaRegion"),
    Operation(Category.TRACE, "GET", "/v2/trace/setting", "How requests are traced", "TraceSettings"),
    Operation(
        Category.TRACE, "POST", "/v2/trace/setting", "Change it", "TraceSettings", "TraceSetting", body_required=True
    ),
    Operation(Category.TRACE, "GET", _MODEL + "/trace/setting", "How requests of a model are traced", "TraceSettings"),
    Operation(
        Category.TRACE,
        "POST",
        _MODEL + "/trace/setting",
        "Change it",
        "TraceSettings",
        "TraceSetting",
        body_required=True,
    ),
    Operation(Category.LOGGING, "GET", "/v2/logging", "What is logged", "LogSettings"),
    Operation(Category.LOGGING, "POST", "/v2/logging", "Change it", "LogSettings", "LogSetting", body_required=True),
)
"""Every operation that a client may want. The page and the documents themselves are not among them."""

_HEADINGS = {category: category.value.replace("-", " ").capitalize() for category in Category}

_PARAMETERS: dict[str, Schema] = {
    "model": {"type": "string", "minLength": 1, "pattern": "^[^/?#%]+$"},
    "version": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    "region": {"type": "string", "minLength": 1, "pattern": "^[^/?#%]+$"},
}


def server_document(
    name: str, version: str, models: Iterable[str], restrictions: Restrictions, operations: Iterable[Operation]
) -> dict[str, Any]:
    """Return the document of a server.

    Args:
        name: --id.
        version: of the server.
        models: the names to choose from; the member `x-models` has them too.
        restrictions: which header which operation needs.
        operations: OPERATIONS, or some of them.
    """
    names = sorted(models)
    model = {**_PARAMETERS["model"], "enum": names} if names else _PARAMETERS["model"]
    document = _document(
        {
            "title": name,
            "version": version,
            "description": "The inference protocol KServe v2 with Triton's extensions.",
        },
        operations,
        {**_PARAMETERS, "model": model},
        restrictions,
        COMPONENTS,
    )
    return {**document, "x-models": names}


def model_document(
    model: str,
    version: str,
    restrictions: Restrictions,
    components: Mapping[str, Schema],
    example: Any,
    *,
    described: str,
) -> dict[str, Any]:
    """Return the document of one model.

    Args:
        model: its name.
        version: that it describes.
        restrictions: which header which operation needs.
        components: schemas that are this model's own, by names of COMPONENTS.
        example: a request of it, if there is one to show.
        described: a sentence about it.
    """
    operations = [operation for operation in OPERATIONS if operation.path.startswith(_MODEL)]
    document = _document(
        {"title": model, "version": version, "description": described},
        operations,
        _PARAMETERS,
        restrictions,
        {**COMPONENTS, **components},
    )
    document["paths"] = {path.replace("{model}", model): item for path, item in document["paths"].items()}
    for item in document["paths"].values():
        for operation in item.values():
            operation["parameters"] = [entry for entry in operation["parameters"] if entry["name"] != "model"]
            body = operation.get("requestBody", {}).get("content", {}).get(JSON)
            if body is not None and example is not None and body["schema"] == reference("InferRequest"):
                body["example"] = example
    return document


def _document(
    info: dict[str, str],
    operations: Iterable[Operation],
    parameters: Mapping[str, Schema],
    restrictions: Restrictions,
    components: Mapping[str, Schema],
) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, Schema] = {}
    headings = set()
    for operation in operations:
        headings.add(_HEADINGS[operation.category])
        key = restrictions.key(operation.category)
        if key is not None:
            used[key] = {"type": "apiKey", "in": "header", "name": key}
        for path in operation.paths:
            described = _operation(operation, path, parameters)
            if key is not None:
                described["security"] = [{key: []}]
            paths.setdefault(path, {})[operation.method.lower()] = described
    document: dict[str, Any] = {
        "openapi": OPENAPI_VERSION,
        "info": info,
        "tags": [{"name": heading} for heading in _HEADINGS.values() if heading in headings],
        "paths": paths,
        "components": {"schemas": dict(components)},
    }
    if used:
        document["components"]["securitySchemes"] = used
    return document


def _operation(operation: Operation, path: str, parameters: Mapping[str, Schema]) -> dict[str, Any]:
    words = [word.strip("{}") for word in path.split("/") if word and word != "v2"]
    described: dict[str, Any] = {
        "tags": [_HEADINGS[operation.category]],
        "summary": operation.summary,
        "operationId": "-".join([operation.method.lower(), *words]),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in parameters.items()
            if f"{{{name}}}" in path
        ],
        "responses": _responses(operation),
    }
    if operation.body:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {JSON: {"schema": reference(operation.body)}},
        }
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    if operation.answer_type == EVENTS:
        good["content"] = {EVENTS: {"schema": {"type": "string"}}}
    elif operation.answer:
        good["content"] = {operation.answer_type: {"schema": reference(operation.answer)}}
    if operation.answer == "InferResponse":
        good["content"][_BINARY] = {"schema": {"type": "string", "format": "binary"}}
    error = {"description": "Refused, with the reason.", "content": {JSON: {"schema": reference("Error")}}}
    responses = {"200": good, "4XX": error, "5XX": error}
    if operation.category is Category.HEALTH:
        responses["400"] = {"description": "No."}
    return responses
