"""The adapter manifest: what a file says of itself. `adapters/FORMAT.md` is the specification."""

import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adapters.strict_json import strict_json

MAX_LABELS = 10_000
MAX_LABEL_CHARS = 200


def _check_label(label: str) -> str:
    if not label or len(label) > MAX_LABEL_CHARS or label != label.strip():
        raise ValueError(f"a label has 1 to {MAX_LABEL_CHARS} characters and no space around it")
    # Control characters could forge log lines, lone surrogates cannot be sent as UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
        raise ValueError("a label has no control characters and no lone surrogates")
    return label


def _check_unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("labels are distinct")
    return labels


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, AfterValidator(_check_label)]
Labels = Annotated[
    tuple[Label, ...], Field(min_length=2, max_length=MAX_LABELS), AfterValidator(_check_unique)
]
Text = Annotated[str, Field(max_length=200)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Calibration(_Part):
    """Scores are softmax(logits / temperature)."""

    temperature: Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]


class Training(_Part):
    """What the adapter was trained on, enough to tell whether two runs are the same."""

    rows: Count
    rows_per_label: tuple[Count, ...]
    fingerprint: Digest
    seed: Count
    settings: dict[Text, Text | Real]


class Estimate(_Part):
    """A measured value with its 95 % confidence interval."""

    value: Real
    low: Real
    high: Real


class Measured(_Part):
    """Metrics of the adapter and of each baseline on the same test rows."""

    rows: Count
    adapter: dict[Text, Estimate]
    baselines: dict[Text, dict[Text, Estimate]]


class Manifest(_Part):
    """One adapter version, less its tensors."""

    format: Literal[1] = 1
    task: Literal["classification"] = "classification"
    head: Literal["linear"] = "linear"
    backbone: Digest
    feature: Text
    labels: Labels
    calibration: Calibration
    training: Training | None = None
    measured: Measured | None = None

    def to_json(self) -> str:
        """Canonical JSON: the same manifest is always the same bytes."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )


def parse_manifest(text: str) -> Manifest:
    """Strictly parse a manifest.

    Raises:
        ValueError: not JSON, doubled keys, or not a manifest (pydantic's ValidationError is one).
    """
    content: Any = strict_json(text)
    labels = content.get("labels") if isinstance(content, dict) else None
    # Said before validation, which would first walk a list of any length.
    if isinstance(labels, list) and len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels are more than the limit of {MAX_LABELS}")
    return Manifest.model_validate_json(text)
