"""Readiness, metadata and configuration: answered from the catalog."""

from collections.abc import Sequence
from typing import Any

from tensorhub.errors import InvalidArgument, NotFound, Unavailable
from tensorhub.frontend.catalog import LATEST, Catalog, ServedVersion, parse_version
from tensorhub.protocol import messages, metadata
from tensorhub.version import VERSION

_ServerLiveResponse = messages.message_class("inference.ServerLiveResponse")
_ServerReadyResponse = messages.message_class("inference.ServerReadyResponse")
_ModelReadyResponse = messages.message_class("inference.ModelReadyResponse")
_ModelConfigResponse = messages.message_class("inference.ModelConfigResponse")


def server_live(catalog: Catalog, request: Any) -> Any:
    catalog.check_serving()
    return _ServerLiveResponse(live=catalog.live)


def asked_for_server(catalog: Catalog, request: Any) -> Sequence[int]:
    """Return the loads that have to be asked whether the server is ready."""
    return catalog.asked_when_ready if catalog.ready else ()


def server_ready(catalog: Catalog, request: Any, agreed: bool) -> Any:
    catalog.check_serving()
    return _ServerReadyResponse(ready=catalog.ready and agreed)


def asked_for_model(catalog: Catalog, request: Any) -> Sequence[int]:
    """Return the load that has to be asked whether the model is ready."""
    served = _maybe_served(catalog, request)
    return () if served is None or not served.asks_ready else (served.load_id,)


def model_ready(catalog: Catalog, request: Any, agreed: bool) -> Any:
    """A model that is unknown or not loaded is not ready, and that is no error (Triton 2.51)."""
    return _ModelReadyResponse(ready=_maybe_served(catalog, request) is not None and agreed)


def _maybe_served(catalog: Catalog, request: Any) -> ServedVersion | None:
    catalog.check_serving()
    version = parse_version(request.version)
    try:
        return catalog.find(request.name, version)
    except (InvalidArgument, NotFound, Unavailable):
        return None


def server_metadata(catalog: Catalog, request: Any) -> Any:
    catalog.check_connected()
    return metadata.server_metadata_message(
        catalog.settings.get("id", "triton"), VERSION, metadata.extensions(catalog.settings)
    )


def model_metadata(catalog: Catalog, request: Any) -> Any:
    version = parse_version(request.version)
    served = catalog.find(request.name, version)
    versions = catalog.ready_versions(request.name) if version == LATEST else [version]
    return metadata.model_metadata_message(served.config, versions)


def model_config(catalog: Catalog, request: Any) -> Any:
    return _ModelConfigResponse(config=catalog.find(request.name, parse_version(request.version)).config)
