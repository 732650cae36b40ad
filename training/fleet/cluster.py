"""Jobs as tasks of a Ray cluster: rows and features go there, adapter files come back.

The computers of the cluster need Headstock with training installed, in the versions of this one,
and share no disk with it; only LoRA opens the backbone, under the path that it has here.
"""

import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

from threadpoolctl import threadpool_limits

from training.cores import use_cores
from training.errors import TrainingError
from training.fleet.work import Outcome, Work, perform

LOCAL = "local"
_TRIES_MORE = 2  # where a task's process dies
_WAITING = 2  # tasks a core that are sent ahead


def run_on_ray(works: Iterator[Work], address: str) -> Generator[Outcome, None, None]:
    """Outcomes as they come, from the cluster at `address`; "local" starts one on this computer.

    Raises TrainingError where there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported
    import ray

    options: dict[str, Any] = {}
    if address == LOCAL:
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options["num_cpus"] = len(os.sched_getaffinity(0))
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"there is no Ray cluster at {address}: {error}; start one with ray start, or give "
            "--ray local"
        ) from error
    try:
        yield from _run(ray, works)
    finally:
        ray.shutdown()


def _run(ray: Any, works: Iterator[Work]) -> Generator[Outcome, None, None]:
    task = ray.remote(num_cpus=1, max_retries=_TRIES_MORE)(_perform)
    under_way: dict[Any, int] = {}
    while True:
        most = max(1, int(ray.cluster_resources().get("CPU", 1))) * _WAITING
        while len(under_way) < most and (work := next(works, None)) is not None:
            under_way[task.remote(work)] = work.number
        if not under_way:
            return
        (reference,), _ = ray.wait(list(under_way), num_returns=1)
        number = under_way.pop(reference)
        try:
            yield ray.get(reference)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            yield Outcome(number, 0.0, reason=f"Ray could not do it: {reason}")


def _perform(work: Work) -> Outcome:
    """On a computer of the cluster, in one of its many processes."""
    use_cores(1)
    with threadpool_limits(limits=1):
        return perform(work)
