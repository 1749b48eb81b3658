"""Which workers are near to a request's tensors."""

from typing import Any

from tensorhub.frontend.routing import CPU, nearest, regions_named
from tensorhub.protocol import messages

DEVICES = {1: CPU, 2: "GPU-a", 3: "GPU-a", 4: "GPU-b"}


def _regions(**uuids: str) -> dict[str, Any]:
    return {name: messages.CudaRegion(name=name, uuid=uuid) for name, uuid in uuids.items()}


def test_the_regions_gpu_then_the_processor_then_anybody() -> None:
    regions = _regions(r="GPU-a", s="GPU-b")
    assert nearest((1, 2, 3, 4), DEVICES, regions, {"r"}) == [2, 3]
    assert nearest((1, 4), DEVICES, regions, {"r"}) == [1]
    assert nearest((4,), DEVICES, regions, {"r"}) == (4,)
    assert nearest((1, 2, 4), DEVICES, regions, {"s", "system"}) == [4]
    assert nearest((1, 2, 4), DEVICES, regions, {"system"}) == (1, 2, 4)
    assert nearest((1, 2, 4), DEVICES, regions, ()) == (1, 2, 4)


def test_regions_of_a_request() -> None:
    request = messages.ModelInferRequest(model_name="m")
    for index, region in enumerate(("a", "", "b")):
        tensor = request.inputs.add(name=str(index))
        if region:
            tensor.parameters["shared_memory_region"].string_param = region
    request.outputs.add(name="o").parameters["shared_memory_region"].string_param = "c"
    assert regions_named(request.SerializeToString()) == {"a", "b", "c"}
    assert regions_named(b"\xff\xff") == set()
