"""The server's settings: from the command line, the environment and a TOML file to frozen values, and back to text.

The options themselves are the fields of `option_groups` and `network_options`; nothing here names one, except where
two of them have to agree. Everything is pure but `load`, which reads the TOML file.

What is given on the command line goes before the environment, that before the file, and that before the default. An
option that may be given several times is taken whole from the first of these that has it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from textwrap import wrap
from typing import Any

from tensorhub import hosting
from tensorhub import network_options as network
from tensorhub import option_groups as groups
from tensorhub.cache_options import cache_options
from tensorhub.option_groups import DEPRECATED
from tensorhub.option_kinds import FLAG, Restriction
from tensorhub.option_table import Deprecated, Option, options_of
from tensorhub.run_directory import RUN_DIR_VARIABLE, default_run_dir

_SEPARATOR = "\n"
"""Between the items of an option that was given several times, in `as_strings`; no value contains it."""


class SettingsError(Exception):
    """The options cannot be used; the text is one line for the person who gave them."""


class HelpRequested(Exception):
    """--help is among the arguments."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option's value, in groups; and what to warn of."""

    server: groups.Server = field(default=groups.Server(), metadata={"title": "Server"})
    processes: groups.Processes = field(default=groups.Processes(), metadata={"title": "Processes"})
    logging: groups.Logging = field(default=groups.Logging(), metadata={"title": "Logging"})
    repository: groups.ModelRepository = field(default=groups.ModelRepository(), metadata={"title": "Model Repository"})
    http: network.Http = field(default=network.Http(), metadata={"title": "HTTP"})
    http_tls: network.HttpTls = field(default=network.HttpTls(), metadata={"title": "HTTP encryption"})
    grpc: network.Grpc = field(default=network.Grpc(), metadata={"title": "GRPC"})
    grpc_tls: network.GrpcTls = field(default=network.GrpcTls(), metadata={"title": "GRPC encryption"})
    grpc_connection: network.GrpcConnection = field(
        default=network.GrpcConnection(), metadata={"title": "GRPC connections"}
    )
    shared_memory: groups.SharedMemory = field(default=groups.SharedMemory(), metadata={"title": "Shared Memory"})
    sagemaker: network.Sagemaker = field(default=network.Sagemaker(), metadata={"title": "Sagemaker"})
    vertex_ai: network.VertexAi = field(default=network.VertexAi(), metadata={"title": "Vertex"})
    metrics: groups.Metrics = field(default=groups.Metrics(), metadata={"title": "Metrics"})
    tracing: groups.Tracing = field(default=groups.Tracing(), metadata={"title": "Tracing"})
    backend: groups.Backend = field(default=groups.Backend(), metadata={"title": "Backend"})
    repository_agent: groups.RepositoryAgent = field(
        default=groups.RepositoryAgent(), metadata={"title": "Repository Agent"}
    )
    cache: groups.ResponseCache = field(default=groups.ResponseCache(), metadata={"title": "Response Cache"})
    rate_limiter: groups.RateLimiter = field(default=groups.RateLimiter(), metadata={"title": "Rate Limiter"})
    memory: groups.Memory = field(default=groups.Memory(), metadata={"title": "Memory/Device Management"})
    warnings: tuple[str, ...] = ()

    def value(self, name: str) -> Any:
        """Return an option's value by its command line name.

        Raises:
            KeyError: there is no such option.
        """
        return getattr(getattr(self, _GROUP_OF[name]), name.replace("-", "_"))

    def as_strings(self) -> dict[str, str]:
        """Return every option by its command line name, as text; several items are joined by newlines.

        This is what the frontends get in their snapshot.
        """
        return {name: _SEPARATOR.join(option.texts(self.value(name))) for name, option in OPTIONS.items()}

    def to_argv(self) -> list[str]:
        """Return the arguments that give another process these settings: what differs from the defaults.

        The file of --config is already part of the values, so it is not named again.
        """
        return [
            f"--{name}={text}"
            for name, option in OPTIONS.items()
            if name != "config" and self.value(name) != option.default
            for text in option.texts(self.value(name))
        ]


SECTIONS: dict[str, tuple[str, list[Option]]] = {
    item.name: (item.metadata["title"], options_of(type(item.default)))
    for item in fields(Settings)
    if "title" in item.metadata
}
"""Group's attribute -> its title and its options."""

OPTIONS: dict[str, Option] = {option.name: option for _, options in SECTIONS.values() for option in options}

_GROUP_OF: dict[str, str] = {option.name: group for group, (_, options) in SECTIONS.items() for option in options}

_DEPRECATED: dict[str, Deprecated] = {item.name: item for item in DEPRECATED}


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as it was given; `origin` is "" for the command line."""

    name: str
    text: str
    origin: str = ""


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ, *, hosted: bool = False) -> Settings:
    """Return the settings of this process: `parse`, with the file that --config names, and a run directory.

    Args:
        argv: the arguments without the program's name.
        environ: the environment.
        hosted: see `parse`.

    Raises:
        SettingsError: the arguments, the environment or the file cannot be used.
        HelpRequested: --help is among the arguments.
    """
    path = next((given.text for given in reversed(list(_scan(argv))) if given.name == "config"), "")
    settings = parse(argv, environ, _read_file(path) if path else {}, hosted=hosted)
    run_dir = settings.server.run_dir or default_run_dir(environ, os.geteuid())
    return replace(settings, server=replace(settings.server, run_dir=os.path.abspath(run_dir)))


def parse(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    file: Mapping[str, object] | None = None,
    *,
    hosted: bool = False,
) -> Settings:
    """Return the settings; the run directory is "" if none was given.

    Args:
        argv: the arguments without the program's name: `--name=value`, `--name value`, or `--name` alone for a flag.
        environ: the environment; of it, TENSORHUB_RUN_DIR counts.
        file: the contents of the TOML file.
        hosted: the variables that Vertex AI sets count too, as other defaults. For the process that passes its
            settings on: an option that was set back to the ordinary default is not among them.

    Raises:
        SettingsError: an option is unknown, has a wrong value, or contradicts another.
        HelpRequested: --help is among the arguments.
    """
    argued = list(_scan(argv))
    path = next((given.text for given in reversed(argued) if given.name == "config"), "--config")
    run_dir = (environ or {}).get(RUN_DIR_VARIABLE, "")
    surroundings = [_Given("run-dir", run_dir, RUN_DIR_VARIABLE)] if run_dir else []
    warnings: list[str] = []
    chosen: dict[str, list[_Given]] = {}
    filed = list(_from_file(file or {}, path))
    has_repository = any(given.name in ("model-repository", "model-store") for given in (*argued, *filed))
    defaults = hosting.vertex_defaults(environ or {}, has_repository=has_repository) if hosted else ()
    _check_caches(argued + filed)
    for source in (argued, surroundings, filed, [_Given(*item) for item in defaults]):
        found: dict[str, list[_Given]] = {}
        for given in _translate(source, warnings):
            found.setdefault(given.name, []).append(given)
        chosen = found | chosen
    values = {name: _value(OPTIONS[name], givens) for name, givens in chosen.items()}
    warnings += [
        f"--{name} has no effect: {OPTIONS[name].ignored}"
        for name, value in values.items()
        if OPTIONS[name].ignored and value != OPTIONS[name].default
    ]
    settings = replace(_build(values), warnings=tuple(warnings))
    _check(settings)
    return settings


def _check_caches(given: Sequence[_Given]) -> None:
    names = {item.name for item in given}
    if names >= {"response-cache-byte-size", "cache-config"}:
        raise SettingsError(
            "Error: Incompatible flags --response-cache-byte-size and --cache-config both provided. Please provide "
            "one or the other."
        )


def check_servable(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Check what a server needs and a single process of it does not.

    Raises:
        SettingsError: there is no model repository, a variable of a hosting service is missing or wrong, or something
            is asked for that this version cannot do.
    """
    try:
        if settings.sagemaker.allow_sagemaker:
            hosting.SagemakerEnvironment.read(environ)
        if settings.vertex_ai.allow_vertex_ai:
            hosting.VertexEnvironment.read(environ)
    except hosting.HostingError as exc:
        raise SettingsError(str(exc)) from exc
    if not settings.repository.model_repository:
        raise SettingsError("--model-repository must be specified: the directory with one folder for each model")


def help_text(prog: str = "tensorhub serve", width: int = 100) -> str:
    """Return the help on all options, in Triton's groups.

    Args:
        prog: the command, and what may stand before its options.
    """
    lines = [f"Usage: {prog} [options]", "  --help", "      Show this text."]
    for title, options in SECTIONS.values():
        lines += ["", f"{title}:"]
        for option in options:
            lines += _help_lines(option.name, option.kind.metavar, describe(option), width)
    lines += ["", "DEPRECATED:"]
    for old in DEPRECATED:
        lines += _help_lines(old.name, old.kind.metavar, f"Please use {old.help}", width)
    return "\n".join(lines) + "\n"


def describe(option: Option) -> str:
    """Return the help on one option, with its default and whether it has an effect."""
    parts = [option.help]
    if option.repeatable:
        parts.append("May be given several times.")
    elif (default := option.kind.unparse(option.default)) != "":
        parts.append(f"Default: {default}.")
    if option.ignored:
        parts.append(f"Accepted without effect: {option.ignored}.")
    return " ".join(parts)


def _help_lines(name: str, metavar: str, text: str, width: int) -> list[str]:
    return [f"  --{name} {metavar}".rstrip(), *wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _read_file(path: str) -> dict[str, object]:
    import tomllib  # not at the top: few servers have such a file, and every process has these settings

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise SettingsError(f"--config: cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"--config: {path} is not TOML: {exc}") from exc


def _scan(argv: Sequence[str]) -> Iterator[_Given]:
    """Cut the arguments into options and values; nothing is checked but that each option exists and has a value."""
    arguments = iter(argv)
    for argument in arguments:
        if argument in ("--help", "-h"):
            raise HelpRequested
        if not argument.startswith("--") or argument == "--":
            raise SettingsError(
                f"unexpected argument '{argument}': options begin with two hyphens (see --help); a model repository is "
                f"named with --model-repository={argument}"
            )
        name, equals, text = argument[2:].partition("=")
        kind = _DEPRECATED[name].kind if name in _DEPRECATED else _option(name).kind
        if not equals and kind is not FLAG:
            following = next(arguments, None)
            if following is None:
                raise SettingsError(f"option '--{name}' requires an argument: {kind.allowed}")
            text = following
        yield _Given(name, text)


def _from_file(contents: Mapping[str, object], path: str) -> Iterator[_Given]:
    for name, value in contents.items():
        if name == "config" or isinstance(value, dict):
            raise SettingsError(f"{path}: '{name}' cannot be here: the file is a list of <option> = <value>")
        repeatable = _DEPRECATED[name].repeatable if name in _DEPRECATED else _option(name, path).repeatable
        if isinstance(value, list) and not repeatable:
            raise SettingsError(f"{path}: '{name}' takes one value, not a list")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                yield _Given(name, "true" if item else "false", path)
            elif isinstance(item, int | float | str):
                yield _Given(name, str(item), path)
            else:
                raise SettingsError(f"{path}: '{name}' takes text, a number, a boolean or a list of them")


def _option(name: str, origin: str = "") -> Option:
    found = OPTIONS.get(name)
    if found is None:
        import difflib  # not at the top: see _read_file

        near = difflib.get_close_matches(name, [*OPTIONS, *_DEPRECATED], n=3, cutoff=0.6)
        remedy = f"did you mean {' or '.join('--' + item for item in near)}?" if near else "see --help"
        raise SettingsError(f"{origin + ': ' if origin else ''}unrecognized option '--{name}'; {remedy}")
    return found


def _translate(source: Sequence[_Given], warnings: list[str]) -> Iterator[_Given]:
    """Put today's options in the place of deprecated ones."""
    for given in source:
        old = _DEPRECATED.get(given.name)
        if old is None:
            yield given
            continue
        text = old.replace(_parsed(given, old.kind))
        # Triton keeps quiet about this one: it is a second name, as good as the first.
        if given.name != "model-store":
            warnings.append(f"--{given.name} is deprecated. Please use {old.help}")
        if text is not None:
            yield _Given(old.replacement, text, given.origin)


def _parsed(given: _Given, kind: Any) -> Any:
    try:
        return kind.parse(given.text)
    except ValueError as exc:
        origin = f"{given.origin}: " if given.origin else ""
        raise SettingsError(f'{origin}Bad option: "--{given.name}". {exc} (allowed: {kind.allowed})') from None


def _value(option: Option, givens: Sequence[_Given]) -> Any:
    values = tuple(_parsed(given, option.kind) for given in givens)
    return values if option.repeatable else values[-1]


def _build(values: Mapping[str, Any]) -> Settings:
    built: dict[str, Any] = {}
    for item in fields(Settings):
        if item.name in SECTIONS:
            names = [option.name for option in SECTIONS[item.name][1] if option.name in values]
            defaults: Any = item.default
            built[item.name] = replace(defaults, **{name.replace("-", "_"): values[name] for name in names})
    return Settings(**built)


def _check(settings: Settings) -> None:
    """Check what options demand of each other; the texts are Triton's."""
    repository = settings.repository
    if repository.load_model and repository.model_control_mode != "explicit":
        raise SettingsError("Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well.")
    if "*" in repository.load_model and len(repository.load_model) > 1:
        raise SettingsError("--load-model: Wildcard model name '*' must be the ONLY startup model if specified at all.")
    _check_cache(settings)
    _check_restrictions("api", settings.http.http_restricted_api)
    _check_restrictions("protocol", settings.grpc.grpc_restricted_protocol)
    tls = settings.http_tls
    _check_tls(
        "http",
        on=tls.http_use_ssl,
        mutual=tls.http_use_ssl_mutual,
        certificate=tls.http_server_cert,
        key=tls.http_server_key,
        root=tls.http_root_cert,
    )
    _check_endpoints(settings)


def _check_cache(settings: Settings) -> None:
    try:
        cache_options(settings.cache.cache_config)
    except ValueError as exc:
        raise SettingsError(f"--cache-config: {exc}") from exc


def _check_restrictions(what: str, restrictions: Sequence[Restriction]) -> None:
    seen: set[str] = set()
    for category in (category for item in restrictions for category in item.categories):
        if category in seen:
            raise SettingsError(f"restricted {what} '{category}' can not be specified in multiple config groups")
        seen.add(category)


def _check_endpoints(settings: Settings) -> None:
    services = _services(settings)
    seen: dict[tuple[str, int], str] = {}
    for name, address, port in services:
        other = seen.setdefault((address, port), name)
        if other != name:
            raise SettingsError(
                f"The server cannot listen to {other} requests and {name} requests at the same address and port "
                f"{address}:{port}"
            )
    if settings.sagemaker.allow_sagemaker and settings.sagemaker.sagemaker_safe_port_range:
        low, high = map(int, settings.sagemaker.sagemaker_safe_port_range.split("-"))
        for name, _, port in services:
            if name != "SageMaker" and not low <= port <= high:
                raise SettingsError(
                    f"The server cannot listen to {name} requests at port {port}, allowed port range is [{low}, {high}]"
                )


def metrics_address(settings: Settings) -> str:
    """Return where metrics are served: where HTTP is, unless it says otherwise; beside a Unix socket on this host."""
    http = settings.http.http_address
    return settings.metrics.metrics_address or ("127.0.0.1" if http.startswith("unix:") else http)


def _services(settings: Settings) -> list[tuple[str, str, int]]:
    """Return what listens: Triton's name for it, address and port."""
    http, grpc, metrics = settings.http, settings.grpc, settings.metrics
    services = (
        ("HTTP", http.allow_http, http.http_address, http.http_port),
        ("GRPC", grpc.allow_grpc, grpc.grpc_address, grpc.grpc_port),
        ("metrics", metrics.allow_metrics, metrics_address(settings), metrics.metrics_port),
        ("SageMaker", settings.sagemaker.allow_sagemaker, http.http_address, settings.sagemaker.sagemaker_port),
        ("Vertex AI", settings.vertex_ai.allow_vertex_ai, http.http_address, settings.vertex_ai.vertex_ai_port),
    )
    return [(name, address, port) for name, allowed, address, port in services if allowed]


def _check_tls(service: str, *, on: bool, mutual: bool, certificate: str, key: str, root: str) -> None:
    """Check that encryption has the files it needs; whether they can be used shows when they are opened."""
    if not (on or mutual):
        return
    if not (certificate and key):
        raise SettingsError(f"--{service}-use-ssl needs --{service}-server-cert and --{service}-server-key")
    if mutual and not root:
        raise SettingsError(f"--{service}-use-ssl-mutual needs --{service}-root-cert")
