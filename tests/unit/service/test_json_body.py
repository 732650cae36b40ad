"""Short and long bodies are parsed in two ways that give the same."""

import json
from codecs import BOM_UTF8
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from adapters.errors import HeadstockError, TooLarge
from service import schemas
from service.http.json_body import Model, dump_in_turns, is_short, parse_long, parse_short
from service.oip.schemas import IndexedModel, InferRequest, ModelIndex
from service.settings import Settings

SETTINGS = Settings(max_inputs=10)
INFER = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]}],'
BODIES: list[tuple[type[Any], bytes]] = [
    (schemas.PredictRequest, b'{"inputs":["a","\\u00e9\\ud83d\\ude42"],"top_k":3}'),
    (schemas.PredictRequest, b'{"inputs":["a"],"top_k":3.0}'),
    (schemas.PredictRequest, b'{"inputs":["a"],"top_k":true}'),
    (schemas.PredictRequest, b'{"inputs":["a"],"top_k":1%s}' % (b"0" * 300)),
    (schemas.PredictRequest, b'{"inputs":["a",1,2]}'),
    (schemas.PredictRequest, b'{"inputs":["a"],"more":1}'),
    (schemas.PredictRequest, b'{"inputs":{"0":"a"}}'),
    (schemas.PredictRequest, b'{"inputs":["\\ud800"]}'),
    (schemas.PredictRequest, b'["a"]'),
    (schemas.PredictRequest, b'{"inputs":["a"]'),
    (schemas.PredictRequest, b'{"inputs":["a"],"inputs":["b"]}'),
    (schemas.PredictRequest, b'{"inputs":["\xff"]}'),
    (schemas.PredictRequest, b"{" + b",".join(b'"%d":1' % n for n in range(1200)) + b"}"),
    (schemas.PredictRequest, BOM_UTF8 + b'{"inputs":["a"]}'),
    (schemas.PredictRequest, BOM_UTF8 * 2 + b'{"inputs":["a"]}'),
    (schemas.PredictRequest, BOM_UTF8),
    (schemas.FanOutRequest, b'{"inputs":["a"],"adapters":["b","c"],"top_k":2}'),
    (schemas.FanOutRequest, b'{"inputs":["a"],"adapters":["b","b"]}'),
    (schemas.EmbeddingsRequest, b'{"input":"a","model":"b","encoding_format":"base64"}'),
    (schemas.EmbeddingsRequest, b'{"input":["a"],"model":"b","encoding_format":"hex"}'),
    (schemas.EmbeddingsRequest, b'{"input":[1],"model":"b"}'),
    (schemas.NewKeyRequest, b'{"scopes":["predict"],"expires_in_s":60}'),
    (schemas.NewKeyRequest, b'{"scopes":["admin"]}'),
    (schemas.KeyRotation, b"{}"),
    (schemas.Quota, b'{"bytes":null,"adapters":-1}'),
    (InferRequest, INFER + b'"id":"x","parameters":{"binary_data_output":true}}'),
    (InferRequest, INFER + b'"outputs":[{"name":"label","parameters":{"a":[1.5,null]}}]}'),
    (InferRequest, INFER + b'"parameters":null,"outputs":null}'),
    (InferRequest, INFER + b'"unknown":[{"a":{"b":[]}}]}'),
    (InferRequest, INFER.replace(b"[1]", b'["1"]') + b'"id":null}'),
]


def outcome(parse: Any, *args: Any) -> Any:
    try:
        return parse(*args)
    except HeadstockError as error:
        return type(error), error.code


@pytest.mark.parametrize(("model", "body"), BODIES, ids=lambda value: str(value)[:50])
def test_both_ways_give_the_same(model: type[Model], body: bytes) -> None:
    assert outcome(parse_long, body, model, Settings()) == outcome(parse_short, body, model)


@pytest.mark.parametrize("text", ["a", "a" * 70_000])
def test_a_byte_order_mark_before_the_json_is_left_out(text: str) -> None:
    body = BOM_UTF8 + json.dumps({"inputs": [text]}).encode()
    for found in (
        parse_short(body, schemas.PredictRequest),
        parse_long(body, schemas.PredictRequest, Settings()),
    ):
        assert found.inputs == [text]


def test_short_bodies_are_known_by_their_bytes_or_their_elements() -> None:
    assert is_short(b'{"inputs":["%s"]}' % (b"x" * 60_000))
    assert is_short(b"1," * 1_000)
    assert not is_short(b"1," * 2_001)
    assert not is_short(b" " * 70_000)


@pytest.mark.parametrize("text", ["[{,:" * 2000, '"' * 8000, "\\" * 8000, "\n" * 8000, "🙂" * 2000])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_that_look_like_json_are_texts(text: str, ascii_only: bool) -> None:
    wanted = {"inputs": [text] * 1024}
    body = json.dumps(wanted, ensure_ascii=ascii_only).encode()
    request = parse_long(body, schemas.PredictRequest, Settings())
    assert request.inputs == wanted["inputs"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"inputs":[' + b'"",' * 5_000 + b'""]}', "5001 inputs; a request has at most 10"),
        (b'{"input" :\n[' + b'"a,",' * 5_000 + b'""]}', "5001 inputs; a request has at most 10"),
        (b'{"inputs":[' + b"[1]," * 5_000 + b"1]}", "more than 1184 values and keys"),
        (b'{"inputs":["a"],"x":[' + b"1," * 5_000 + b"1]}", "more than 1184 values and keys"),
        (b'{"inputs":["%s"]}' % (b"x" * 1_200_001), "a string of more than 1200000 bytes"),
    ],
)
def test_too_much_is_refused_before_it_is_parsed(
    body: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.json_body.strict_json_in_turns", None)
    with pytest.raises(TooLarge, match=reason):
        parse_long(body, schemas.PredictRequest, SETTINGS)


SCORED = schemas.Scored(label='a "label" é\u2028', score=0.1)
RESPONSE = schemas.PredictResponse(
    adapter=schemas.AdapterRef(tenant="a", name="b", version=1, digest="c"),
    backbone="d",
    truncated=[0, 2],
    predictions=[
        schemas.ClassificationPrediction(label="x", score=1e-9, top=[SCORED] * 3),
        schemas.MultilabelPrediction(labels=[], top=[SCORED]),
        schemas.RegressionPrediction(values={"é": 1.5}),
    ],
)
EMBEDDINGS = schemas.EmbeddingsResponse(
    data=[
        schemas.Embedding(index=0, embedding=[0.1, -1e-9, 3.0]),
        schemas.Embedding(index=1, embedding="aGk="),
    ],
    model="m",
    usage=schemas.TokenUsage(prompt_tokens=1, total_tokens=1),
    truncated=[1],
)
VERSIONS = schemas.VersionList(
    versions=[
        schemas.VersionRow(
            version=1,
            digest="d",
            backbone="b",
            size=1,
            created_at=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        )
    ]
)
INDEX = ModelIndex([IndexedModel(name="a.b", version="1", state="READY", reason="")] * 2)


@pytest.mark.parametrize("lists", [0, 1, 2])
@pytest.mark.parametrize(
    "content",
    [RESPONSE, schemas.FanOutResponse(results=[RESPONSE, RESPONSE]), EMBEDDINGS, VERSIONS, INDEX],
    ids=lambda content: type(content).__name__,
)
def test_answers_in_turns_are_the_same_bytes(content: BaseModel, lists: int) -> None:
    assert dump_in_turns(content, lists) == content.model_dump_json()
