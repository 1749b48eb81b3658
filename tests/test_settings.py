"""Options: what is accepted, what is refused and in which words, and the way to other processes and back."""

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub import settings
from tensorhub.option_groups import DEPRECATED
from tensorhub.option_kinds import FLAG, PerDevice, Resource, Restriction, Scoped
from tensorhub.option_table import options_of
from tensorhub.settings import OPTIONS, SECTIONS, HelpRequested, SettingsError, parse
from tools.triton_options import TRITON_OPTIONS


def refusal(*argv: str, **sources: object) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(argv, **sources)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", sorted(TRITON_OPTIONS))
def test_every_option_of_triton_is_known(name: str) -> None:
    assert name in OPTIONS or name in {old.name for old in DEPRECATED}
    assert f"--{name} " in settings.help_text() + " " or f"--{name}\n" in settings.help_text()


# What a command line of `tritonserver` may say of the options whose default says nothing, or is not one value.
SAMPLES = {
    "model-repository": "/models",
    "model-store": "/more",
    "load-model": "*",
    "model-control-mode": "explicit",
    "http-header-forward-pattern": "(?i)x-.*",
    "http-restricted-api": "model-repository,logging:admin-key=admin-value",
    "grpc-header-forward-pattern": "my_header.*",
    "grpc-restricted-protocol": "shared-memory,trace:admin-key=admin-value",
    "sagemaker-safe-port-range": "1-9000",
    "sagemaker-port": "8080",
    "vertex-ai-port": "8081",
    "metrics-config": "summary_quantiles=0.5:0.05,0.9:0.01",
    "trace-config": "opentelemetry,url=localhost:4318/v1/traces",
    "backend-config": "python,shm-default-byte-size=1048576",
    "cache-config": "local,size=1048576",
    "rate-limit-resource": "R1:10:0",
    "cuda-memory-pool-byte-size": "0:67108864",
    "cuda-virtual-address-size": "0:1073741824",
    "host-policy": "gpu_0,numa-node=0",
    "model-load-gpu-limit": "0:0.5",
    "strict-model-config": "false",
    "trace-file": "/tmp/trace.json",
    "trace-level": "TIMESTAMPS",
    "trace-rate": "100",
    "trace-count": "-1",
    "trace-log-frequency": "0",
    "allow-client-shm": "true",
}


def test_a_command_line_with_every_option_of_triton_is_accepted() -> None:
    # Triton itself refuses this one beside cache-config.
    names = sorted(TRITON_OPTIONS - {"response-cache-byte-size"})
    texts = {
        name: SAMPLES[name] if name in SAMPLES else OPTIONS[name].texts(OPTIONS[name].default)[0] for name in names
    }
    assert set(SAMPLES) <= set(names)
    for argv in (
        [f"--{name}={text}" for name, text in texts.items()],
        [part for name, text in texts.items() for part in (f"--{name}", text) if not _is_flag(name) or part != text],
    ):
        parsed = parse(argv)
        assert all("\n" not in warning for warning in parsed.warnings)
        for name, text in texts.items():
            if name in OPTIONS and not OPTIONS[name].repeatable and not _is_flag(name):
                assert OPTIONS[name].kind.parse(text) == parsed.value(name), name


def _is_flag(name: str) -> bool:
    return name in OPTIONS and OPTIONS[name].kind is FLAG


def test_an_option_that_is_given_and_has_no_effect_says_why() -> None:
    for name, option in OPTIONS.items():
        if not option.ignored:
            continue
        text = SAMPLES.get(name) or _other(option.texts(option.default)[0])
        [warning] = parse([f"--{name}={text}"]).warnings
        assert warning == f"--{name} has no effect: {option.ignored}"


def _other(text: str) -> str:
    """A value that is not the default."""
    if text in ("true", "false"):
        return "false" if text == "true" else "true"
    if text == "off":
        return "execution_count"
    return str(int(float(text)) - 1) if text.replace(".", "").isdigit() and text not in ("0", "2") else f"{text}9"


def test_defaults() -> None:
    plain = parse([])
    assert (plain.http.http_port, plain.grpc.grpc_port, plain.metrics.metrics_port) == (8000, 8001, 8002)
    assert plain.server.id == "triton"
    assert plain.shared_memory.allow_client_shm == "auto"
    assert plain.warnings == ()
    assert plain.to_argv() == []


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--http-port=9000"], "http-port", 9000),
        (["--http-port", "9000"], "http-port", 9000),
        (["--http-port=1", "--http-port=9000"], "http-port", 9000),
        (["--id="], "id", ""),
        (["--id=a=b"], "id", "a=b"),
        (["--allow-http=OFF"], "allow-http", False),
        (["--allow-http", "On"], "allow-http", True),
        (["--allow-http=0"], "allow-http", False),
        (["--log-verbose=true"], "log-verbose", 1),
        (["--log-verbose=3"], "log-verbose", 3),
        (["--disable-auto-complete-config"], "disable-auto-complete-config", True),
        (["--disable-auto-complete-config=false"], "disable-auto-complete-config", False),
        (["--strict-model-config=true"], "disable-auto-complete-config", True),
        (["--strict-model-config=false"], "disable-auto-complete-config", False),
        (["--model-store=/a", "--model-repository=/b"], "model-repository", ("/a", "/b")),
        (["--response-cache-byte-size=99"], "cache-config", (Scoped("local", "size", "99"),)),
        (["--response-cache-byte-size=0"], "cache-config", ()),
        (["--trace-level=timestamps"], "trace-config", (Scoped("", "level", "TIMESTAMPS"),)),
        (["--trace-file=/t"], "trace-config", (Scoped("triton", "file", "/t"),)),
        (["--trace-config=opentelemetry,resource=a=b"], "trace-config", (Scoped("opentelemetry", "resource", "a=b"),)),
        (["--backend-config=default-max-batch-size=4"], "backend-config", (Scoped("", "default-max-batch-size", "4"),)),
        (["--rate-limit-resource=R:3"], "rate-limit-resource", (Resource("R", 3),)),
        (["--rate-limit-resource=R:3:1"], "rate-limit-resource", (Resource("R", 3, 1),)),
        (["--cuda-memory-pool-byte-size=1:64"], "cuda-memory-pool-byte-size", (PerDevice(1, 64),)),
        (["--model-load-gpu-limit=0:0.5"], "model-load-gpu-limit", (PerDevice(0, 0.5),)),
        (["--sagemaker-safe-port-range=1-5"], "sagemaker-safe-port-range", "1-5"),
        (["--http-header-forward-pattern=(?-i)X-.*"], "http-header-forward-pattern", "(?-i)X-.*"),
        (
            ["--http-restricted-api=health,trace:key=a=b"],
            "http-restricted-api",
            (Restriction(("health", "trace"), "key", "a=b"),),
        ),
        (["--shm-allowed-uids=1000", "--shm-allowed-uids", "1001"], "shm-allowed-uids", (1000, 1001)),
    ],
)
def test_values(argv: list[str], name: str, value: object) -> None:
    assert parse(argv).value(name) == value


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--htp-port=1"], ["unrecognized option '--htp-port'", "--http-port"]),
        (["--zzzzzz"], ["unrecognized option '--zzzzzz'", "--help"]),
        (["stray"], ["unexpected argument 'stray'"]),
        (["--"], ["unexpected argument '--'"]),
        (["--http-port"], ["option '--http-port' requires an argument", "65535"]),
        (["--http-port=abc"], ['Bad option: "--http-port"', "Got abc", "an integer from 1 to 65535"]),
        (["--http-port=65536"], ["--http-port", "out of range", "65535"]),
        (["--http-port=0"], ["--http-port", "out of range"]),
        (["--http-max-input-size=0"], ["--http-max-input-size", "out of range"]),
        (["--allow-http=maybe"], ["--allow-http", "invalid value for bool option: maybe", "true, on, 1"]),
        (["--rate-limit=x"], ["--rate-limit", "off, execution_count"]),
        (["--log-format=iso"], ["--log-format", "default, ISO8601"]),
        (["--trace-level=x"], ["--trace-level", "invalid value for trace level option: x"]),
        (["--trace-config=foo"], ["--trace-config", "Got foo"]),
        (["--trace-config=zipkin,a=b"], ["--trace-config", "zipkin", "opentelemetry"]),
        (["--cache-config=size=1"], ["--cache-config", "<cache>,<setting>=<value>"]),
        (["--rate-limit-resource=x"], ["--rate-limit-resource", "Got x"]),
        (["--rate-limit-resource=x:y"], ["--rate-limit-resource", "Got y"]),
        (["--model-load-gpu-limit=0:2"], ["expects limit fraction to be in range [0.0, 1.0], got 2.000000"]),
        (["--sagemaker-safe-port-range=9-5"], ["--sagemaker-safe-port-range", "Got 9-5"]),
        (["--metrics-interval-ms=nan"], ["--metrics-interval-ms", "Got nan"]),
        (["--model-config-name=a b"], ["--model-config-name", "white space"]),
        (["--id=a\nb"], ["--id", "control characters"]),
        (["--http-header-forward-pattern=("], ["--http-header-forward-pattern", "regular expression"]),
        (["--http-restricted-api=zz:a=b"], ["unknown restricted api 'zz'", "shared-memory"]),
        (["--http-restricted-api=health:a"], ["--http-restricted-api", "Got a"]),
        (
            ["--http-restricted-api=health:a=b", "--http-restricted-api=health:c=d"],
            ["restricted api 'health' can not be specified in multiple config groups"],
        ),
        (
            ["--grpc-restricted-protocol=health,health:a=b"],
            ["restricted protocol 'health' can not be specified in multiple config groups"],
        ),
        (["--load-model=a"], ["Use of '--load-model' requires setting '--model-control-mode=explicit' as well."]),
        (
            ["--model-control-mode=explicit", "--load-model=*", "--load-model=a"],
            ["Wildcard model name '*' must be the ONLY startup model if specified at all."],
        ),
        (
            ["--grpc-port=8000"],
            [
                "The server cannot listen to HTTP requests and GRPC requests at the same address and port 0.0.0.0:8000",
            ],
        ),
        (["--metrics-port=8001"], ["GRPC requests and metrics requests", "0.0.0.0:8001"]),
        (["--allow-sagemaker=1", "--sagemaker-port=8000"], ["HTTP requests and SageMaker requests", "0.0.0.0:8000"]),
        (["--allow-sagemaker=1", "--allow-vertex-ai=1"], ["SageMaker requests and Vertex AI requests", "0.0.0.0:8080"]),
        (
            ["--allow-sagemaker=1", "--sagemaker-safe-port-range=8001-8002"],
            ["The server cannot listen to HTTP requests at port 8000, allowed port range is [8001, 8002]"],
        ),
        (["--http-use-ssl=1"], ["--http-use-ssl needs --http-server-cert and --http-server-key"]),
        (
            ["--http-use-ssl-mutual=1", "--http-server-cert=c", "--http-server-key=k"],
            ["--http-use-ssl-mutual needs --http-root-cert"],
        ),
        (
            ["--cache-config=local,size=1", "--response-cache-byte-size=1"],
            ["Incompatible flags --response-cache-byte-size and --cache-config both provided."],
        ),
    ],
)
def test_refusals(argv: list[str], parts: list[str]) -> None:
    text = refusal(*argv)
    for part in parts:
        assert part in text


def test_endpoints_that_are_off_or_elsewhere_do_not_clash() -> None:
    parse(["--grpc-port=8000", "--allow-http=false"])
    parse(["--grpc-port=8000", "--grpc-address=127.0.0.1"])


def test_the_range_of_ports_is_for_the_other_services() -> None:
    parse(["--allow-sagemaker=1", "--sagemaker-safe-port-range=8000-8002"])
    parse(["--sagemaker-safe-port-range=1-2"])


VERTEX = {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": "7080", "AIP_STORAGE_URI": "/models"}


def test_vertex_ai_changes_defaults_of_the_server_only() -> None:
    hosted = parse([], VERTEX, hosted=True)
    assert (hosted.vertex_ai.allow_vertex_ai, hosted.vertex_ai.vertex_ai_port) == (True, 7080)
    assert (hosted.http.allow_http, hosted.grpc.allow_grpc) == (False, False)
    assert hosted.repository.model_repository == ("/models",)
    assert parse([], VERTEX) == parse([])


def test_what_is_given_goes_before_what_vertex_ai_sets() -> None:
    argv = ["--allow-http=true", "--vertex-ai-port=7081", "--model-repository=/mine"]
    hosted = parse(argv, VERTEX, {"allow-grpc": True}, hosted=True)
    assert (hosted.http.allow_http, hosted.grpc.allow_grpc, hosted.vertex_ai.vertex_ai_port) == (True, True, 7081)
    assert hosted.repository.model_repository == ("/mine",)
    assert parse([], {"AIP_MODE": "other"}, hosted=True) == parse([])


def test_a_wrong_variable_is_named() -> None:
    assert "AIP_HTTP_PORT" in refusal(environ={"AIP_HTTP_PORT": "http"}, hosted=True)


@pytest.mark.parametrize(
    ("argv", "environ", "part"),
    [
        ("--allow-vertex-ai=1", {}, "AIP_PREDICT_ROUTE is not defined"),
        ("--allow-vertex-ai=1", {"AIP_PREDICT_ROUTE": "/p"}, "AIP_HEALTH_ROUTE is not defined"),
        ("--allow-sagemaker=1", {"SAGEMAKER_TRITON_PING_MODE": "x"}, "SAGEMAKER_TRITON_PING_MODE"),
        (
            "--allow-sagemaker=1",
            {"SAGEMAKER_TRITON_INFERENCE_TYPE": "x"},
            "Server has invalid inference type 'x'. Must be one of: infer, generate, generate_stream.",
        ),
    ],
)
def test_a_hosting_service_s_variables_are_checked_if_it_is_served(
    argv: str, environ: dict[str, str], part: str
) -> None:
    repository = "--model-repository=/a"
    settings.check_servable(parse([repository]), environ)
    with pytest.raises(SettingsError, match=re.escape(part)):
        settings.check_servable(parse([repository, argv]), environ)


def test_help_is_noticed_and_groups_are_named() -> None:
    with pytest.raises(HelpRequested):
        parse(["--http-port=1", "--help"])
    text = settings.help_text()
    for title in ("Server:", "Logging:", "Model Repository:", "HTTP:", "GRPC:", "Metrics:", "DEPRECATED:"):
        assert f"\n{title}\n" in text
    assert max(map(len, settings.help_text(width=60).splitlines())) <= 100


def test_precedence(tmp_path: Path) -> None:
    file = {"run-dir": "/file", "http-port": 1, "load-model": ["a", "b"], "model-control-mode": "explicit"}
    environ = {"TENSORHUB_RUN_DIR": "/environ"}
    both = parse(["--http-port=2"], environ, file)
    assert (both.server.run_dir, both.http.http_port, both.repository.load_model) == ("/environ", 2, ("a", "b"))
    assert parse(["--run-dir=/argv", "--load-model=c"], environ, file).server.run_dir == "/argv"
    assert parse(["--run-dir=/argv", "--load-model=c"], environ, file).repository.load_model == ("c",)
    assert parse([], {}, {"model-store": "/a", "allow-http": False}).repository.model_repository == ("/a",)


@pytest.mark.parametrize(
    ("contents", "parts"),
    [
        ({"http-prt": 1}, ["f.toml", "http-prt", "--http-port"]),
        ({"http-port": "x"}, ["f.toml", "--http-port", "Got x"]),
        ({"http-port": [1]}, ["f.toml", "one value"]),
        ({"http": {"port": 1}}, ["f.toml", "'http' cannot be here"]),
        ({"config": "g.toml"}, ["f.toml", "'config' cannot be here"]),
        ({"load-model": [["a"]]}, ["f.toml", "'load-model'"]),
    ],
)
def test_refusals_of_a_file_name_it(contents: dict[str, object], parts: list[str]) -> None:
    text = refusal("--config=f.toml", file=contents)
    for part in parts:
        assert part in text


def test_load_reads_the_file_and_settles_the_run_directory(tmp_path: Path) -> None:
    path = tmp_path / "tensorhub.toml"
    path.write_text('http-port = 9000\nmetrics-interval-ms = 500.5\nrun-dir = "/srv/run"\n')
    loaded = settings.load(["--config", str(path)], {})
    assert (loaded.http.http_port, loaded.metrics.metrics_interval_ms, loaded.server.run_dir) == (
        9000,
        500.5,
        "/srv/run",
    )
    assert not any(argument.startswith("--config") for argument in loaded.to_argv())
    assert settings.load(["--run-dir=x"], {}).server.run_dir == os.path.abspath("x")
    assert settings.load([], {"TENSORHUB_RUN_DIR": "/e"}).server.run_dir == "/e"

    path.write_text("http-port = = 1")
    with pytest.raises(SettingsError, match="is not TOML"):
        settings.load([f"--config={path}"], {})
    with pytest.raises(SettingsError, match="No such file"):
        settings.load([f"--config={path}x"], {})


def test_a_server_needs_a_repository() -> None:
    with pytest.raises(SettingsError, match="--model-repository must be specified"):
        settings.check_servable(parse([]))
    settings.check_servable(parse(["--model-repository=/a"]))


def test_options_without_effect_and_old_ones_are_warned_of_once_given() -> None:
    assert parse(["--trace-rate=5"]).warnings == ("--trace-rate is deprecated. Please use --trace-config=rate=<rate>.",)
    assert parse(["--response-cache-byte-size=5"]).warnings == (
        "--response-cache-byte-size is deprecated. Please use --cache-config=local,size=<bytes>.",
    )
    [warning] = parse(["--http-thread-count=3"]).warnings
    assert warning.startswith("--http-thread-count has no effect: ")
    assert parse(["--model-store=/a"]).warnings == ()


def test_every_option_has_a_default_of_its_kind_and_a_help() -> None:
    for _, options in SECTIONS.values():
        for option in options:
            assert option.help.endswith("."), option.name
            assert not re.search(r"\s{2}", settings.describe(option)), option.name
            for text, item in zip(
                option.texts(option.default), option.default if option.repeatable else (option.default,), strict=True
            ):
                assert option.kind.parse(text) == item, option.name
    assert sum(len(options_of(type(getattr(parse([]), group)))) for group in SECTIONS) == len(OPTIONS)


TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": TEXTS,
            "http-port": st.integers(10_000, 20_000).map(str),
            "grpc-port": st.integers(20_001, 30_000).map(str),
            "allow-metrics": st.sampled_from(["true", "off", "1"]),
            "model-repository": TEXTS.map(lambda text: f"/{text}"),
            "metrics-interval-ms": st.floats(1, 1e9).map(str),
            "backend-config": st.tuples(TEXTS, TEXTS).map(lambda pair: f"python,k{pair[0].replace('=', '')}={pair[1]}"),
            "http-restricted-api": TEXTS.map(lambda text: f"inference,health:key={text}"),
            "rate-limit-resource": st.integers(0, 99).map(lambda count: f"R:{count}"),
            "min-supported-compute-capability": st.sampled_from(["7.5", "8", "6.0"]),
            "trace-config": st.sampled_from(["level=OFF", "triton,file=/x", "rate=3"]),
        },
    )
)
def test_settings_survive_the_way_to_other_processes(texts: dict[str, str]) -> None:
    first = parse([f"--{name}={text}" for name, text in texts.items()])
    again = parse(first.to_argv())
    assert replace(again, warnings=()) == replace(first, warnings=())
    assert sorted(again.warnings) == sorted(first.warnings)
    assert set(first.as_strings()) == set(OPTIONS)


@given(st.lists(st.text(max_size=12)), st.lists(st.sampled_from(sorted(OPTIONS))))
def test_any_arguments_give_settings_or_one_line(words: list[str], names: list[str]) -> None:
    argv = words + [f"--{name}={word}" for name, word in zip(names, words, strict=False)]
    with suppress(HelpRequested, SettingsError):
        parse(argv)
