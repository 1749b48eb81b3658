"""What `tensorhub serve` tells a person while it starts: how far loading is, and what came of it."""

import logging
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TextIO

from tensorhub.cli.program import own_name
from tensorhub.cli.startup import Endpoint, ModelRow, loading_line, startup_table
from tensorhub.frontend.catalog import Catalog, CatalogModel
from tensorhub.hub.ports import hosted_address, hosted_endpoints, http_address, joined
from tensorhub.settings import Settings, metrics_address

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LAST_PAUSE_S = 5.0, 60.0
"""Between two lines of the log; each is twice as long as the one before."""

_LOG_COLUMNS = 400

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Progress:
    """How far loading is: a line that is written over itself on a terminal; elsewhere one in the log now and then.

    Attributes:
        due_s: when the log is to have its next line, on the clock of `now_s`; never on a terminal.
    """

    def __init__(self, stream: TextIO, now_s: float) -> None:
        self._stream = stream
        self._shown = False
        self._pause_s = _FIRST_PAUSE_S
        self.due_s = float("inf") if stream.isatty() else now_s + self._pause_s

    def show(self, catalog: Catalog, now_s: float) -> None:
        """Tell how far it is, if it is time to."""
        if now_s < self.due_s and not self._stream.isatty():
            return
        wanted = [model for model in catalog.models.values() if model.wanted]
        loading = [_being_loaded(model) for model in wanted if not _is_settled(model)]
        done, total = len(wanted) - len(loading), len(wanted)
        if not self._stream.isatty():
            log.info("%s", loading_line(done, total, loading, columns=_LOG_COLUMNS).rstrip())
            self._pause_s = min(2 * self._pause_s, _LAST_PAUSE_S)
            self.due_s = now_s + self._pause_s
            return
        line = loading_line(done, total, loading, columns=shutil.get_terminal_size().columns)
        tell(self._stream, "\r" + line)
        self._shown = True

    def end(self) -> None:
        """Remove the line, and write no more to the log."""
        self.due_s = float("inf")
        if self._shown:
            tell(self._stream, "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
            self._shown = False


def show_outcome(settings: Settings, models: Collection[CatalogModel], *, failed: bool, stream: TextIO) -> None:
    """Write the table of the start: what became of each model and, unless it has failed, where the server is."""
    rows = model_rows(models)
    ready = next((row.name for row in rows if row.state == "READY"), "")
    table = startup_table(
        rows,
        [] if failed else endpoints(settings),
        next_command="" if failed else next_command(settings, ready, own_name()),
        columns=shutil.get_terminal_size().columns,
        colour=stream.isatty(),
    )
    tell(stream, table)


def tell(stream: TextIO, text: str) -> None:
    """Write for a person. If nobody reads it any more, or there is no room for it, the server goes on all the same."""
    with suppress(OSError):
        stream.write(text)
        stream.flush()


def _being_loaded(model: CatalogModel) -> str:
    """Return the name and, if it takes long, what is being done."""
    steps = (version.reason.removeprefix("loading: ") for version in model.versions.values() if not version.ready)
    step = next(filter(None, steps), "")
    return f"{model.name} ({step})" if step else model.name


def _is_settled(model: CatalogModel) -> bool:
    states = [version.state for version in model.versions.values()]
    return bool(model.reason) or (bool(states) and all(state in ("READY", "UNAVAILABLE") for state in states))


def has_failed(model: CatalogModel) -> bool:
    """Whether a model that should be served is not, or not in all its versions, and nobody is loading it."""
    if not model.wanted or any(version.state == "LOADING" for version in model.versions.values()):
        return False
    return not model.ready_versions or not all(
        version.ready or version.reason == "unloaded" for version in model.versions.values()
    )


def model_rows(models: Iterable[CatalogModel]) -> list[ModelRow]:
    """Return a row for each version, by name and number, and one for each model that has none."""
    rows = []
    for model in sorted(models, key=lambda item: item.name):
        if model.versions:
            rows += [
                ModelRow(model.name, str(number), version.state, version.reason)
                for number, version in sorted(model.versions.items())
            ]
        elif model.wanted or model.reason:
            rows.append(ModelRow(model.name, "", "UNAVAILABLE", model.reason))
        else:
            rows.append(ModelRow(model.name, "", ""))
    return rows


def endpoints(settings: Settings) -> list[Endpoint]:
    """Return the addresses that the server listens on."""
    found = []
    if settings.http.allow_http:
        found.append(Endpoint("HTTP", http_address(settings)))
    place = hosted_address(settings)
    found += [Endpoint(name, joined(place, port)) for name, _, port in hosted_endpoints(settings)]
    if settings.grpc.allow_grpc:
        found.append(Endpoint("gRPC", joined(settings.grpc.grpc_address, settings.grpc.grpc_port)))
    if settings.metrics.allow_metrics:
        found.append(Endpoint("Metrics", joined(metrics_address(settings), settings.metrics.metrics_port)))
    return found


def next_command(settings: Settings, ready_model: str, program: str = "tensorhub") -> str:
    """Return what a person may type next.

    Args:
        ready_model: one to run, "" if there is none.
        program: how this person calls `tensorhub`.
    """
    http = settings.http
    if not http.allow_http or http.http_address.startswith("unix:"):
        return ""
    url = joined(_ANY_ADDRESS.get(http.http_address, http.http_address), http.http_port)
    option = "" if url == "127.0.0.1:8000" else f" --url {url}"
    # The name of a folder may be anything; a person pastes this into a shell.
    plain = ready_model.replace("-", "").replace("_", "").replace(".", "")
    if plain.isascii() and plain.isalnum() and ready_model[0] != "-":
        return f"{program} infer {ready_model} --random{option}"
    return f"{program} status{option}"
