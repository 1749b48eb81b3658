"""Builders of requests that the repository is asked with over HTTP."""

from __future__ import annotations

from .messages import post
from .steps import Http


def load(model: str, **parameters: object) -> Http:
    """A load; without a body if there are no parameters."""
    path = f"/v2/repository/models/{model}/load"
    return post(path, {"parameters": parameters}) if parameters else Http("POST", path)


def unload(model: str, dependents: bool | None = None) -> Http:
    """An unload; without a body if nothing is said of the models that only this one needs."""
    path = f"/v2/repository/models/{model}/unload"
    return Http("POST", path) if dependents is None else post(path, {"parameters": {"unload_dependents": dependents}})


def index(*models: str, body: bytes = b"") -> Http:
    """The index, of which only these models are compared."""
    return Http("POST", "/v2/repository/index", body, only=models)


def ready(model: str, version: str = "") -> Http:
    """Whether a model, or one version of it, is ready."""
    return Http("GET", f"/v2/models/{model}/versions/{version}/ready" if version else f"/v2/models/{model}/ready")


def adding_model(add: int, given: str = "INPUT0", made: str = "OUTPUT0") -> str:
    """The text of a Python model whose output is its input and `add`."""
    return f"""import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("{made}", pb_utils.get_input_tensor_by_name(request, "{given}").as_numpy() + {add})]
            )
            for request in requests
        ]
"""
