"""The tables of cases. A group is a module here and a file of `recorded/`; a new table is added to GROUPS."""

from __future__ import annotations

from ..steps import Case
from . import (
    bls,
    broken_models,
    classification,
    compression,
    control,
    datatypes,
    generate,
    guarded,
    hosting,
    http_json_errors,
    infer_binary,
    infer_errors,
    infer_grpc,
    infer_json,
    lifecycle,
    metadata,
    metadata_of_calls,
    model_errors,
    outputs,
    parameters,
    python_backend,
    repository_requests,
    routing,
    shapes,
    shared_memory,
    streaming,
    versions,
)

GROUPS: dict[str, tuple[Case, ...]] = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        metadata,
        routing,
        infer_json,
        infer_binary,
        infer_grpc,
        datatypes,
        shapes,
        outputs,
        parameters,
        infer_errors,
        http_json_errors,
        model_errors,
        versions,
        shared_memory,
        control,
        lifecycle,
        broken_models,
        streaming,
        classification,
        compression,
        guarded,
        hosting,
        repository_requests,
        bls,
        python_backend,
        generate,
        metadata_of_calls,
    )
}
