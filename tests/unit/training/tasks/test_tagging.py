import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from adapters.adapter import read_adapter
from adapters.manifest import Calibration, Manifest
from backbone import Backbone, Spans
from tests.tiny import make_tiny_backbone
from training.data.rows import Columns, Rows, read_rows
from training.data.spans import TypedSpans
from training.data.splits import split_rows
from training.errors import InvalidData
from training.evaluate import Evaluated, evaluate_adapter
from training.features import FeatureCache, Progress
from training.recipe import Recipe
from training.tasks import CLASS, Scored, Tagging
from training.train import Trained, train_adapter

TASK = Tagging()
WORDS = Columns(text="tokens", label="tags")
PERSON: TypedSpans = ((0, 4, "person"),)
PLACE: TypedSpans = ((0, 4, "place"),)
BOTH: TypedSpans = ((0, 4, "person"), (8, 12, "place"))


def stage(_: str) -> Progress:
    return lambda *_: None


def read(path: Path, columns: Columns = WORDS) -> Rows[TypedSpans]:
    return read_rows(path, columns, TASK)


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_it_is_one_class_a_token() -> None:
    assert (TASK.NAME, TASK.KIND, TASK.PER_TOKEN) == ("tagging", CLASS, True)


# Cells


def test_words_with_tags(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "rows.jsonl",
        {"tokens": ["Anna", "in", "New", "York"], "tags": ["B-person", "O", "B-place", "I-place"]},
        {"tokens": ["a", "b", "c", "d"], "tags": ["I-x", "I-y", "B-y", "I-y"]},
        {"tokens": ["nobody"], "tags": ["O"]},
    )
    rows = read(path)
    assert rows.texts == ("Anna in New York", "a b c d", "nobody")
    assert rows.targets == (
        ((0, 4, "person"), (8, 16, "place")),
        ((0, 1, "x"), (2, 3, "y"), (4, 7, "y")),
        (),
    )


ENTITIES = [
    {"start": 8, "end": 16, "label": "place", "score": 0.5, "text": "New York"},
    {"start": 0, "end": 4, "label": " person "},
]


def test_a_text_with_entities_in_any_order(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "rows.jsonl",
        {"text": "Anna in New York", "entities": ENTITIES},
        {"text": "[nobody]", "entities": []},
    )
    rows = read(path, Columns(label="entities"))
    assert rows.texts == ("Anna in New York", "[nobody]")
    assert rows.targets == (((0, 4, "person"), (8, 16, "place")), ())


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_entities_as_json_in_a_cell(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    frame = pl.DataFrame({"text": ["Anna in New York", "b"], "label": [json.dumps(ENTITIES), "[]"]})
    frame.write_csv(path, separator="," if suffix == "csv" else "\t")
    assert read(path, Columns()).targets == (((0, 4, "person"), (8, 16, "place")), ())


def test_lists_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"tokens": [["Anna", "is"]], "tags": [["B-person", "O"]]}).write_parquet(path)
    assert read(path).targets == (PERSON,)
    entities = [[{"start": 0, "end": 4, "label": "person"}], []]
    pl.DataFrame({"text": ["Anna is", "b"], "label": entities}).write_parquet(path)
    assert read(path, Columns()).targets == (PERSON, ())


def test_spans_are_those_that_answers_have(tmp_path: Path) -> None:
    """Without space at the ends, with combining marks, in code points."""
    text = "👩‍🚀 ne\u0301 "
    spans = [{"start": 3, "end": 6, "label": "x"}, {"start": 0, "end": 3, "label": "y"}]
    path = write_lines(tmp_path / "rows.jsonl", {"text": text, "label": spans})
    assert read(path, Columns()).targets == (((0, 3, "y"), (4, 7, "x")),)


# Labels


def test_labels_are_both_tags_of_each_type() -> None:
    assert TASK.labels([BOTH, (), PLACE]) == ("B-person", "B-place", "I-person", "I-place", "O")


def test_the_rarest_type_of_a_row_is_its_stratum() -> None:
    assert TASK.strata([BOTH, PLACE, (), PERSON, PERSON]) == [
        "place",
        "place",
        "",
        "person",
        "person",
    ]


def refusal(train: list[TypedSpans], test: list[TypedSpans]) -> str:
    with pytest.raises(InvalidData) as refused:
        TASK.check(train, test)
    return str(refused.value)


def test_what_cannot_be_learnt_or_measured() -> None:
    TASK.check([BOTH, BOTH, ()], [BOTH])
    assert "No training row has an entity" in refusal([(), ()], [PERSON])
    twice: TypedSpans = ((0, 4, "place"), (8, 12, "place"))
    message = refusal([PERSON, PERSON, twice], [PERSON])
    assert "too few training rows, and two are needed: 'place' (1)" in message
    message = refusal([PERSON, PERSON], [PERSON, twice, PLACE])
    assert "never sees labels that the test asks for: 'place' (2)" in message


def test_what_cannot_be_split() -> None:
    TASK.check_all([PERSON] * 3)
    with pytest.raises(InvalidData, match="No row has an entity"):
        TASK.check_all([(), ()])
    with pytest.raises(InvalidData, match=r"three are needed to hold one out: 'place' \(2\)"):
        TASK.check_all([BOTH, BOTH, PERSON])


def test_types_that_an_adapter_does_not_know() -> None:
    TASK.check_known([BOTH], ("B-person", "I-place", "O"))
    with pytest.raises(InvalidData, match=r"does not know: 'place' \(1\)"):
        TASK.check_known([BOTH, PERSON], ("B-person", "I-person", "O"))


def test_our_own_split_keeps_every_type_on_the_training_side() -> None:
    targets = [PERSON] * 10 + [PLACE] * 3 + [()] * 10
    rows = Rows(tuple(f"text {place}" for place in range(23)), tuple(targets), None)
    split = split_rows(rows, TASK, seed=0)
    held = [targets[place] for place in split.test]
    assert (held.count(PERSON), held.count(PLACE), held.count(())) == (2, 1, 2)


# Numbers


def spans_of(*characters: tuple[int, int]) -> Spans:
    return Spans(np.arange(len(characters)), characters)


def test_tokens_of_all_rows_have_a_tag_number_each() -> None:
    labels = TASK.labels([BOTH])
    tokens = [spans_of((0, 2), (2, 4), (5, 7)), spans_of(), spans_of((0, 12))]
    y = TASK.encode([PERSON, PLACE, PLACE], labels, tokens)
    assert [labels[number] for number in y] == ["B-person", "I-person", "O", "B-place"]
    assert y.dtype == np.int64
    assert TASK.encode([PERSON], ("I-person", "O"), tokens[:1]).tolist() == [-1, 0, 1]


def test_losses_and_temperatures_are_those_of_classes() -> None:
    random = np.random.default_rng(0)
    raw = random.normal(size=(5_000, 3)) * 6
    y = (raw / 2 + random.gumbel(size=raw.shape)).argmax(axis=1)
    assert TASK.calibrate(raw, y) == pytest.approx(2, rel=0.05)
    assert TASK.losses(raw, y, 2.0) == pytest.approx(
        -log_softmax(raw / 2, axis=1)[np.arange(5_000), y]
    )
    assert TASK.counts(np.array([0, 2, 2])) == (1, 0, 2)


# Measures and answers

LABELS = ("B-person", "B-place", "I-person", "I-place", "O")
MANIFEST = Manifest(
    task="tagging",
    backbone="0" * 64,
    feature="tokens",
    labels=LABELS,
    calibration=Calibration(temperature=1.0),
)


def scores_of(*tags: str) -> NDArray[np.float32]:
    scores = np.full((len(tags), len(LABELS)), 0.125, dtype=np.float32)
    for place, tag in enumerate(tags):
        scores[place, LABELS.index(tag)] = 0.5
    return scores


SCORED = Scored(
    ["Anna in Rome", "in Rome"],
    [scores_of("B-person", "O", "I-place", "I-place"), scores_of("O", "B-person")],
    [spans_of((0, 4), (4, 7), (7, 10), (10, 12)), spans_of((0, 2), (2, 7))],
)


def test_figures_by_hand() -> None:
    measured = TASK.measure(SCORED, [BOTH, ((3, 7, "place"),)], MANIFEST, seed=0)
    assert {name: estimate.value for name, estimate in measured.items()} == pytest.approx(
        {
            "entity_f1": 4 / 6,
            "entity_precision": 2 / 3,
            "entity_recall": 2 / 3,
            "token_accuracy": 4 / 6,  # "B-place" is "I-place" once, and "B-person" once
        }
    )


def test_predictions_are_as_a_server_writes_them() -> None:
    assert TASK.predictions(SCORED, MANIFEST) == [
        {
            "entities": [
                {"label": "person", "score": 0.5, "start": 0, "end": 4, "text": "Anna"},
                {"label": "place", "score": 0.5, "start": 8, "end": 12, "text": "Rome"},
            ]
        },
        {"entities": [{"label": "person", "score": 0.5, "start": 3, "end": 7, "text": "Rome"}]},
    ]


def test_baselines() -> None:
    train = (["Anna", "Rome"], [PERSON, PLACE])
    test = (["Anna in Rome", "Oslo"], [BOTH, PLACE])
    found = TASK.baselines(train, test, LABELS, 0)
    assert list(found) == ["majority", "lexicon"]
    assert found["majority"]["entity_f1"].value == 0
    assert found["lexicon"]["entity_precision"].value == 1
    assert found["lexicon"]["entity_recall"].value == pytest.approx(2 / 3)
    persons = TASK.baselines(train, test, ("B-person", "O"), 0)["lexicon"]
    assert persons["entity_recall"].value == pytest.approx(1 / 3)
    assert TASK.baselines(([], []), test, LABELS, 0) == {}


# The whole way: digits are codes, capitals names, each a token of the tiny backbone.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def backbone(home: Path) -> Backbone:
    return make_tiny_backbone(home / "backbones")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    lines = []
    for number in range(60):
        word = "".join(random.choice(list("abcdef"), 4))
        entity, label = (("1234", "code"), ("WXYZ", "name"))[number % 2]
        entity = "".join(random.choice(list(entity), 3))
        found = [{"start": 5, "end": 8, "label": label}] if number % 5 else []
        text = f"{word} {entity if found else word} {number:02d}x"
        found += [{"start": len(text) - 3, "end": len(text) - 1, "label": "code"}]
        split = "test" if number >= 40 else "train"
        lines.append({"text": text, "label": found, "split": split})
    return write_lines(tmp_path / "rows.jsonl", *lines)


def train(data: Path, backbone: Backbone, folder: Path) -> Trained:
    recipe = Recipe(task="tagging")
    return train_adapter(data, Columns(), backbone, FeatureCache(folder / "cache"), recipe, stage)


def evaluate(content: bytes, data: Path, home: Path, folder: Path) -> Evaluated:
    cache = FeatureCache(folder / "cache")
    adapter = read_adapter(content)
    return evaluate_adapter(adapter, data, Columns(), home / "backbones", cache, stage)


def test_a_tagger_is_trained_and_measured(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    trained = train(data, backbone, tmp_path)
    manifest = trained.manifest
    assert (manifest.task, manifest.head, manifest.feature) == ("tagging", "linear", "tokens")
    assert manifest.labels == ("B-code", "B-name", "I-code", "I-name", "O")
    assert manifest.training is not None
    rows, tokens = manifest.training.rows, manifest.training.rows_per_label
    assert (rows, tokens[0], tokens[1], tokens[3]) == (40, 56, 16, 32)
    assert manifest.measured is not None
    assert manifest.measured.adapter["token_accuracy"].value > 0.8
    assert train(data, backbone, tmp_path / "again").content == trained.content
    result = evaluate(trained.content, data, home, tmp_path)
    assert result.measured == manifest.measured
    assert len(result.predictions) == 20


def test_predictions_train_again(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    """What an adapter finds, taken as the truth, is what it finds."""
    content = train(data, backbone, tmp_path).content
    found = evaluate(content, data, home, tmp_path).predictions
    rows = [json.loads(line) for line in data.read_text().splitlines()][40:]
    pairs = zip(rows, found, strict=True)
    taken = [{"text": row["text"], "label": each["entities"]} for row, each in pairs]
    again = evaluate(content, write_lines(tmp_path / "taken.jsonl", *taken), home, tmp_path)
    assert again.measured.adapter["entity_f1"].value == 1


def test_entities_beyond_the_cut_are_missed(
    data: Path, backbone: Backbone, home: Path, tmp_path: Path
) -> None:
    content = train(data, backbone, tmp_path).content
    text = "a" * 40 + " 123"
    row = {"text": text, "label": [{"start": 41, "end": 44, "label": "code"}]}
    result = evaluate(content, write_lines(tmp_path / "long.jsonl", row), home, tmp_path)
    assert result.predictions == [{"entities": []}]
    assert result.measured.adapter["entity_recall"].value == 0


def test_a_tag_without_a_token_is_never_answered(backbone: Backbone, tmp_path: Path) -> None:
    """Entities of one token have no "I-x", and here every token is one."""
    rows = [
        {"text": text, "label": [{"start": 0, "end": 1, "label": label}], "split": split}
        for split in ("train", "test")
        for text, label in (("1", "code"), ("2", "code"), ("A", "name"), ("B", "name")) * 2
    ]
    data = write_lines(tmp_path / "rows.jsonl", *rows)
    trained = train(data, backbone, tmp_path)
    assert trained.manifest.training is not None
    assert trained.manifest.training.rows_per_label == (4, 4, 0, 0, 0)
    assert trained.manifest.measured is not None
    assert trained.manifest.measured.adapter["entity_f1"].value == 1
    scores = read_adapter(trained.content).score(np.ones((50, 8), np.float32))
    assert set(scores.argmax(axis=1)) <= {0, 1}
