"""Many tenants in one process: memory a tenant, shared batches, swaps under load."""

import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.adapters import write_adapter
from benchmarks.common import Bench, Figure, backbone_digest, bench
from headstock.client import RequestFailed
from headstock.client.answers import Predictions

TENANTS = 200
LABELS = 77
SWAPS = 100
SWAP_CLIENTS = 8
WIDTH = 384
_TEXTS = ("Where is my card?", "I want to close my account", "Why was I charged a fee today?")


def measure() -> list[Figure]:
    """Fresh heads with random weights: what they say does not matter, what they cost does."""
    digest = backbone_digest()
    with tempfile.TemporaryDirectory() as folder, bench() as running:
        return [*_many(running, Path(folder), digest), *_swap(running, Path(folder), digest)]


def _many(running: Bench, folder: Path, digest: str) -> list[Figure]:
    def upload(number: int) -> None:
        file = write_adapter(folder, f"tenant-{number}", digest, number, LABELS, WIDTH)
        running.client.create_tenant(f"tenant-{number}")
        running.client.push(file, f"tenant-{number}", "intents", activate=True)

    def ask(number: int) -> bool:
        answer = running.client.predict(f"tenant-{number}", "intents", _TEXTS)
        return all(row["label"].startswith(f"tenant-{number}/") for row in answer["predictions"])

    upload(0)
    assert all(ask(0) for _ in range(200)), "a wrong tenant's answer"  # and buffers are warm
    before = running.worker_rss()
    for number in range(1, TENANTS):
        upload(number)
    with ThreadPoolExecutor(8) as pool:
        right = sum(pool.map(ask, list(range(TENANTS)) * 5))
    grown = (running.worker_rss() - before) / (TENANTS - 1)
    batches = running.metric("headstock_batch_adapters_count")
    adapters = running.metric("headstock_batch_adapters_sum")
    return [
        Figure(
            f"memory a tenant, {TENANTS} tenants with {LABELS} labels",
            f"{grown / 2**20:.2f} MB",
            "1 MB",
        ),
        Figure("answers with the right tenant's labels", f"{right:,} of {TENANTS * 5:,}", "all"),
        Figure(
            "adapters in a batch, mean over 8 clients", f"{adapters / batches:.2f}", "more than 1"
        ),
    ]


def _swap(running: Bench, folder: Path, digest: str) -> list[Figure]:
    """Clients send without pause while an adapter is replaced; each answer is one version's."""
    files = [
        write_adapter(folder, name, digest, seed, LABELS, WIDTH)
        for seed, name in enumerate(("even", "odd"))
    ]
    running.client.create_tenant("swapped")
    running.client.push(files[0], "swapped", "intents", activate=True)
    stop, outcomes, lock = threading.Event(), Counter[str](), threading.Lock()

    def send() -> None:
        with running.new_client() as client:
            while not stop.is_set():
                try:
                    outcome = _outcome(client.predict("swapped", "intents", _TEXTS))
                except RequestFailed:
                    outcome = "failed"
                with lock:
                    outcomes[outcome] += 1

    seconds = []
    with ThreadPoolExecutor(SWAP_CLIENTS) as pool:
        senders = [pool.submit(send) for _ in range(SWAP_CLIENTS)]
        try:
            for number in range(1, SWAPS + 1):
                started = time.perf_counter()
                running.client.push(files[number % 2], "swapped", "intents", activate=True)
                seconds.append(time.perf_counter() - started)
        finally:
            stop.set()
        for sender in senders:
            sender.result()
    return [
        Figure(f"requests during {SWAPS} swaps, {SWAP_CLIENTS} clients", f"{outcomes.total():,}"),
        Figure("of these failed", f"{outcomes['failed']}", "0"),
        Figure("of these mixed two versions", f"{outcomes['mixed']}", "0"),
        Figure("upload to live, median", f"{1000 * float(np.median(seconds)):.0f} ms", "1,000 ms"),
    ]


def _outcome(answer: Predictions) -> str:
    """Which version the labels are of, and whether the answer names the same one."""
    names = {row["label"].partition("/")[0] for row in answer["predictions"]}
    expected = "even" if answer["adapter"]["version"] == 1 else "odd"
    return expected if names == {expected} else "mixed"
