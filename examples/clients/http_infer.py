"""Inference over HTTP with tritonclient: numbers, texts, and the classification of a picture.

pip install 'tritonclient[http]'
python http_infer.py [--url localhost:8000]
"""

import argparse

import numpy as np
import tritonclient.http as triton


def add_sub(client: triton.InferenceServerClient) -> None:
    """Two inputs, two outputs."""
    first = np.arange(16, dtype=np.int32).reshape(1, 16)
    second = np.ones((1, 16), np.int32)
    inputs = [
        triton.InferInput("INPUT0", first.shape, "INT32").set_data_from_numpy(first),
        triton.InferInput("INPUT1", second.shape, "INT32").set_data_from_numpy(second),
    ]
    result = client.infer("add_sub", inputs)
    assert (result.as_numpy("OUTPUT0") == first + second).all()
    assert (result.as_numpy("OUTPUT1") == first - second).all()
    print("sum       ", result.as_numpy("OUTPUT0")[0])
    print("difference", result.as_numpy("OUTPUT1")[0])


def reverse_text(client: triton.InferenceServerClient) -> None:
    """Strings are arrays of objects."""
    texts = np.array([["hello", "wörld"]], dtype=object)
    inputs = [triton.InferInput("TEXT", texts.shape, "BYTES").set_data_from_numpy(texts)]
    result = client.infer("reverse_text", inputs)
    print("reversed  ", [item.decode() for item in result.as_numpy("REVERSED")[0]])


def classify(client: triton.InferenceServerClient) -> None:
    """With class_count the server returns the best classes, as "value:index:label"."""
    pixels = np.zeros((1, 3, 224, 224), np.float32)
    pixels[:, 1] = 1.0
    inputs = [triton.InferInput("PIXELS", pixels.shape, "FP32").set_data_from_numpy(pixels)]
    outputs = [triton.InferRequestedOutput("PROBABILITIES", class_count=2)]
    result = client.infer("image_statistics", inputs, outputs=outputs)
    print("classes   ", [item.decode() for item in result.as_numpy("PROBABILITIES")[0]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    url = parser.parse_args().url
    with triton.InferenceServerClient(url) as client:
        add_sub(client)
        reverse_text(client)
        classify(client)


if __name__ == "__main__":
    main()
