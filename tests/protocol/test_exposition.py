"""The metrics page's text, read back by Prometheus's own parser."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tensorhub.protocol.exposition import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    SUMMARY,
    Family,
    is_label_name,
    is_metric_name,
    label_name,
    number,
    render,
)


def read(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_a_page_is_what_triton_would_write() -> None:
    success = Family("nv_inference_request_success", "Number of \\ successful\nrequests", COUNTER)
    success.add({"version": "1", "model": 'a"b\\c\n'}, 4)
    assert render([success, Family("nv_empty", "nothing", GAUGE)]) == (
        "# HELP nv_inference_request_success Number of \\\\ successful\\nrequests\n"
        "# TYPE nv_inference_request_success counter\n"
        'nv_inference_request_success{model="a\\"b\\\\c\\n",version="1"} 4\n'
    )


def test_a_summary_has_its_quantile_last() -> None:
    family = Family("s", "h", SUMMARY)
    family.add_summary({"version": "1", "model": "m"}, [(0.5, 20), (0.999, math.nan)], 3, 50)
    assert render([family]).splitlines()[2:] == [
        's_count{model="m",version="1"} 3',
        's_sum{model="m",version="1"} 50',
        's{model="m",version="1",quantile="0.5"} 20',
        's{model="m",version="1",quantile="0.999"} NaN',
    ]


def test_a_histogram_counts_from_below() -> None:
    family = Family("h", "h", HISTOGRAM)
    family.add_histogram({"model": "m"}, [0.5, 10], [1, 2, 3], 77.25)
    found = read(render([family]))["h"]
    assert found.type == "histogram"
    assert {(item.name, item.labels.get("le")): item.value for item in found.samples} == {
        ("h_bucket", "0.5"): 1,
        ("h_bucket", "10"): 3,
        ("h_bucket", "+Inf"): 6,
        ("h_count", None): 6,
        ("h_sum", None): 77.25,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (4, "4"),
        (2**63, "9223372036854775808"),
        (4.0, "4"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (2 / 3, "0.6666666666666666"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@given(st.dictionaries(st.from_regex(r"[a-z_]\w*", fullmatch=True).filter(str.isascii), st.text(), max_size=4))
def test_any_label_value_reads_back(labels: dict[str, str]) -> None:
    # The parser splits lines as Python does; a page is split at line feeds only.
    labels = {name: "".join(value.splitlines()) for name, value in labels.items()}
    family = Family("f", "help", GAUGE)
    family.add(labels, 1.5)
    [sample] = read(render([family]))["f"].samples
    assert (sample.labels, sample.value) == (labels, 1.5)


@pytest.mark.parametrize(
    ("name", "metric", "label"),
    [
        ("a", True, True),
        ("a:b", True, False),
        ("1a", False, False),
        ("__a", True, False),
        ("a-b", False, False),
        ("", False, False),
        ("é", False, False),
        ("a\n", False, False),
    ],
)
def test_names(name: str, metric: bool, label: bool) -> None:
    assert (is_metric_name(name), is_label_name(name)) == (metric, label)


def test_any_text_makes_a_label_name() -> None:
    assert label_name("_team.a b") == "_team_a_b"
