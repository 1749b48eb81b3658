"""What the hub tells of the models that it knows: the repository index, and which loads serve. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.hub.loads import Load
from tensorhub.hub.models import Model, progress_text
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name

DUPLICATE = "model appears in two or more repositories"
"""Triton's reason of a model that several repositories have."""


def served(models: Mapping[str, Model], name: str, number: int) -> list[Load]:
    """Return the loads that serve a model, in the order of names and versions.

    Args:
        name: of a model, "" for all of every model; `number`: of a version, -1 for all.

    Raises:
        InvalidArgument: the model, or that version of it, is not served.
    """
    if not name:
        chosen, number = [models[key] for key in sorted(models)], -1
    elif name in models and any(item.current for item in models[name].versions.values()):
        chosen = [models[name]]
    else:
        raise InvalidArgument(f"requested model '{name}' is not available")
    loads = [
        version.current
        for model in chosen
        for _, version in sorted(model.versions.items())
        if version.current is not None and number in (-1, version.number)
    ]
    if number != -1 and not loads:
        raise InvalidArgument(f"requested model version is not available for model '{name}'")
    return loads


def index(
    models: Mapping[str, Model],
    names: Collection[str],
    duplicates: Collection[str],
    pids: Mapping[str, int],
    now_ns: int,
) -> list[Any]:
    """Every model of the repositories and its versions, as `tensorhub.wire.ModelVersion`; version 0 for none.

    Args:
        names: the models of the repositories, loaded or not. Others are not shown, as in Triton.
        duplicates: those of them that are in several repositories.
        pids: of the workers, by name.
    """
    entries = []
    for name in sorted(names):
        model = models.get(name)
        if name in duplicates:
            entries.append(messages.ModelVersion(model=name, state="UNAVAILABLE", reason=DUPLICATE))
        elif model is None or not (model.known or model.versions):
            entries.append(messages.ModelVersion(model=bare_name(name)))
        else:  # nothing at all for a model without a version, as in Triton
            for version in model.versions.values():
                entry = version.show(bare_name(name), pids)
                if version.current is None and version.incoming is not None:
                    entry.reason = progress_text(version.incoming, now_ns)
                entries.append(entry)
    return entries
