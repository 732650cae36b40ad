"""xSID: trained on English rows alone, measured in other languages and dialects."""

import csv
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.adapter import Adapter, read_adapter
from backbone import Backbone
from benchmarks.common import Figure, headstock, table
from headstock.commands.common import feature_cache, open_backbone
from training.evaluate import score_texts
from training.features import encode_texts
from training.tasks import TASKS

FILE = "xsid/tidy.csv"
BACKBONES = ("me5-small", "minilm")
LANGUAGES = {
    "en": "English",
    "de": "German",
    "it": "Italian",
    "nl": "Dutch",
    "zh": "Chinese",
    "tr": "Turkish",
    "de-ba": "Bavarian",
    "de-muc": "Bavarian of Munich",
    "de-st": "South Tyrolean",
    "gsw": "Swiss German",
    "nap": "Neapolitan",
    "no": "Norwegian, several dialects",
}
_LEAST = 2  # rows of a label that training takes


@dataclass(frozen=True, slots=True)
class _Row:
    """Holds a text with its intent."""

    text: str
    label: str


def measure(data: Path | None, quick: bool) -> str:
    """Train on the English validation rows with each backbone; accuracy in each language."""
    file = None if data is None else data / FILE
    if file is None or not file.is_file():
        return f"Not run: there is no {FILE} in the data folder."
    rows = read(file)
    known = trained_on(rows["en", "valid"])
    figures = []
    shares: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in BACKBONES[1:] if quick else BACKBONES:
            headstock("backbone", "add", name)  # does nothing if it is there
            adapter, seconds = _train(name, known, rows["en", "test"], Path(folder))
            figures.append(Figure(f"`headstock train`, {name}", f"{seconds:.0f} s"))
            backbone = open_backbone(name)
            shares[name] = {
                language: _accuracy(adapter, backbone, rows[language, "test"])
                for language in LANGUAGES
            }
    figures += [
        Figure(
            f"{full} (`{language}`), {len(rows[language, 'test']):,} rows: accuracy",
            "; ".join(f"{name} {share[language]:.1%}" for name, share in shares.items()),
        )
        for language, full in LANGUAGES.items()
    ]
    return f"{_described(known, rows['en', 'valid'])}\n\n{table(figures)}"


def _described(known: Sequence[_Row], given: Sequence[_Row]) -> str:
    return (
        f"xSID 0.7 (CC BY-SA 4.0): intents of requests to an assistant. Trained on {len(known)} of "
        f"the {len(given)} English validation rows, without the labels that have one row; no row "
        "of another language was seen. Test rows of labels that training did not have count as "
        "wrong."
    )


def read(file: Path) -> Mapping[tuple[str, str], list[_Row]]:
    """Read the rows by language and split."""
    found: dict[tuple[str, str], list[_Row]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            key = (row["language"], row["split"])
            found.setdefault(key, []).append(_Row(row["text"], row["label"]))
    return found


def trained_on(rows: Sequence[_Row]) -> list[_Row]:
    """Leave out rows of labels that have too few of them."""
    counts = Counter(row.label for row in rows)
    return [row for row in rows if counts[row.label] >= _LEAST]


def _train(
    backbone: str, rows: Sequence[_Row], test: Sequence[_Row], folder: Path
) -> tuple[Adapter, float]:
    """Train an adapter; gives it, and the seconds of the command."""
    labels = {row.label for row in rows}
    file, output = folder / "rows.csv", folder / f"{backbone}.safetensors"
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["text", "label", "split"])
        writer.writerows([row.text, row.label, "train"] for row in rows)
        writer.writerows([row.text, row.label, "test"] for row in test if row.label in labels)
    started = time.perf_counter()
    headstock("train", str(file), "--backbone", backbone, "--output", str(output))
    return read_adapter(output.read_bytes()), time.perf_counter() - started


def _accuracy(adapter: Adapter, backbone: Backbone, rows: Sequence[_Row]) -> float:
    """Measure the share of right answers, by the code that answers requests."""
    texts = [row.text for row in rows]
    feature = adapter.manifest.feature
    encoded = encode_texts(backbone, texts, feature, feature_cache(), lambda *_: None)
    scored = score_texts(adapter.score, texts, encoded)
    answers = TASKS[adapter.manifest.task].predictions(scored, adapter.manifest)
    pairs = zip(answers, rows, strict=True)
    right = sum(bool(answer["label"] == row.label) for answer, row in pairs)
    return right / len(rows)
