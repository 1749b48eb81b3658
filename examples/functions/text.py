"""Models without a repository: functions of NumPy arrays.

tensorhub serve examples/functions/text.py
tensorhub infer lengths --random

# and start anew whenever this file has been saved:
tensorhub serve examples/functions/text.py --model-control-mode=poll --repository-poll-secs=1
"""

import asyncio
from collections.abc import Iterator

import numpy as np

import tensorhub


@tensorhub.model(
    inputs={"a": (np.float32, [16]), "b": tensorhub.TensorSpec("FP32", (16,), optional=True)},
    outputs={"SUM": (np.float32, [16]), "DIFFERENCE": (np.float32, [16])},
    max_batch_size=8,
    dynamic_batching={"max_queue_delay_microseconds": 500},
)
def add_sub(a: np.ndarray, b: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Requests that arrive together are one call; the first dimension of an array counts their rows."""
    if b is None:
        b = np.zeros_like(a)
    return {"SUM": a + b, "DIFFERENCE": a - b}


@tensorhub.model(inputs={"text": (str, [-1])}, outputs={"LENGTH": (np.int64, [-1])})
async def lengths(text: np.ndarray) -> np.ndarray:
    """Calls of a coroutine overlap: each may wait for something else."""
    await asyncio.sleep(0.001)
    return np.array([len(item.decode()) for item in text.ravel()], np.int64)


@tensorhub.model(inputs={"text": (str, [1])}, outputs={"WORD": (str, [1])})
def words(text: np.ndarray) -> Iterator[np.ndarray]:
    """A generator is a decoupled model: every word is a response, on a stream."""
    for word in text[0].decode().split():
        yield np.array([word], object)
