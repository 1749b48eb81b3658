"""The generate extension over HTTP, with nothing but the standard library: fields in, fields out, and events.

python http_generate.py [--url localhost:8000]
"""

import argparse
import http.client
import json
from collections.abc import Iterator
from typing import Any

TEXT = "the quick brown fox"


def generate(connection: http.client.HTTPConnection, model: str, **fields: Any) -> dict[str, Any]:
    """Ask for the one response of a model. Fields that are no inputs become parameters of the request."""
    connection.request("POST", f"/v2/models/{model}/generate", json.dumps(fields))
    response = connection.getresponse()
    answer = json.loads(response.read())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def generate_stream(connection: http.client.HTTPConnection, model: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """Yield the responses of a model as they come: server-sent events, each a line that begins with `data: `."""
    connection.request("POST", f"/v2/models/{model}/generate_stream", json.dumps(fields))
    response = connection.getresponse()
    while line := response.readline():
        if line.startswith(b"data: "):
            answer = json.loads(line.removeprefix(b"data: "))
            if "error" in answer:
                raise RuntimeError(answer["error"])
            yield answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    connection = http.client.HTTPConnection(parser.parse_args().url, timeout=30)
    answer = generate(connection, "reverse_text", TEXT=TEXT)
    print("reversed  ", answer["REVERSED"])
    for answer in generate_stream(connection, "word_by_word", TEXT=TEXT):
        print("word      ", answer["WORD"])
    try:
        generate(connection, "word_by_word", TEXT=TEXT)
    except RuntimeError as error:
        print("refused   ", error)
    connection.close()


if __name__ == "__main__":
    main()
