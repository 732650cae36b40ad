import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.adapter import build_adapter, read_adapter
from adapters.answers import Classified
from adapters.errors import MissingScope, NotFound
from adapters.heads import HeadFailed
from adapters.manifest import Calibration, Manifest
from service.access import Principal
from service.ask import Ask
from service.http.call import long_json_response
from service.schemas import PredictRequest, PredictResponse
from tests.contract.support import ACME, ADMIN, INTENTS, PREDICT, Server, Template, serving

PATIENCE_S = 20


def hold_runs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Semaphore, threading.Event]:
    """Each run says that it began, and waits to be let go."""
    began, go = threading.Semaphore(0), threading.Event()
    real = server.backbone.run

    def run(*arguments: Any) -> Any:
        began.release()
        assert go.wait(PATIENCE_S)
        return real(*arguments)

    monkeypatch.setattr(server.backbone, "run", run)
    return began, go


async def test_a_prediction_has_the_scores_that_the_adapter_gives(server: Server) -> None:
    content = server.file(3, ("a", "b", "c"))
    await server.publish(content)
    inputs = ["hello", "", "a longer text than the backbone takes"]
    wanted = {"inputs": inputs, "top_k": 2}
    answer = await server.ok("POST", PREDICT, server.keys["acme"], json=wanted)
    adapter = read_adapter(content)
    assert answer["backbone"] == server.backbone.digest
    assert answer["adapter"]["digest"] == adapter.digest
    assert len(answer["predictions"]) == 3
    for text, found in zip(inputs, answer["predictions"], strict=True):
        row = server.backbone.preprocess(text)
        expected = adapter.answer(server.backbone.run([row], {"pooled"})["pooled"][0], 2)
        assert isinstance(expected, Classified)
        top = [{"label": label, "score": score} for label, score in expected.top]
        assert found == {**top[0], "top": top}


async def test_top_k_is_one_by_default_and_never_more_than_the_labels(server: Server) -> None:
    top = (await server.predict("x"))["predictions"][0]["top"]
    assert len(top) == 1
    answer = await server.ok("POST", PREDICT, json={"inputs": ["x"], "top_k": 1000})
    top = answer["predictions"][0]["top"]
    assert [each["label"] for each in top] in (["no", "yes"], ["yes", "no"])
    assert sum(each["score"] for each in top) == pytest.approx(1)


async def test_tenants_answer_with_their_own_adapters_of_one_name(server: Server) -> None:
    ours = await server.predict("x", key=server.keys["acme"])
    path = "/v1/tenants/other/adapters/intents"
    theirs = await server.predict("x", path=path, key=server.keys["other"])
    assert (ours["adapter"]["tenant"], theirs["adapter"]["tenant"]) == ("acme", "other")
    assert ours["adapter"]["digest"] != theirs["adapter"]["digest"]
    assert ours["predictions"] != theirs["predictions"]


async def test_rows_of_different_tenants_share_a_batch(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = hold_runs(server, monkeypatch)
    name = {"backbone": server.backbone.name}
    before = server.metric("batch_adapters_count", **name)
    first = asyncio.create_task(server.predict("first"))
    assert await asyncio.to_thread(began.acquire, timeout=PATIENCE_S)
    paths = [INTENTS, "/v1/tenants/other/adapters/intents"]
    others = [asyncio.create_task(server.predict("x", path=path)) for path in paths]
    await server.waiting(2)
    go.set()
    answers = await asyncio.gather(*others)
    await first
    assert [answer["adapter"]["tenant"] for answer in answers] == ["acme", "other"]
    assert server.metric("batch_adapters_count", **name) == before + 2
    assert server.metric("batch_adapters_bucket", le="1.0", **name) == before + 1
    assert server.metric("batch_rows_sum", **name) == 3


async def test_a_full_queue_is_told_with_when_to_come_back(
    tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, template, queue_rows=1) as server:
        began, go = hold_runs(server, monkeypatch)
        first = asyncio.create_task(server.predict("computed"))
        assert await asyncio.to_thread(began.acquire, timeout=PATIENCE_S)
        second = asyncio.create_task(server.predict("waiting"))
        await server.waiting(1)
        problem = await server.problem(503, "POST", PREDICT, json={"inputs": ["refused"]})
        assert problem["code"] == "overloaded"
        go.set()
        await asyncio.gather(first, second)
        await server.predict("welcome again")


async def test_a_tenant_over_its_share_is_told_with_when_to_come_back(
    tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, template, queue_rows=8) as server:
        began, go = hold_runs(server, monkeypatch)
        first = asyncio.create_task(server.predict("computed"))
        assert await asyncio.to_thread(began.acquire, timeout=PATIENCE_S)
        second = asyncio.create_task(server.predict(*["waiting"] * 4))
        await server.waiting(4)
        refused = await server.call("POST", PREDICT, json={"inputs": ["refused"]})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        unread = await server.call("POST", PREDICT, content=b"not even JSON")
        assert unread.status_code == 429  # before any work is done for it
        other = asyncio.create_task(
            server.predict("welcome", path="/v1/tenants/other/adapters/intents")
        )
        await server.waiting(5)
        go.set()
        await asyncio.gather(first, second, other)


async def test_a_body_like_those_that_could_not_wait_is_refused_unread(
    tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, template, queue_rows=8) as server:
        await server.predict(*["learned"] * 4)  # what such a body costs
        like = json.dumps({"inputs": ["learned"] * 4}).replace("inputs", "broken")
        assert (await server.call("POST", PREDICT, content=like)).status_code == 422
        began, go = hold_runs(server, monkeypatch)
        first = asyncio.create_task(server.predict("computed"))
        assert await asyncio.to_thread(began.acquire, timeout=PATIENCE_S)
        second = asyncio.create_task(server.predict(*["waiting"] * 3))
        await server.waiting(3)
        refused = await server.call("POST", PREDICT, content=like)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1

        async def chunks() -> AsyncIterator[bytes]:
            yield like.encode()

        read = await server.call("POST", PREDICT, content=chunks())  # its length is not known
        assert read.status_code == 422
        other = asyncio.create_task(
            server.predict(*["new"] * 2, path="/v1/tenants/other/adapters/intents")
        )
        await server.waiting(5)
        go.set()
        await asyncio.gather(first, second, other)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "1e3", "nan", "", "0.0"])
async def test_a_timeout_that_is_no_time_is_refused(server: Server, seconds: str) -> None:
    headers = {"X-Request-Timeout": seconds}
    problem = await server.problem(422, "POST", PREDICT, json={"inputs": ["x"]}, headers=headers)
    assert "X-Request-Timeout" in problem["detail"]


async def test_a_caller_sets_how_long_it_waits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = {"X-Request-Timeout": "30"}
    assert await server.ok("POST", PREDICT, json={"inputs": ["x"]}, headers=patient)
    _, go = hold_runs(server, monkeypatch)
    hurried = {"X-Request-Timeout": "0.05"}
    problem = await server.problem(504, "POST", PREDICT, json={"inputs": ["x"]}, headers=hurried)
    assert problem["code"] == "deadline-exceeded"
    go.set()


async def test_more_inputs_than_can_ever_wait_are_too_many(
    tmp_path: Path, template: Template
) -> None:
    async with serving(tmp_path, template, queue_rows=2) as server:
        problem = await server.problem(413, "POST", PREDICT, json={"inputs": ["x"] * 3})
        assert "at most 2" in problem["detail"]
        await server.predict("x", "y")


async def test_a_head_that_overflows_fails_its_request_and_no_other(server: Server) -> None:
    weight = np.full((2, 8), 3e38, dtype=np.float32)
    weight[1] *= -1
    manifest = Manifest(
        backbone=server.backbone.digest,
        feature="pooled",
        labels=("no", "yes"),
        calibration=Calibration(temperature=1.0),
    )
    tensors = {"head.weight": weight, "head.bias": np.zeros(2, dtype=np.float32)}
    content = build_adapter(manifest, tensors, np.full((1, 8), 1e-40, dtype=np.float32))
    text = overflowing_text(server, content)
    path = f"{ACME}/adapters/overflowing"
    await server.publish(content, path=path)
    problem, answer = await asyncio.gather(
        server.problem(500, "POST", f"{path}/predict", json={"inputs": [text]}),
        server.predict(text),
    )
    assert problem["code"] == "head-failed"
    assert answer["adapter"]["name"] == "intents"
    assert server.metric("failed_rows_total", backbone=server.backbone.name) == 1


def overflowing_text(server: Server, content: bytes) -> str:
    """A letter on which the adapter of that file fails."""
    adapter, backbone = read_adapter(content), server.backbone
    for letter in "abcdefghijklmnopqrstuvwxyz":
        pooled = backbone.run([backbone.preprocess(letter)], {"pooled"})["pooled"][0]
        try:
            adapter.score(pooled)
        except HeadFailed:
            return letter
    raise AssertionError("no letter overflows")


async def test_no_request_sees_half_a_swap(server: Server) -> None:
    """Every answer comes from the version that it names, however often versions change."""
    swapping = True
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        while swapping:
            answers.append(await server.predict("one", "two", "three"))

    async def swap() -> None:
        nonlocal swapping
        for number in range(2, 22):
            labels = (f"{number}-a", f"{number}-b")
            await server.publish(server.file(number, labels))
            assert (await server.predict("x"))["adapter"]["version"] == number
        swapping = False

    await asyncio.gather(swap(), *(ask() for _ in range(8)))
    seen = {answer["adapter"]["version"] for answer in answers}
    assert len(seen) > 5
    for answer in answers:
        number = answer["adapter"]["version"]
        labels = [each["label"] for each in answer["predictions"]]
        expected = ("no", "yes") if number == 1 else (f"{number}-a", f"{number}-b")
        assert set(labels) <= set(expected)
    assert server.metric("resident_adapters") == 1  # the old ones are gone


async def test_the_pipeline_asks_for_itself_who_may(server: Server) -> None:
    """Whichever transport calls it."""
    request = PredictRequest(inputs=["x"])
    predict = server.runtime.pipeline.predict
    other = Principal("key", "other", frozenset({"predict", "publish"}))
    publisher = Principal("key", "acme", frozenset({"publish"}))
    with pytest.raises(NotFound):
        await predict(Ask(other), "acme", "intents", request)
    with pytest.raises(MissingScope):
        await predict(Ask(publisher), "acme", "intents", request)


async def test_a_backbone_that_is_not_served_here_is_named(server: Server) -> None:
    release = server.runtime.registry.publish(
        "acme",
        "elsewhere",
        digest=read_adapter(server.file(0)).digest,
        backbone="c" * 64,
        manifest="{}",
        content=server.file(0),
        activate=True,
        actor="admin",
    ).release
    assert release is not None
    await server.runtime.follower.catch_up()
    path = f"{ACME}/adapters/elsewhere/predict"
    problem = await server.problem(503, "POST", path, ADMIN, json={"inputs": ["x"]})
    assert problem["code"] == "adapter-unavailable"
    assert "c" * 64 in problem["detail"]


@pytest.mark.settings(max_scores=6)
async def test_an_answer_has_a_bounded_number_of_scores(server: Server) -> None:
    for top_k in (2, 1000):
        wanted = {"inputs": ["x"] * 4, "top_k": top_k}
        problem = await server.problem(413, "POST", PREDICT, json=wanted)
        assert "4 inputs with 2 labels each" in problem["detail"]
    await server.ok("POST", PREDICT, json={"inputs": ["x"] * 3, "top_k": 1000})
    await server.predict(*["x"] * 6)


@pytest.mark.settings(max_adapter_bytes=100)
async def test_the_adapters_of_a_request_have_a_bound(server: Server) -> None:
    problem = await server.problem(413, "POST", PREDICT, json={"inputs": ["x"]})
    assert "100 bytes; ask fewer" in problem["detail"]


@pytest.mark.settings(max_head_bytes=100)
async def test_the_weights_that_a_request_reads_have_a_bound(server: Server) -> None:
    problem = await server.problem(413, "POST", PREDICT, json={"inputs": ["x"] * 3})
    assert "send at most" in problem["detail"]


@pytest.mark.settings(max_answer_bytes=1024, queue_rows=100_000, max_inputs=2000)
async def test_an_answer_has_a_bounded_length(server: Server) -> None:
    problem = await server.problem(413, "POST", PREDICT, json={"inputs": ["x"] * 1500, "top_k": 2})
    assert "at most 1024 bytes" in problem["detail"]


async def test_much_is_parsed_and_put_together_aside(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    parse_short, parse_long = PredictRequest.model_validate_json, PredictRequest.model_validate
    dump = PredictResponse.model_dump_json

    def noted(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*args, **options)

        return call

    monkeypatch.setattr(PredictRequest, "model_validate_json", noted(parse_short))
    monkeypatch.setattr(PredictRequest, "model_validate", noted(parse_long))
    monkeypatch.setattr(PredictResponse, "model_dump_json", noted(dump))
    monkeypatch.setattr("service.http.handlers.long_json_response", noted(long_json_response))
    wanted = {"inputs": ["x" * 70] * 1001, "top_k": 2}
    answer = await server.ok("POST", PREDICT, json=wanted)
    assert len(answer["predictions"]) == 1001
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    threads.clear()
    await server.predict("x")
    assert threads == [threading.main_thread()] * 2


async def test_a_released_file_that_is_no_adapter_is_no_fault_of_who_asks(server: Server) -> None:
    content = b"no adapter at all"
    server.runtime.registry.publish(
        "acme",
        "broken",
        digest=hashlib.sha256(content).hexdigest(),
        backbone=server.backbone.digest,
        manifest="{}",
        content=content,
        activate=True,
        actor="admin",
    )
    await server.runtime.follower.catch_up()
    path = f"{ACME}/adapters/broken/predict"
    problem = await server.problem(503, "POST", path, json={"inputs": ["x"]})
    assert problem["code"] == "adapter-unavailable"
