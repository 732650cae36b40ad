"""Test rows through a server, beside what `headstock evaluate` says of them."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.common import Bench
from headstock.client import Retry

TENANT, ADAPTER = "bench", "test"
_CLIENTS = 4
# The queue may be as full as one tenant may have it.
_PATIENT = Retry(attempts=1000, patience_s=600)


def same_answers(
    running: Bench, texts: Sequence[str], expected: Sequence[Mapping[str, Any]], size: int
) -> tuple[int, float]:
    """How many texts the released adapter answers as `expected`, to the bit, and the seconds.

    Several clients send all texts in requests of `size`.
    """
    requests = [texts[start : start + size] for start in range(0, len(texts), size)]

    started = time.perf_counter()
    with running.new_client(_PATIENT) as client, ThreadPoolExecutor(_CLIENTS) as pool:

        def send(inputs: Sequence[str]) -> Sequence[Mapping[str, Any]]:
            return client.predict(TENANT, ADAPTER, inputs)["predictions"]

        answers = [answer for part in pool.map(send, requests) for answer in part]
    seconds = time.perf_counter() - started
    same = sum(
        {key: answer[key] for key in row} == row
        for answer, row in zip(answers, expected, strict=True)
    )
    return same, seconds
