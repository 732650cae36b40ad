import asyncio
import threading

import pytest

from adapters.errors import InvalidAdapter, NotFound, RegistryUnavailable
from service.engine import ResidentAdapters
from service.metrics import Metrics
from tests.support import make_adapter_file
from tests.unit.service.support import PATIENCE_S, make_adapter, turn

FILES = {make_adapter(seed).digest: make_adapter_file(seed=seed) for seed in range(4)}
A, B, C, D = FILES
SIZE = len(FILES[A])


class Store:
    """Adapter files by digest; counts reads, holds them while it is closed, fails when told."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.failures: list[Exception] = []
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Semaphore(0)

    def read(self, digest: str) -> bytes:
        self.reads.append(digest)
        self.entered.release()
        assert self.opened.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop(0)
        return FILES[digest]

    async def began(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE_S)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def residents(store: Store, metrics: Metrics) -> ResidentAdapters:
    return ResidentAdapters(store.read, 2 * SIZE + SIZE // 2, metrics)


def gauge(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"headstock_{name}", labels)


async def test_an_adapter_is_read_and_verified_once(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    adapter = await residents.get(A)
    assert adapter.digest == A
    assert await residents.get(A) is adapter
    assert store.reads == [A]
    assert A in residents
    assert gauge(metrics, "adapter_loads_total", outcome="loaded") == 1


async def test_all_who_ask_at_once_wait_for_one_load(
    residents: ResidentAdapters, store: Store
) -> None:
    store.opened.clear()
    tasks = [asyncio.create_task(residents.get(A)) for _ in range(50)]
    await store.began()
    store.opened.set()
    adapters = await asyncio.gather(*tasks)
    assert store.reads == [A]
    assert len(set(map(id, adapters))) == 1


async def test_a_slow_load_holds_up_no_other(residents: ResidentAdapters, store: Store) -> None:
    store.opened.clear()
    slow = asyncio.create_task(residents.get(A))
    await store.began()
    residents.put(make_adapter(1))
    assert (await residents.get(B)).digest == B
    assert not slow.done()
    store.opened.set()
    assert (await slow).digest == A


async def test_the_least_recently_used_makes_room(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    for digest in (A, B, A, C):
        await residents.get(digest)
    assert [digest in residents for digest in (A, B, C)] == [True, False, True]
    assert gauge(metrics, "resident_adapters") == 2
    assert gauge(metrics, "resident_bytes") == 2 * SIZE
    await residents.get(B)
    assert store.reads == [A, B, C, B]
    assert [digest in residents for digest in (A, B, C)] == [False, True, True]


async def test_one_that_is_larger_than_the_limit_is_served_alone(store: Store) -> None:
    residents = ResidentAdapters(store.read, SIZE // 2, Metrics())
    for digest in (A, B, B):
        await residents.get(digest)
    assert store.reads == [A, B]
    assert (A in residents, B in residents) == (False, True)


async def test_a_failure_reaches_all_who_wait_and_is_tried_again_next_time(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    store.opened.clear()
    store.failures = [RegistryUnavailable("the disk is full")]
    tasks = [asyncio.create_task(residents.get(A)) for _ in range(3)]
    await store.began()
    store.opened.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RegistryUnavailable] * 3
    assert store.reads == [A]
    assert gauge(metrics, "adapter_loads_total", outcome="failed") == 1
    assert (await residents.get(A)).digest == A
    assert store.reads == [A, A]


async def test_a_file_that_is_no_adapter_never_becomes_resident(metrics: Metrics) -> None:
    residents = ResidentAdapters(lambda _: b"junk", SIZE, metrics)
    with pytest.raises(InvalidAdapter):
        await residents.get(A)
    assert A not in residents
    assert gauge(metrics, "resident_bytes") == 0


async def test_what_the_registry_does_not_have_is_not_found(
    residents: ResidentAdapters, store: Store
) -> None:
    store.failures = [NotFound("there is no version with this digest")]
    with pytest.raises(NotFound):
        await residents.get(A)


async def test_a_caller_that_leaves_does_not_end_the_load(
    residents: ResidentAdapters, store: Store
) -> None:
    store.opened.clear()
    leaving, staying = (asyncio.create_task(residents.get(A)) for _ in range(2))
    await store.began()
    leaving.cancel()
    await turn()
    assert leaving.cancelled()
    store.opened.set()
    assert (await staying).digest == A
    assert store.reads == [A]


async def test_a_load_that_everybody_left_still_ends_well(
    residents: ResidentAdapters, store: Store
) -> None:
    store.opened.clear()
    leaving = asyncio.create_task(residents.get(A))
    await store.began()
    leaving.cancel()
    await turn()
    later = asyncio.create_task(residents.get(A))
    await turn()
    store.opened.set()
    assert (await later).digest == A
    assert store.reads == [A]


async def test_what_was_verified_elsewhere_is_not_read_again(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    adapter = make_adapter(0)
    residents.put(adapter)
    residents.put(make_adapter(0))
    assert await residents.get(A) is adapter
    assert store.reads == []
    assert gauge(metrics, "resident_adapters") == 1
    assert gauge(metrics, "resident_bytes") == SIZE


async def test_a_dropped_adapter_gives_its_bytes_back(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    await residents.get(A)
    residents.drop(A)
    residents.drop(A)
    residents.drop(D)
    assert A not in residents
    assert gauge(metrics, "resident_adapters") == 0
    assert gauge(metrics, "resident_bytes") == 0
    await residents.get(A)
    assert store.reads == [A, A]


async def test_an_adapter_that_is_dropped_while_it_loads_is_not_kept(
    residents: ResidentAdapters, store: Store, metrics: Metrics
) -> None:
    store.opened.clear()
    loading = asyncio.create_task(residents.get(A))
    await store.began()
    residents.drop(A)
    again = asyncio.create_task(residents.get(B))
    await store.began()
    store.opened.set()
    assert (await loading).digest == A
    await again
    assert A not in residents
    assert gauge(metrics, "resident_bytes") == SIZE
    await residents.get(A)
    assert store.reads == [A, B, A]


async def test_one_that_is_asked_for_after_its_drop_is_kept(
    residents: ResidentAdapters, store: Store
) -> None:
    store.opened.clear()
    first = asyncio.create_task(residents.get(A))
    await store.began()
    residents.drop(A)
    second = asyncio.create_task(residents.get(A))
    await store.began()
    store.opened.set()
    assert (await first).digest == (await second).digest == A
    assert A in residents
