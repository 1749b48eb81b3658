"""Classification: the classes of an output instead of the tensor, with and without labels."""

from __future__ import annotations

import struct

from ..messages import Parameter, grpc_infer, grpc_output, grpc_tensor, infer, infer_binary, output, tensor
from ..steps import Case, Http

_SERVER = "edges"
_VALUES = [0.5, 2.0, 1.0]


def _values(values: list[float]) -> list[dict[str, object]]:
    return [tensor("VALUES", "FP64", [len(values)], values)]


def _case(name: str, *steps: Http) -> Case:
    return Case(f"class-{name}", steps, server=_SERVER)


def _one(name: str, output_name: str, count: object, values: list[float] | None = None, **parameters: object) -> Case:
    """One output of `classes` as classes."""
    inputs = _values(_VALUES if values is None else values)
    return _case(name, infer("classes", inputs, [output(output_name, classification=count, **parameters)]))


def _rows(name: str, rows: list[list[float]], *outputs: object) -> Case:
    inputs = [tensor("VALUES", "FP32", [len(rows), len(rows[0])], rows)]
    return _case(f"batch-{name}", infer("classes_batch", inputs, list(outputs)))


def _grpc(name: str, output_name: str, values: list[float] | None = None, **parameters: Parameter) -> Case:
    given = _VALUES if values is None else values
    request = grpc_infer(
        "classes",
        [grpc_tensor("VALUES", "FP64", [len(given)])],
        [struct.pack(f"<{len(given)}d", *given)],
        [grpc_output(output_name, **parameters)],
    )
    return Case(f"class-{name}-grpc", (request,), server=_SERVER)


CASES = (
    *(_one(f"of-{name}", name, 2) for name in ("FP32", "FP64", "INT32", "INT64", "UINT8", "FP16", "BOOL")),
    *(_one(f"count-{count}", "FP32", count) for count in (1, 3, 4, 1000)),
    _one("count-huge", "FP32", 2**32),
    _one("count-largest", "FP32", 2**63 - 1),
    _one("count-beyond-64-bits", "FP32", 2**64),
    _one("count-negative", "FP32", -1),
    _one("count-float", "FP32", 1.5),
    _one("count-string", "FP32", "2"),
    _one("count-bool", "FP32", True),
    _one("count-null", "FP32", None),
    _one("more-than-labels", "FP32", 9, [1, 2, 3, 4, 5]),
    _one("odd-labels", "FP64", 9, [6, 5, 4, 3, 2, 1]),
    _one("equal-values", "FP32", 5, [1, 2, 2, 1, 2]),
    _one("all-equal", "INT32", 3, [7, 7, 7]),
    _one("negative-values", "FP32", 3, [-3, -1, -2]),
    _one("negative-integers", "INT32", 3, [-3, -1, -2]),
    _one("large-values", "FP32", 3, [1e30, -1e30, 3.4e38]),
    _one("large-doubles", "FP64", 2, [1e300, -1e300]),
    _one("small-values", "FP32", 3, [1e-7, 4e-7, 6e-7]),
    _one("rounding", "FP32", 4, [0.1, 0.7, 1 / 3, 2 / 3]),
    _one("infinities", "FP32", 3, [float("inf"), float("-inf"), 1.0]),
    _one("minus-zero", "FP32", 2, [-0.0, 0.0]),
    _one("large-integers", "INT64", 2, [2.0**53, -(2.0**53)]),
    _one("one-element", "FP32", 1, [4.0]),
    _one("binary", "FP32", 2, binary_data=True),
    _one("not-binary", "FP32", 2, binary_data=False),
    _one("binary-not-bool", "FP32", 2, binary_data=1),
    _case(
        "binary-by-default",
        infer("classes", _values(_VALUES), [output("FP32", classification=1)], parameters={"binary_data_output": True}),
    ),
    _case(
        "and-tensors",
        infer("classes", _values(_VALUES), [output("FP32", classification=2), output("INT32"), output("FP64")]),
    ),
    _case("two-outputs", infer("classes", _values(_VALUES), [output(n, classification=1) for n in ("FP32", "INT32")])),
    _case("of-unknown-output", infer("classes", _values(_VALUES), [output("OTHER", classification=1)])),
    _case("with-id", infer("classes", _values(_VALUES), [output("FP32", classification=1)], id="i")),
    _case(
        "of-binary-input",
        infer_binary(
            "classes",
            {
                "inputs": [tensor("VALUES", "FP64", [2], binary_data_size=16)],
                "outputs": [output("FP32", classification=2, binary_data=True)],
            },
            struct.pack("<2d", 1.0, 2.0),
        ),
    ),
    _case("too-large", infer("classes", [tensor("VALUES", "FP64", [2], [1, 2])], [output("FP32", classification=0)])),
    _rows("one-row", [[1, 3, 2]], output("ROW", classification=2)),
    _rows("two-rows", [[1, 3, 2], [9, 7, 8]], output("ROW", classification=2)),
    _rows("four-rows-all", [[1, 2]] * 4, output("ROW", classification=5)),
    _rows("of-table", [[1, 2], [4, 3]], output("TABLE", classification=3)),
    _rows("of-scalars", [[1, 2], [4, 3]], output("NUMBER", classification=1)),
    _rows("and-tensor", [[1, 2], [4, 3]], output("ROW", classification=1), output("NUMBER")),
    _rows("binary", [[1, 3, 2], [9, 7, 8]], output("ROW", classification=2, binary_data=True)),
    *(_grpc(f"of-{name}", name, classification=2) for name in ("FP32", "FP64", "INT64", "FP16", "BOOL")),
    _grpc("more-than-elements", "FP32", classification=9),
    _grpc("infinities", "FP32", [float("inf"), float("-inf"), 1.0], classification=3),
    _grpc("bool", "FP32", classification=True),
    _grpc("float", "FP32", classification=1.5),
)
