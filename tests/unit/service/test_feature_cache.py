import gc
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.engine import FeatureCache
from service.engine.feature_cache import ENTRY_BYTES
from service.metrics import Metrics

BACKBONE = "ab" * 32
IDS = b"ids"
ROOM = 2**20


class Watched(FeatureCache):
    """A cache with its metrics and short calls."""

    def __init__(self, limit_bytes: int = ROOM) -> None:
        self.metrics = Metrics()
        super().__init__(limit_bytes, self.metrics)

    def look(self, scope: str | None = "acme", ids: bytes = IDS) -> NDArray[np.float32] | None:
        return self.get(scope, BACKBONE, None, "pooled", ids)

    def keep(
        self, scope: str | None = "acme", ids: bytes = IDS, value: float = 1, n: int = 8
    ) -> None:
        feature = np.full(n, value, dtype=np.float32)
        self.put(scope, BACKBONE, None, "pooled", ids, feature)

    def metric(self, name: str) -> float:
        found = self.metrics.registry.get_sample_value(f"headstock_feature_cache_{name}")
        assert found is not None
        return found


def bits(value: NDArray[np.float32] | None) -> bytes | None:
    return None if value is None else value.tobytes()


def test_what_was_kept_comes_back_to_the_bit() -> None:
    cache = Watched()
    odd = [0x7FC00001, 0xFF800000, 0x80000000, 1, 0x3F800001]  # NaN with a payload, -inf, -0.0 …
    batch = np.array([[0] * 5, odd], dtype=np.uint32).view(np.float32)
    cache.put("acme", BACKBONE, None, "pooled", IDS, batch[1])
    found = cache.look()
    assert found is not None
    assert bits(found) == bits(batch[1])
    assert found.dtype == np.float32
    assert found.shape == (5,)


def test_features_of_any_shape_are_kept() -> None:
    cache = Watched()
    batch = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    cache.put("acme", BACKBONE, None, "tokens", IDS, batch[1, :3])
    cache.put("acme", BACKBONE, None, "turned", IDS, batch[1].T)
    for name, put in (("tokens", batch[1, :3]), ("turned", batch[1].T)):
        found = cache.get("acme", BACKBONE, None, name, IDS)
        assert found is not None
        assert np.array_equal(found, put)


def test_a_kept_row_holds_no_batch_and_cannot_be_changed() -> None:
    cache = Watched()
    batch = np.ones((64, 8), dtype=np.float32)
    cache.put("acme", BACKBONE, None, "pooled", IDS, batch[3])
    batch[:] = 2
    found = cache.look()
    assert found is not None
    assert found.base is None
    assert found.tolist() == [1] * 8
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 3


KEY = ("acme", BACKBONE, "cd" * 32, "pooled", IDS)
OTHERS = [
    (None, *KEY[1:]),
    ("None", *KEY[1:]),
    ("", *KEY[1:]),
    ("shared", *KEY[1:]),
    ("acme2", *KEY[1:]),
    (KEY[0], "ef" * 32, *KEY[2:]),
    (*KEY[:2], None, *KEY[3:]),
    (*KEY[:2], "", *KEY[3:]),
    (*KEY[:2], BACKBONE, *KEY[3:]),
    (*KEY[:3], "tokens", KEY[4]),
    (*KEY[:4], b"ids\0"),
    (*KEY[:4], b""),
]


@pytest.mark.parametrize("other", OTHERS)
def test_every_part_of_the_key_counts(
    other: tuple[str | None, str, str | None, str, bytes],
) -> None:
    cache = Watched()
    one, two = np.ones(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    cache.put(*KEY, one)
    assert cache.get(*other) is None
    cache.put(*other, two)
    assert bits(cache.get(*KEY)) == bits(one)
    assert bits(cache.get(*other)) == bits(two)


class Colliding(bytes):
    """Inputs whose hashes are all the same."""

    def __hash__(self) -> int:
        return 1


def test_inputs_of_one_hash_are_told_apart() -> None:
    cache = Watched()
    ids = [Colliding([number]) for number in range(20)]
    for number, each in enumerate(ids[1:], start=1):
        cache.keep(ids=each, value=number)
    assert cache.look(ids=ids[0]) is None
    for number, each in enumerate(ids[1:], start=1):
        found = cache.look(ids=each)
        assert found is not None
        assert found[0] == number


def test_hits_and_misses_are_counted_and_what_is_kept_is_shown() -> None:
    cache = Watched()
    assert cache.look() is None
    cache.keep()
    assert cache.look() is not None
    assert cache.look() is not None
    assert cache.look("other") is None
    assert (cache.metric("hits_total"), cache.metric("misses_total")) == (2, 2)
    assert cache.metric("entries") == 1
    assert cache.metric("bytes") > 8 * 4 + len(IDS)


def test_the_same_twice_is_kept_once() -> None:
    cache = Watched()
    cache.keep()
    size = cache.metric("bytes")
    cache.keep()
    assert (cache.metric("bytes"), cache.metric("entries")) == (size, 1)


def size_of(ids: bytes = IDS, n: int = 8) -> int:
    """Of a shared entry, bytes."""
    cache = Watched()
    cache.keep(None, ids, n=n)
    return int(cache.metric("bytes"))


def test_the_least_recently_used_make_room() -> None:
    size = size_of(bytes(1))
    cache = Watched(20 * size)
    for number in range(20):
        cache.keep(None, ids=bytes([number]))
    assert cache.metric("entries") == 20
    assert cache.look(None, ids=bytes([0])) is not None
    cache.keep(None, ids=bytes([1]))  # a second run of the same input is a use, too
    cache.keep(None, ids=bytes([20]))
    cache.keep(None, ids=bytes([21]))
    kept = [number for number in range(22) if cache.look(None, ids=bytes([number])) is not None]
    assert kept == [0, 1, *range(4, 22)]
    assert cache.metric("bytes") == 20 * size


def test_a_too_large_entry_is_not_kept_and_costs_the_others_nothing() -> None:
    cache = Watched(16 * size_of(n=100))
    cache.keep(None, b"big", n=100)
    cache.keep(None, b"too", n=101)
    cache.keep(None, b"ids of a long text" * 30, n=1)
    assert cache.look(None, b"big") is not None
    assert cache.look(None, b"too") is None
    assert cache.metric("entries") == 1


def test_a_cache_that_is_off_keeps_and_counts_nothing() -> None:
    cache = Watched(0)
    assert not cache.enabled
    assert Watched(1).enabled
    cache.keep(n=0, ids=b"")
    assert cache.look(ids=b"") is None
    for name in ("hits_total", "misses_total", "bytes", "entries"):
        assert cache.metric(name) == 0


def test_what_is_a_tenants_own_is_forgotten_and_what_it_shared_stays() -> None:
    cache = Watched()
    for scope in ("acme", "other", None):
        cache.keep(scope)
        cache.keep(scope, b"more")
    cache.forget("acme")
    assert cache.look("acme") is None
    assert cache.look("acme", b"more") is None
    assert cache.look("other") is not None
    assert cache.look(None, b"more") is not None
    assert cache.metric("entries") == 4
    cache.forget("acme")
    cache.forget("nobody")
    assert cache.metric("entries") == 4
    cache.forget("other")
    assert cache.metric("bytes") == 2 * (8 * 4 + ENTRY_BYTES) + len(IDS) + len(b"more")
    cache.keep("acme", value=5)
    found = cache.look("acme")
    assert found is not None
    assert found[0] == 5


def test_what_made_room_before_is_no_trouble_to_forget() -> None:
    cache = Watched(20 * size_of())
    for number in range(100):
        cache.keep("acme" if number % 2 else "other", b"%03d" % number)
    assert 10 < cache.metric("entries") < 20
    cache.forget("acme")
    assert cache.look("acme", b"099") is None
    assert cache.look("other", b"098") is not None
    cache.forget("other")
    assert (cache.metric("entries"), cache.metric("bytes")) == (0, 0)


def fill(
    cache: Watched, n_rows: int, scope: Callable[[int], str | None], shape: tuple[int, int]
) -> None:
    width, n_tokens = shape
    batch = np.zeros((4, width), dtype=np.float32)
    for number in range(n_rows):
        ids = np.full(n_tokens, number, dtype=np.int64).tobytes()
        # A name of its own each time, as adapters and requests bring them.
        cache.put(scope(number), "".join(["ab"] * 32), None, "".join(["pool", "ed"]), ids, batch[2])


@pytest.mark.parametrize("n_rows", [1000, 3000, 5000])  # tables grow in steps
@pytest.mark.parametrize(
    "scope",
    [lambda _: None, lambda _: "".join(["ac", "me"]), lambda number: f"tenant-{number % 200}"],
    ids=["shared", "own", "many"],
)
@pytest.mark.parametrize("shape", [(8, 4), (384, 16)])
@pytest.mark.parametrize("limit", [2**40, 2**19], ids=["filling", "full"])
def test_the_bytes_are_those_that_it_takes(
    n_rows: int, scope: Callable[[int], str | None], shape: tuple[int, int], limit: int
) -> None:
    cache = Watched(limit)
    tracemalloc.start()
    try:
        fill(cache, n_rows, scope, shape)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used == pytest.approx(cache.metric("bytes"), rel=0.2)
    assert cache.metric("bytes") <= limit


scopes = st.sampled_from([None, "a", "b"])
inputs = st.binary(max_size=2)
steps = st.one_of(
    st.tuples(st.just("keep"), scopes, inputs, st.integers(0, 60)),
    st.tuples(st.just("look"), scopes, inputs, st.just(0)),
    st.tuples(st.just("forget"), st.sampled_from(["a", "b"]), st.just(b""), st.just(0)),
)


@given(st.lists(steps, max_size=60), st.integers(0, 12_000))
def test_it_answers_as_a_plain_table_would_or_not_at_all(
    taken: list[tuple[str, str | None, bytes, int]], limit: int
) -> None:
    cache = Watched(limit)
    table: dict[tuple[str | None, bytes], int] = {}
    for step, scope, ids, n in taken:
        if step == "forget":
            assert scope is not None
            cache.forget(scope)
            table = {key: length for key, length in table.items() if key[0] != scope}
        elif step == "keep":
            n = table.setdefault((scope, ids), n)  # one input has one feature
            cache.keep(scope, ids, value=n, n=n)
        else:
            found = cache.look(scope, ids)
            assert found is None or found.tolist() == [table[scope, ids]] * table[scope, ids]
        assert 0 <= cache.metric("bytes") <= limit
    for name in ("a", "b"):
        cache.forget(name)
    shared = [ids for scope, ids in table if scope is None and cache.look(None, ids) is not None]
    assert cache.metric("entries") == len(shared)
    sizes = [len(ids) + 4 * table[None, ids] + ENTRY_BYTES for ids in shared]
    assert cache.metric("bytes") == sum(sizes)
