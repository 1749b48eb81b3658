"""Addresses of repositories in the cloud, in Triton's forms. Pure.

s3://bucket/path                        Amazon's S3
s3://host:port/bucket/path              another S3, over HTTP
s3://https://host:port/bucket/path      the same over HTTPS (or http://)
gs://bucket/path                        Google Cloud Storage
as://account/container/path             Azure Blob Storage
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import InvalidArgument

EXTRAS = {"s3": "s3", "gs": "gcs", "as": "azure"}
"""Scheme to the extra of tensorhub that brings its library."""

_SCHEME = re.compile(r"(s3|gs|as)://(.*)", re.DOTALL)
_ENDPOINT = re.compile(r"(?:(https?)://)?([^/:]+:\d+)/(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class CloudPath:
    """Where a repository is.

    Attributes:
        scheme: of the address: "s3", "gs" or "as".
        protocol: fsspec's name of the kind of store; `options`: for its constructor.
        path: bucket (or container) and path, without slashes at the ends.
    """

    scheme: str
    protocol: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


def is_cloud(path: str) -> bool:
    """Whether a `--model-repository` is an address and not a folder."""
    return _SCHEME.fullmatch(path) is not None


def parse_cloud_path(path: str) -> CloudPath:
    """Read the address of a repository.

    Raises:
        InvalidArgument: it is none, or has no bucket.
    """
    match = _SCHEME.fullmatch(path)
    if match is None:
        raise InvalidArgument(f"--model-repository: '{path}' is no address of a repository in the cloud")
    scheme, rest = match[1], match[2].strip("/")
    if scheme == "gs":
        return CloudPath(scheme, "gcs", _checked(path, rest))
    if scheme == "as":
        account, _, rest = rest.partition("/")
        # Triton also takes the account's full host name.
        return CloudPath(scheme, "abfs", _checked(path, rest), {"account_name": account.partition(".")[0]})
    endpoint = _ENDPOINT.fullmatch(rest)
    if endpoint is None:
        return CloudPath(scheme, "s3", _checked(path, rest))
    url = f"{endpoint[1] or 'http'}://{endpoint[2]}"
    return CloudPath(scheme, "s3", _checked(path, endpoint[3]), {"endpoint_url": url})


def _checked(path: str, rest: str) -> str:
    """Return bucket and path.

    SAFETY: no component leads out of its folder, as they name local folders too.
    """
    parts = [part for part in rest.split("/") if part]
    if not parts or not _BUCKET.fullmatch(parts[0]) or ".." in parts:
        raise InvalidArgument(f"--model-repository: no bucket to read from in '{path}'; write {_FORMS}")
    return "/".join(parts)


_FORMS = "s3://bucket/path, s3://host:port/bucket/path, gs://bucket/path or as://account/container/path"
