"""Ray Serve with model multiplexing: `python -m benchmarks.peers.ray.service PORT RESIDENT`."""

import asyncio
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.full_model import RUNS, FullModel


def application(root: Path, resident: int) -> Any:
    """One replica that keeps the `resident` last used of the models in `root` loaded."""

    @serve.deployment(num_replicas=1, max_ongoing_requests=100)
    class Tenants:
        def __init__(self) -> None:
            self.pool = ThreadPoolExecutor(RUNS)

        @serve.multiplexed(max_num_models_per_replica=resident)  # type: ignore[untyped-decorator]
        async def model(self, name: str) -> Any:
            return await self.aside(FullModel, root / name)

        async def aside(self, function: Any, *arguments: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.pool, function, *arguments)

        async def __call__(self, request: Request) -> list[str]:
            texts = await request.json()
            model = await self.model(serve.get_multiplexed_model_id())
            labels: list[str] = await self.aside(model.predict, texts)
            return labels

    return Tenants.bind()  # type: ignore[attr-defined]  # from the decorator


def main() -> None:
    """Serve until asked to stop."""
    port, resident, root, scratch = sys.argv[1:]
    ray.init(num_cpus=RUNS, include_dashboard=False, _temp_dir=scratch, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port), "access_log": False})
    serve.run(application(Path(root), int(resident)), route_prefix="/")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(0.2):
        pass
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
