"""A gRPC stream with tritonclient: many requests on one call, a decoupled model, and what ends it.

pip install 'tritonclient[grpc]'
python grpc_stream.py [--url localhost:8001]
"""

import argparse
import queue

import numpy as np
import tritonclient.grpc as triton

TEXT = "the quick brown fox jumps over the lazy dog"
ANSWER_WITHIN_S = 30


class Answers:
    """The callback of a stream: called with (result, error) on a thread of the client's."""

    def __init__(self) -> None:
        self._queue: queue.Queue = queue.Queue()

    def __call__(self, result: triton.InferResult, error: Exception | None) -> None:
        self._queue.put((result, error))

    def next(self) -> triton.InferResult:
        result, error = self._queue.get(timeout=ANSWER_WITHIN_S)
        if error is not None:
            raise error
        return result


def text_input(text: str) -> triton.InferInput:
    return triton.InferInput("TEXT", [1], "BYTES").set_data_from_numpy(np.array([text.encode()], dtype=object))


def words(client: triton.InferenceServerClient, answers: Answers, text: str) -> list[str]:
    """Return all responses of the decoupled model to one request.

    With enable_empty_final_response an empty response tells that there are no more.
    """
    client.async_stream_infer("word_by_word", [text_input(text)], enable_empty_final_response=True)
    found = []
    while True:
        result = answers.next()
        word = result.as_numpy("WORD")
        if word is not None:
            found.append(word[0].decode())
        if result.get_response().parameters["triton_final_response"].bool_param:
            return found


def in_order(client: triton.InferenceServerClient, answers: Answers, count: int) -> list[str]:
    """Send requests without waiting; an ordinary model's answers come in their order."""
    for index in range(count):
        text = triton.InferInput("TEXT", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[f"text {index}".encode()]], dtype=object))
        client.async_stream_infer("reverse_text", [text], request_id=str(index))
    return [answers.next().get_response().id for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8001")
    with triton.InferenceServerClient(parser.parse_args().url) as client:
        answers = Answers()
        client.start_stream(answers)
        print("words     ", words(client, answers, TEXT))
        print("in order  ", in_order(client, answers, 5))
        # What is still open is cancelled, and the model is told.
        client.stop_stream(cancel_requests=True)


if __name__ == "__main__":
    main()
