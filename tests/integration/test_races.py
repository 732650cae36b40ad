"""No wrong tenant's weights, ever: adapters come, are replaced and evicted under load.

More LoRAs are in use than there are slots, and more adapters than stay resident. Every version has
random weights of its own, and every answer must have the very bits that its version gives alone: a
slot that changed hands too early, or a head of another version, could not pass.
"""

import asyncio
from random import Random

import pytest

from adapters.adapter import Adapter, read_adapter
from adapters.answers import Answer
from backbone import Backbone
from service.engine import Engine, Job, ResidentAdapters
from service.metrics import Metrics
from tests.engines import answer_alone, make_engine
from tests.support import PAIRS, make_adapter_file
from tests.tiny import SITES, make_tiny_backbone
from training.backbones.packing import Build

ANSWERS = 100_000
ADAPTERS = 48
VERSIONS = 4
TENANTS = 7
TEXTS = ("a", "ab", "hello", "a longer text", "some more")
ROWS = 10
CLIENTS = 40
_RANKS = (0, 1, 4, 8, 8, 16, 64)


class World:
    """All versions of all adapters with what they answer alone, and which version is released."""

    def __init__(self, backbone: Backbone) -> None:
        self.contents: dict[str, bytes] = {}
        self.alone: dict[tuple[str, str], Answer] = {}
        self.released: dict[int, str] = {}
        self.versions = {
            number: [self._make(backbone, number, version) for version in range(VERSIONS)]
            for number in range(ADAPTERS)
        }

    def _make(self, backbone: Backbone, number: int, version: int) -> str:
        task, head = PAIRS[number % len(PAIRS)]
        rank = _RANKS[(number + version) % len(_RANKS)]
        sites = SITES if number % 3 else {"layer.query": SITES["layer.query"]}
        content = make_adapter_file(
            seed=number * VERSIONS + version,
            task=task,
            head=head,
            sites=sites if rank else None,
            rank=rank,
        )
        adapter = read_adapter(content)
        self.contents[adapter.digest] = content
        for text in TEXTS:
            self.alone[adapter.digest, text] = answer_alone(backbone, adapter, text)
        self.released[number] = adapter.digest
        return adapter.digest

    def read(self, digest: str) -> bytes:
        """The bytes of a version, as a registry gives them."""
        return self.contents[digest]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    root = tmp_path_factory.mktemp(request.param) / "backbones"
    return make_tiny_backbone(root, build=Build(precision=request.param))


async def test_a_hundred_thousand_answers_and_none_wrong(backbone: Backbone) -> None:
    world, metrics = World(backbone), Metrics()
    sizes = [len(content) for content in world.contents.values()]
    a_quarter = sum(sizes) // VERSIONS // 4
    residents = ResidentAdapters(world.read, a_quarter, metrics)
    engine = make_engine(backbone, metrics, runs=2, lora_ranks=1, batch_tokens=64)
    engine.start()
    share = ANSWERS // 2 // CLIENTS  # half of them in each precision
    replacing = asyncio.create_task(replace(world, residents))
    try:
        wrong = await asyncio.gather(
            *(ask(world, residents, engine, seed, share) for seed in range(CLIENTS))
        )
    finally:
        replacing.cancel()
        await engine.stop()
    assert sum(wrong) == 0
    value = metrics.registry.get_sample_value
    labels = {"backbone": backbone.name}
    assert value("headstock_batch_rows_sum", labels) == share * CLIENTS
    # The race was on: slots and residents changed hands all the time, and batches were shared.
    assert (value("headstock_lora_fills_total", labels) or 0) > 1000
    assert (value("headstock_adapter_loads_total", {"outcome": "loaded"}) or 0) > 1000
    batches = value("headstock_batch_rows_count", labels) or 0
    assert (value("headstock_batch_adapters_sum", labels) or 0) > 1.2 * batches


async def ask(
    world: World, residents: ResidentAdapters, engine: Engine, seed: int, share: int
) -> int:
    """One client; how many answers were not its version's own."""
    random, wrong = Random(seed), 0
    for _ in range(share // ROWS):
        number = random.randrange(ADAPTERS)
        digest = world.released[number]
        adapter: Adapter = await residents.get(digest)
        texts = random.choices(TEXTS, k=ROWS)
        rows = await engine.preprocess(texts, adapter.per_token, "any")
        (answered,) = await engine.answer(rows, Job(f"tenant-{number % TENANTS}", (adapter,)))
        assert len(answered) == ROWS
        wrong += sum(
            answer != world.alone[digest, text]
            for (answer,), text in zip(answered, texts, strict=True)
        )
    return wrong


async def replace(world: World, residents: ResidentAdapters) -> None:
    """Release other versions without pause; what no release names is dropped at once."""
    random = Random(0)
    while True:
        number = random.randrange(ADAPTERS)
        old, new = world.released[number], random.choice(world.versions[number])
        await residents.get(new)
        world.released[number] = new
        if new != old:
            residents.drop(old)
        await asyncio.sleep(0)
