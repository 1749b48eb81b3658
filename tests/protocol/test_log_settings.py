"""The settings of the log, as both protocols change them."""

from __future__ import annotations

from typing import Any

import pytest

from tensorhub.protocol import log_settings, messages

Request = messages.message_class("inference.LogSettingsRequest")


def test_the_defaults_are_shown_in_tritons_order() -> None:
    assert list(log_settings.shown({}).items()) == [
        ("log_file", ""),
        ("log_info", True),
        ("log_warning", True),
        ("log_error", True),
        ("log_verbose_level", 0),
        ("log_format", "default"),
    ]


@pytest.mark.parametrize(
    ("document", "change", "text"),
    [
        ({}, {}, ""),
        ([], {}, ""),
        ({"log_info": None, "log_file": None}, {}, ""),
        ({"log_info": False, "log_error": True}, {"log-info": "false", "log-error": "true"}, ""),
        ({"log_verbose_level": 3, "log_format": "ISO8601"}, {"log-verbose": "3", "log-format": "ISO8601"}, ""),
        ({"log_verbose_level": 2**32 - 1}, {"log-verbose": "0"}, ""),
        ({"log_info": False, "log_file": ""}, {}, "log file location can not be updated"),
        ({"log_format": "x", "log_info": False}, {"log-info": "false"}, "invalid argument for --log_format, got: x"),
        ({"log_info": 1}, {}, "attempt to access JSON non-boolean as boolean"),
        ({"log_verbose_level": -1}, {}, "non-unsigned-integer"),
    ],
)
def test_json(document: Any, change: dict[str, str], text: str) -> None:
    found, error = log_settings.from_json(document)
    assert found == change
    assert (error.message if error else "").startswith(text) if text.startswith("log file") else True
    assert (text in error.message) if error else not text


def request(**settings: Any) -> Any:
    message = Request()
    for name, value in settings.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(message.settings[name], kind, value)
    return message.settings


@pytest.mark.parametrize(
    ("settings", "change", "text"),
    [
        ({}, {}, ""),
        ({"log_info": False, "log_verbose_level": 2}, {"log-info": "false", "log-verbose": "2"}, ""),
        ({"log_info": 1}, {}, "expect boolean for 'log_info'"),
        ({"log_verbose_level": True}, {}, "expect int32 for 'log_verbose_level'"),
        ({"log_format": True}, {}, "expect string for 'log_format'"),
        ({"log_info": False, "log_format": "x"}, {"log-info": "false"}, "invalid argument for log_format, got: x"),
        ({"log_file": "x", "log_info": False}, {}, "log file location can not be updated through network protocol"),
    ],
)
def test_messages(settings: dict[str, Any], change: dict[str, str], text: str) -> None:
    found, error = log_settings.from_message(request(**settings))
    assert (found, error.message if error else "") == (change, text)
