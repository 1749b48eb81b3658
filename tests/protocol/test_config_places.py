"""Where in a config.pbtxt an error means: a hint, so wrong is worse than none."""

import pytest

from tensorhub.protocol.config_places import Place, locate, split_place

_TEXT = """name: "m"
backend: "python"
max_batch_size: 4
input [
  { name: "A" data_type: TYPE_FP32 },
  { name: "B" data_type: TYPE_FP32 dims: [ 0 ] }
]
dynamic_batching { preferred_batch_size: [ 8 ] }
instance_group [ { kind: KIND_GPU } ]
output {
  name: "A"
  dims: -2 # of output { name: "B" dims: 1 }
  label_filename: 'l.txt'
}
output { name: "C", data_type: TYPE_INT32 dims: [ 1 ] }
"""


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("model input 'A' must specify 'dims' for m", Place(line=5, column=11, field="dims")),
        ("model input 'B' dimension must be integer >= 1", Place(line=6, column=36, field="dims")),
        ("'max_batch_size' must be non-negative value for m", Place(line=3, column=1, field="max_batch_size")),
        ("unable to find backend library for backend 'python', try", Place(line=2, column=10, field="backend")),
        (
            "dynamic batching preferred size must be <= max batch size for m",
            Place(line=8, column=20, field="preferred_batch_size"),
        ),
        ("instance group g_0 of model m has kind KIND_GPU", Place(line=9, column=1, field="instance_group")),
        ("unexpected directory name 'x' for model 'm'", Place()),
        ("'version_policy' is missing", Place(field="version_policy")),
        ("it is broken", Place()),
        ("model output 'A' must specify 'data_type' for m", Place(line=11, column=9, field="data_type")),
        ("model output 'A' dimension must be integer >= 1", Place(line=12, column=3, field="dims")),
        ("label file 'l.txt' of output 'A' is not there", Place(line=13, column=19, field="label_filename")),
        (
            "in ensemble m, ensemble tensor C: inconsistent data type: TYPE_INT32 is inferred from model m",
            Place(line=15, column=21, field="data_type"),
        ),
    ],
)
def test_places(message: str, place: Place) -> None:
    assert locate(_TEXT, message, "m") == place


@pytest.mark.parametrize(
    ("message", "place", "rest"),
    [
        ("m/config.pbtxt:3:5: no", Place("m/config.pbtxt", 3, 5), "no"),
        ("m/config.pbtxt:3: no: really", Place("m/config.pbtxt", 3), "no: really"),
        ("m/config.pbtxt:3:5: x (field 'dims')", Place("m/config.pbtxt", 3, 5, "dims"), "x (field 'dims')"),
        ("no place: at all", Place(), "no place: at all"),
    ],
)
def test_a_place_in_front_of_an_error(message: str, place: Place, rest: str) -> None:
    assert split_place(message) == (place, rest)
