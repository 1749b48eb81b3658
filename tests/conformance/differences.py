"""Where tensorhub answers otherwise than the recorded Triton 2.51 on purpose, and why.

One difference is general: see `content_type_allowed`. The others belong to a case each, in DELIBERATE_DIFFERENCES.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """The reason, and what is expected instead: values by the place in the case's answers (`0.json.extensions`)."""

    reason: str
    instead: dict[str, Any]


def content_type_allowed(status: object, recorded: object, got: object) -> bool:
    """Whether an error's content type may be `got` where `recorded` was recorded.

    Triton 2.51 sends some JSON errors as `text/plain`, by which code path made them, and later versions send most of
    those as `application/json`. tensorhub may always say what it is; clients read the body as JSON whatever the type.
    """
    return isinstance(status, int) and status >= 400 and (recorded, got) == ("text/plain", "application/json")


DELIBERATE_DIFFERENCES: dict[str, Difference] = {}
