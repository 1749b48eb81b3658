"""Look-ups with --model-namespacing, in Triton's words."""

from typing import Any

import pytest

from tensorhub.errors import InvalidArgument, NotFound
from tensorhub.frontend.catalog import Catalog
from tensorhub.protocol import messages


def _catalog(*models: tuple[str, str, bool]) -> Catalog:
    """Return a catalog of (namespace, name, loaded)."""
    snapshot: Any = messages.Snapshot(revision=1, started=True, settings={"model-namespacing": "true"})
    for number, (namespace, name, loaded) in enumerate(models, 1):
        model = snapshot.models.add(name=name, namespace=namespace, wanted=loaded, known=True)
        model.versions.add(model=name, version=1, state="READY" if loaded else "UNAVAILABLE", load_id=number)
    return Catalog(snapshot)


def test_a_name_of_several_loaded_models_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="There are 2 identifiers of model 'm' in global map"):
        _catalog(("/a", "m", True), ("/b", "m", True)).find("m")


def test_the_one_that_is_loaded_is_meant() -> None:
    catalog = _catalog(("/a", "m", False), ("/b", "m", True), ("", "other", True))
    assert catalog.find("m").load_id == 2
    assert catalog.find("m", 1).load_id == 2
    assert catalog.ready_versions("m") == [1]
    assert catalog.find("other").load_id == 3
    assert catalog.ready_versions("nobody") == []


def test_what_is_not_there() -> None:
    with pytest.raises(NotFound, match="Identifier of model 'm' is not found in global map"):
        _catalog(("/a", "m", False), ("/b", "m", False)).find("m")
    with pytest.raises(InvalidArgument, match="Request for unknown model: 'x' is not found"):
        _catalog().find("x")
