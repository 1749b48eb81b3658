"""Everything about a ModelConfig: reading, completing, checking and showing it. Pure.

The parts are in the config_* modules; this is the one to import. Configs are `inference.ModelConfig` messages.
"""

from collections.abc import Sequence
from typing import Any

from tensorhub.protocol import messages
from tensorhub.protocol.config_completion import ENSEMBLE_PLATFORM, complete, is_ensemble
from tensorhub.protocol.config_json import to_json
from tensorhub.protocol.config_tensors import validate_tensors
from tensorhub.protocol.config_text import parse_json, parse_text, to_text
from tensorhub.protocol.config_validation import validate, validate_instance_groups, validate_loaded

__all__ = [
    "ENSEMBLE_PLATFORM",
    "complete",
    "is_ensemble",
    "keeps_order",
    "needs_reload",
    "parse_json",
    "parse_text",
    "select_versions",
    "to_json",
    "to_text",
    "validate",
    "validate_instance_groups",
    "validate_loaded",
    "validate_tensors",
]


def keeps_order(config: Any) -> bool:
    """Whether responses leave in the order in which their requests were taken out of the queue."""
    return bool(config.dynamic_batching.preserve_ordering or config.sequence_batching.oldest.preserve_ordering)


def select_versions(policy: Any, available: Sequence[int]) -> list[int]:
    """Return the versions that a ModelVersionPolicy wants of those that there are, ascending.

    Latest takes the highest n, specific those that exist; a policy that makes no choice takes all, as in Triton.
    """
    versions = sorted(set(available))
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        count = policy.latest.num_versions
        return versions[-count:] if count else []
    if choice == "specific":
        wanted = set(policy.specific.versions)
        return [version for version in versions if version in wanted]
    return versions


def needs_reload(old: Any, new: Any) -> bool:
    """Whether a running model must be loaded anew to become `new`: not for instance groups and version policy alone."""
    comparable = []
    for config in (old, new):
        copy = messages.ModelConfig()
        copy.CopyFrom(config)
        copy.ClearField("instance_group")
        copy.ClearField("version_policy")
        comparable.append(copy)
    return bool(comparable[0] != comparable[1])
