"""OpenAPI documents: complete beside the routes, sound as schemas, and right about a model's tensors."""

import json
from typing import Any

import jsonschema_rs
import pytest

from tensorhub.http.routes import generate_target, infer_target, routes
from tensorhub.protocol import openapi, openapi_model
from tensorhub.protocol.model_config import complete, parse_text
from tensorhub.protocol.openapi_schemas import COMPONENTS
from tensorhub.restrictions import Category, Restrictions

_NONE = Restrictions.parse("")
_UNDESCRIBED = ("openapi", "/v2/docs")
"""Parts of patterns that describe the interface and are none of it."""

_CONFIG = """
name: "m" backend: "python" max_batch_size: 8
input [
  { name: "NUMBERS" data_type: TYPE_INT8 dims: [ 2, -1 ] },
  { name: "HALF" data_type: TYPE_FP16 dims: [ 1 ] optional: true },
  { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] }
]
output [ { name: "OUT" data_type: TYPE_BOOL dims: [ 1 ] } ]
"""


def _config(text: str) -> Any:
    return complete(parse_text(text, "config.pbtxt"), name="m", files=["model.py"])


def _server(models: list[str], restrictions: Restrictions = _NONE) -> Any:
    return openapi.server_document("name", "1.2", models, restrictions, openapi.OPERATIONS)


def _model(text: str = _CONFIG) -> Any:
    config = _config(text)
    return openapi.model_document(
        "m",
        "1",
        _NONE,
        openapi_model.model_components(config),
        openapi_model.example_request(config),
        described=openapi_model.describe(config),
    )


def _samples(path: str) -> str:
    return path.replace("{model}", "m").replace("{version}", "1").replace("{region}", "r")


def test_each_operation_has_a_route_that_serves_its_method() -> None:
    for operation in openapi.OPERATIONS:
        for path in map(_samples, operation.paths):
            if infer_target(path.encode()) or generate_target(path.encode()):
                continue
            found = [route for route in routes() if route.pattern.fullmatch(path)]
            assert found, path
            assert operation.method in found[0].responders, operation
            assert found[0].resource.category is operation.category, operation


def test_each_route_is_described_with_all_its_methods() -> None:
    described = {(operation.method, _samples(path)) for operation in openapi.OPERATIONS for path in operation.paths}
    for route in routes():
        if any(part in route.pattern.pattern for part in _UNDESCRIBED):
            continue
        methods = {method for method, path in described if route.pattern.fullmatch(path)}
        assert methods == set(route.responders), route.pattern.pattern


def test_each_operation_has_a_name_of_its_own() -> None:
    document = _server(["m"])
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


def test_the_documents_are_json_and_their_references_lead_somewhere() -> None:
    for document in (_server(["a", "b"]), _server([]), _model()):
        text = json.dumps(document)
        for name in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
            assert name in document["components"]["schemas"], name


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_each_component_is_a_schema(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **COMPONENTS[name]})


def test_models_are_there_to_choose_from() -> None:
    document = _server(["b", "a"])
    [parameter] = document["paths"]["/v2/models/{model}"]["get"]["parameters"]
    assert parameter["schema"]["enum"] == document["x-models"] == ["a", "b"]
    assert "enum" not in _server([])["paths"]["/v2/models/{model}"]["get"]["parameters"][0]["schema"]


def test_restricted_operations_name_their_header() -> None:
    document = _server([], Restrictions.parse("inference,model-config:X-Key=secret"))
    assert document["components"]["securitySchemes"] == {"X-Key": {"type": "apiKey", "in": "header", "name": "X-Key"}}
    assert document["paths"]["/v2/models/{model}/infer"]["post"]["security"] == [{"X-Key": []}]
    assert "security" not in document["paths"]["/v2"]["get"]
    assert "secret" not in json.dumps(document)
    assert "securitySchemes" not in _server([])["components"]


def test_every_category_has_operations() -> None:
    assert {operation.category for operation in openapi.OPERATIONS} == set(Category)


def _tensor(name: str, datatype: str, shape: list[int], data: object = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape} | ({} if data is None else {"data": data})


_TEXT = _tensor("TEXT", "BYTES", [1, 1], ["a"])


@pytest.mark.parametrize(
    ("inputs", "fits"),
    [
        ([_tensor("NUMBERS", "INT8", [1, 2, 3], [0] * 6), _TEXT], True),
        ([_TEXT, _tensor("NUMBERS", "INT8", [8, 2, 0], [])], True),
        ([_tensor("NUMBERS", "INT8", [1, 2, 1], [[[127], [-128]]]), _TEXT], True),
        ([_tensor("NUMBERS", "INT8", [1, 2, 1], [0, 0]), _TEXT, _tensor("HALF", "FP16", [1, 1])], True),
        ([_tensor("NUMBERS", "INT8", [1, 2, 1], [0, 128]), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [1, 2, 1], [0, 0.5]), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [9, 2, 1], []), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [0, 2, 1], []), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [1, 3, 1], []), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [1, 2], []), _TEXT], False),
        ([_tensor("NUMBERS", "INT16", [1, 2, 1], []), _TEXT], False),
        ([_tensor("NUMBERS", "INT8", [1, 2, 1], [0, 0])], False),
        ([_tensor("OTHER", "INT8", [1, 2, 1], [0, 0]), _TEXT], False),
    ],
)
def test_a_model_s_request_has_its_tensors(inputs: list[Any], fits: bool) -> None:
    document = _model()
    schema = {**document["components"]["schemas"]["InferRequest"], "components": document["components"]}
    assert jsonschema_rs.Draft202012Validator(schema).is_valid({"inputs": inputs}) is fits


def test_paths_of_a_model_have_its_name() -> None:
    paths = _model()["paths"]
    assert "/v2/models/m/infer" in paths
    assert all("{model}" not in path for path in paths)
    assert [item["name"] for item in paths["/v2/models/m/versions/{version}/ready"]["get"]["parameters"]] == ["version"]


def test_the_example_of_a_model() -> None:
    assert openapi_model.example_request(_config(_CONFIG)) is None, "JSON cannot carry FP16"
    config = _config(_CONFIG.replace("TYPE_FP16", "TYPE_FP32"))
    example = openapi_model.example_request(config)
    assert example is not None
    assert [tensor["data"] for tensor in example["inputs"]] == [[0, 0], [0.0], ["text"]]
    assert [tensor["shape"] for tensor in example["inputs"]] == [[1, 2, 1], [1, 1], [1, 1]]
    assert openapi_model.example_request(_config(_CONFIG.replace("2, -1", "224, 224"))) is None


def test_a_model_without_inputs_and_one_without_batches() -> None:
    text = 'name: "m" backend: "python" max_batch_size: 0 output [ { name: "O" data_type: TYPE_FP32 dims: [ 1 ] } ]'
    document = _model(text)
    assert document["info"]["description"] == "A model of the backend python, which does not batch."
    jsonschema_rs.meta.validate(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **document["components"]["schemas"]["InferRequest"]}
    )


def test_the_example_of_a_model_with_sequences_is_a_whole_sequence() -> None:
    for datatype, correlation_id in (("TYPE_UINT64", 1), ("TYPE_STRING", "one")):
        config = _config(
            f"""
            backend: "python"
            input {{ name: "A" data_type: TYPE_INT32 dims: 1 }}
            output {{ name: "B" data_type: TYPE_INT32 dims: 1 }}
            sequence_batching {{
              control_input {{ name: "C" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: {datatype} }} }}
            }}
            """
        )
        example = openapi_model.example_request(config)
        assert example is not None
        assert example["parameters"] == {"sequence_id": correlation_id, "sequence_start": True, "sequence_end": True}
