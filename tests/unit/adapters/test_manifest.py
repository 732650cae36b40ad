import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from adapters.manifest import (
    HEADS_OF,
    MAX_FINDINGS,
    Evidence,
    Finding,
    HeadName,
    Manifest,
    TaskName,
    parse_manifest,
)
from tests.support import PAIRS, SITES, make_manifest

CENTROID = {"metric": "cosine", "scale": 1.0}
KNN = {"metric": "cosine", "k": 1}
TRAINING = {"rows": 3, "fingerprint": "a" * 64, "seed": 0, "settings": {}}


def changed(task: TaskName, head: HeadName, **changes: Any) -> Manifest:
    content = make_manifest(task=task).model_dump() | {"head": head} | changes
    return Manifest.model_validate(content)


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_manifests_of_every_kind_round_trip(task: TaskName, head: HeadName) -> None:
    manifest = make_manifest(task=task, head=head, sites=SITES)
    assert parse_manifest(manifest.to_json()) == manifest


@pytest.mark.parametrize("task", get_args(TaskName))
@pytest.mark.parametrize("head", get_args(HeadName))
def test_a_head_that_cannot_do_a_task_is_refused_with_those_that_can(
    task: TaskName, head: HeadName
) -> None:
    if (task, head) in PAIRS:
        return
    reason = f"a {head} head cannot do {task}; its heads are {', '.join(HEADS_OF[task])}"
    with pytest.raises(ValidationError, match=reason):
        changed(task, head)


@pytest.mark.parametrize(
    ("task", "head", "changes", "reason"),
    [
        ("classification", "linear", {"calibration": None}, "calibration: classification needs"),
        ("multilabel", "linear", {"calibration": None}, "calibration: multilabel needs it"),
        ("tagging", "linear", {"calibration": None}, "calibration: tagging needs it"),
        (
            "regression",
            "linear",
            {"calibration": {"temperature": 1.0}},
            "calibration: regression has none",
        ),
        ("multilabel", "mlp", {"thresholds": None}, "thresholds: multilabel needs it"),
        ("multilabel", "mlp", {"thresholds": (0.5,)}, "thresholds: 1 for 2 labels"),
        ("classification", "mlp", {"thresholds": (0.5, 0.5)}, "classification has none"),
        ("classification", "centroid", {"centroid": None}, "centroid: a centroid head needs it"),
        ("classification", "knn", {"knn": None}, "knn: a knn head needs it"),
        ("classification", "linear", {"knn": KNN}, "knn: a linear head has none"),
        ("classification", "knn", {"centroid": CENTROID}, "centroid: a knn head has none"),
        ("classification", "linear", {"labels": ("a",)}, "needs at least 2, not 1"),
        ("tagging", "linear", {"labels": ("O",)}, "needs at least 2, not 1"),
        ("tagging", "linear", {"labels": ("B-x", "I-x")}, "tagging needs 'O'"),
        ("tagging", "linear", {"labels": ("O", "x")}, "'x' is no tag"),
        ("tagging", "linear", {"labels": ("O", "B-")}, "label '' is empty"),
        ("tagging", "linear", {"labels": ("O", "B- x")}, "has space around it"),
        (
            "tagging",
            "linear",
            {"labels": ("O", *(f"B-{number}" for number in range(256)))},
            "at most 256, not 257",
        ),
        (
            "regression",
            "linear",
            {"training": {**TRAINING, "rows_per_label": (3,)}},
            "rows_per_label: 1 for 2 labels",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(
    task: TaskName, head: HeadName, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        changed(task, head, **changes)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_one_label_is_enough_where_labels_do_not_compete(task: TaskName) -> None:
    manifest = make_manifest(("only",), task=task)
    assert manifest.labels == ("only",)


@pytest.mark.parametrize("task", get_args(TaskName))
def test_the_rows_of_every_task_can_be_described(task: TaskName) -> None:
    labels = make_manifest(task=task).labels
    training = {**TRAINING, "rows_per_label": (1,) * len(labels)}
    assert changed(task, "linear", training=training).training is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": [[]] * 200_000}, "it has more than 100000 values and keys"),
        ({"x": "a" * 10_001}, "a string of more than 10000 bytes"),
        ({str(n): n for n in range(20_000)}, "keys are more than it can have"),
        ({"lora": {str(n): n for n in range(20_000)}}, "lora: 20000 keys"),
        ({"measured": {"baselines": {str(n): {} for n in range(100)}}}, "baselines: 100 keys"),
        ({"measured": {"adapter": {str(n): {} for n in range(100)}}}, "the numbers value, low"),
        (
            {"measured": {"baselines": {"a": {str(n): {"value": 1} for n in range(100)}}}},
            "the numbers value, low",
        ),
        ({"findings": [{"evidence": {str(n): [] for n in range(100)}}]}, "more evidence than 16"),
        ({"findings": [{str(n): n for n in range(100)}]}, "findings: one has more keys"),
        ({"training": {"settings": {str(n): [] for n in range(100)}}}, "a text or a number"),
    ],
)
def test_faults_that_would_be_listed_key_by_key_are_told_before(
    change: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({**json.loads(make_manifest().to_json()), **change})
    monkeypatch.setattr(Manifest, "model_validate_json", None)
    with pytest.raises(ValueError, match=reason):
        parse_manifest(text)


def test_a_manifest_may_have_as_many_parts_as_its_labels_ask_for() -> None:
    labels = tuple(f"label {number}" for number in range(10_000))
    metric = {"value": 0.5, "low": 0.25, "high": 1}
    measured = {"rows": 1, "adapter": {f"m{n}": metric for n in range(5_000)}, "baselines": {}}
    training = {
        "rows": 10_000,
        "rows_per_label": [1] * 10_000,
        "fingerprint": "ab" * 32,
        "seed": 0,
        "settings": {f"s{number}": 0.5 for number in range(500)},
    }
    thresholds = [0.5] * 10_000
    plain = json.loads(make_manifest(labels, task="multilabel").to_json())
    text = json.dumps(
        {**plain, "thresholds": thresholds, "training": training, "measured": measured}
    )
    assert parse_manifest(text).measured is not None


def test_findings_come_back_as_they_were() -> None:
    evidence: dict[str, Evidence] = {"rows": 3, "loss": 0.5, "which": ("a", 1, 2.5), "none": ()}
    finding = Finding(code="some-code", severity="info", text="It is.", evidence=evidence)
    manifest = make_manifest().model_copy(update={"findings": (finding,) * MAX_FINDINGS})
    (first, *_) = parse_manifest(manifest.to_json()).findings
    assert first == finding
    assert json.loads(manifest.to_json())["findings"][0]["evidence"]["rows"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"code": "Some code"},
        {"code": "x" * 65},
        {"severity": "fatal"},
        {"text": ""},
        {"text": "x" * 2001},
        {"evidence": {"x": {"y": 1}}},
        {"evidence": {"x": None}},
        {"evidence": {"x": "y" * 201}},
        {"evidence": {"x": [1] * 17}},
        {"more": 1},
    ],
)
def test_findings_of_another_form_are_refused(change: dict[str, Any]) -> None:
    finding = {"code": "some-code", "severity": "info", "text": "It is.", "evidence": {}}
    content = json.loads(make_manifest().to_json())
    with pytest.raises(ValueError, match="findings"):
        parse_manifest(json.dumps({**content, "findings": [{**finding, **change}]}))
    with pytest.raises(ValueError, match="findings"):
        parse_manifest(json.dumps({**content, "findings": [finding] * (MAX_FINDINGS + 1)}))
