"""The errors of the bench."""


class BenchError(Exception):
    """The bench cannot go on; the message is one line for the person who ran it: what, where, remedy."""


class ServerError(BenchError):
    """A server does not start, ends, or gives an answer that is wrong or an error.

    Attributes:
        server: its name, with which the message begins.
    """

    def __init__(self, server: str, message: str) -> None:
        super().__init__(f"{server}: {message}")
        self.server = server
