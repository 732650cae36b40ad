"""Engines for tests: everything has a default, so that a test says only what it is about."""

import asyncio
from collections.abc import Sequence

from adapters.adapter import Adapter
from adapters.answers import Answer
from backbone import Backbone
from service.engine import Engine, EngineLimits, FeatureCache, Job
from service.metrics import Metrics


def make_engine(
    backbone: Backbone,
    metrics: Metrics | None = None,
    *,
    queue_rows: int = 10_000,
    longest_wait_s: float = 1000,
    request_s: float = 1000,
    batch_tokens: int = 256,
    runs: int = 1,
    lora_ranks: int = 256,
    tokens_per_s: float = 1e6,
    cache_bytes: int = 0,
) -> Engine:
    """An engine that has not been started."""
    metrics = metrics or Metrics()
    limits = EngineLimits(
        queue_rows, longest_wait_s, request_s, batch_tokens, runs, lora_ranks, tokens_per_s
    )
    cache = FeatureCache(cache_bytes, metrics)
    return Engine(backbone, limits, metrics.engine(backbone.name), cache)


def answer_alone(backbone: Backbone, adapter: Adapter, text: str, top_k: int = 1) -> Answer:
    """What an adapter says to a text with no engine, no neighbours and a pool of its own."""
    row = backbone.preprocess(text, adapter.per_token)
    name, lora = adapter.manifest.feature, adapter.lora
    placed = None
    if lora is not None:
        weights = {site: (each.a, each.b) for site, each in lora.sites.items()}
        placed = backbone.lora_pool(lora.rank).place(range(1, 1 + lora.rank), weights)
    feature = backbone.run([row], [name], [placed])[name][0]
    if adapter.per_token:
        assert row.spans is not None
        feature = feature[row.spans.positions]
    return adapter.answer(feature, top_k)


async def answer(
    engine: Engine, adapter: Adapter, texts: Sequence[str], top_k: int = 1, tenant: str = "acme"
) -> list[Answer]:
    """What one adapter says to texts."""
    rows = await engine.preprocess(texts, adapter.per_token, tenant)
    (answered,) = await engine.answer(rows, Job(tenant, (adapter,), top_k))
    return [each for (each,) in answered]


def ask(
    engine: Engine, adapter: Adapter, *texts: str, top_k: int = 1
) -> asyncio.Task[list[Answer]]:
    return asyncio.create_task(answer(engine, adapter, texts, top_k))
