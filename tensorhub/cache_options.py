"""`--cache-config`: which response cache there is, and how large it is."""

from collections.abc import Sequence

from tensorhub.option_kinds import Scoped

_ALLOWED = "--cache-config=local,size=<bytes>"


def local_byte_size(settings: Sequence[Scoped]) -> int:
    """Return the budget of each worker's cache in bytes; 0: there is no cache.

    Args:
        settings: of `--cache-config`; of two with the same name the last one counts.

    Raises:
        ValueError: they ask for what there is not, or make no sense; the message is for the one who gave them.
    """
    scopes = list(dict.fromkeys(item.scope for item in settings))
    if not scopes:
        return 0
    if len(scopes) > 1:
        raise ValueError("found multiple cache configurations, but only a single cache is currently supported")
    if scopes != ["local"]:
        raise ValueError(f"there is no cache '{scopes[0]}' in this version. Use {_ALLOWED}")
    given = {item.name: item.value for item in settings}
    for name in given:
        if name != "size":
            raise ValueError(f"the cache 'local' has no setting '{name}'. Use {_ALLOWED}")
    size = given["size"]
    if not (size.isascii() and size.isdecimal() and 0 < int(size) < 1 << 63):
        raise ValueError(f"the size of the cache 'local' must be a number of bytes above 0. Got '{size}'")
    return int(size)
