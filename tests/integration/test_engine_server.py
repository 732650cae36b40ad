"""The whole engine behind a real server: LoRA of any rank, every kind of adapter, one batch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.adapter import Adapter, read_adapter
from backbone import Backbone, load_backbone
from service.answers import to_prediction
from tests.engines import answer_alone
from tests.integration.server import Server, predict, running, total, upload
from tests.support import PAIRS, make_adapter_file
from tests.tiny import SITES

TEXTS = ["a", "hello", "one more text"]
RANKS = (0, 1, 8, 64)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("engine"), lora_ranks=64) as (server, _):
        yield server


@pytest.fixture(scope="module")
def backbone(server: Server) -> Backbone:
    return load_backbone(server.home / "backbones" / "tiny")


@pytest.fixture(scope="module")
def adapters(server: Server, backbone: Backbone) -> dict[str, Adapter]:
    """An adapter of every kind, with and without LoRA of several ranks, released."""
    server.add_tenant("acme")
    released = {}
    with server.http() as http:
        for number, (task, head) in enumerate(PAIRS):
            for rank in RANKS:
                content = make_adapter_file(
                    seed=100 * number + rank,
                    backbone=backbone.digest,
                    task=task,
                    head=head,
                    sites=SITES if rank else None,
                    rank=rank,
                )
                name = f"{task}-{head}-{rank}"
                upload(http, "acme", name, content)
                released[name] = read_adapter(content)
    return released


def expected(backbone: Backbone, adapter: Adapter, text: str) -> dict[str, Any]:
    spans = backbone.preprocess(text, with_spans=True).spans
    answer = answer_alone(backbone, adapter, text)
    return to_prediction(answer, text, spans.characters if spans else ()).model_dump(mode="json")


def test_the_start_logs_what_it_measured(server: Server) -> None:
    (chosen,) = (event for event in server.events() if event["event"] == "backbone")
    assert (chosen["backbone"], chosen["precision"]) == ("tiny", "fp32")
    assert chosen["int8_kernels"] in ("fast", "exact")
    assert min(chosen[name] for name in ("runs", "threads", "tokens_per_s")) >= 1


def test_every_kind_answers_as_alone_with_all_asked_at_once(
    server: Server, backbone: Backbone, adapters: dict[str, Adapter]
) -> None:
    def ask(name: str) -> None:
        with server.http() as http:
            for _ in range(5):
                answer = predict(http, "acme", name, TEXTS)
                assert answer["predictions"] == [
                    expected(backbone, adapters[name], text) for text in TEXTS
                ]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, adapters))
    metrics = server.metrics()
    # Some batches were shared, however the requests fell.
    assert total(metrics, "headstock_batch_adapters_sum") > total(
        metrics, "headstock_batch_adapters_count"
    )


def test_a_fan_out_over_several_loras_answers_as_each_alone(
    server: Server, backbone: Backbone, adapters: dict[str, Adapter]
) -> None:
    names = list(adapters)
    with server.http() as http:
        response = http.post(
            "/v1/tenants/acme/predict", json={"adapters": names, "inputs": TEXTS}
        ).raise_for_status()
    for name, result in zip(names, response.json()["results"], strict=True):
        assert result["predictions"] == [expected(backbone, adapters[name], text) for text in TEXTS]


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ({"layer.query": (8, 8), "layer.nowhere": (8, 8)}, "no LoRA site"),
        ({"layer.up": (8, 25)}, "goes from width 8 to 25"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_at_upload(
    server: Server,
    backbone: Backbone,
    adapters: dict[str, Adapter],
    sites: dict[str, tuple[int, int]],
    said: str,
) -> None:
    content = make_adapter_file(backbone=backbone.digest, sites=sites)
    with server.http() as http:
        response = http.post("/v1/tenants/acme/adapters/misfit/versions", content=content)
    assert response.status_code == 422
    assert said in response.json()["detail"]


def test_a_lora_that_overflows_fails_its_own_rows_alone(
    server: Server, backbone: Backbone, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    content = make_adapter_file(
        seed=7, backbone=backbone.digest, sites={"layer.down": SITES["layer.down"]}, scale=1e30
    )
    with server.http() as http:
        upload(http, "acme", "overflowing", content)

    def fail(_: int) -> int:
        with server.http() as http:
            body = {"inputs": TEXTS}
            return http.post("/v1/tenants/acme/adapters/overflowing/predict", json=body).status_code

    def ask(number: int) -> None:
        name = list(adapters)[number % len(adapters)]
        with server.http() as http:
            answer = predict(http, "acme", name, TEXTS)
        assert answer["predictions"] == [expected(backbone, adapters[name], text) for text in TEXTS]

    with ThreadPoolExecutor(16) as pool:
        failed = [pool.submit(fail, number) for number in range(60)]
        list(pool.map(ask, range(120)))
        assert {each.result() for each in failed} == {500}
