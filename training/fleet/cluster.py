"""Jobs as tasks of a Ray cluster: rows and features go there, adapter files come back.

The computers of the cluster need Headstock with training installed, in the versions of this one,
and share no disk with it; only LoRA opens the backbone, under the path that it has here.
"""

import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from threadpoolctl import threadpool_limits

from backbone.cores import cores, use_cores
from training.errors import TrainingError
from training.fleet.train import Run
from training.fleet.work import Outcome, Work, perform

LOCAL = "local"
_TRIES_MORE = 2  # where a task's process dies
_CONNECT_S = 5.0
_WAITING = 2  # tasks a core that are sent ahead


def on_ray(address: str) -> Run:
    """Performs works on the cluster at `address`; "local" starts one on this computer.

    Its outcomes raise TrainingError where there is no cluster.
    """
    if address == LOCAL:  # on 127.0.0.1, and there alone: read when Ray is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    return partial(_connect_and_run, ray, address)


def _connect_and_run(
    ray: Any, address: str, works: Iterator[Work]
) -> Generator[Outcome, None, None]:
    options: dict[str, Any] = {}
    with ExitStack() as stack:
        if address == LOCAL:
            stack.enter_context(_home_of_its_own())
            options = {"include_dashboard": False, "num_cpus": cores()}
        try:
            _check_reachable(address)
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise TrainingError(
                f"there is no Ray cluster at {address}: {error}; start one with ray start, or give "
                "--ray local"
            ) from error
        # Ray prints what became of processes to standard output, which is for the result alone.
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.callback(ray.shutdown)
        yield from _run(ray, works)


@contextmanager
def _home_of_its_own() -> Iterator[None]:
    """Give the processes of a local cluster a home folder that ends with it.

    Ray keeps its key there, and looks there for where the cluster runs; where that is not said,
    it asks the metadata services of three clouds, also with its usage reports turned off.
    """
    before = os.environ.get("HOME")
    with TemporaryDirectory(prefix="headstock-ray-") as home:
        Path(home, "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
        os.environ["HOME"] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and ends the process then. Raises OSError, ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), _CONNECT_S).close()


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
