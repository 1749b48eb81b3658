"""The one error of the bench."""


class BenchError(Exception):
    """The bench cannot go on; the message is one line for the person who ran it: what, where, remedy."""
