"""The adapter manifest: what a file says of itself. `adapters/FORMAT.md` is the specification."""

import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adapters.strict_json import strict_json

MAX_LABELS = 10_000
MAX_LABEL_CHARS = 200


def check_label(label: str) -> str:
    """The label as it is. Raises ValueError that says what is wrong with it."""
    shown = f"the label {label[:40]!r}"
    if not label or label != label.strip():
        raise ValueError(f"{shown} is empty or has space around it")
    if len(label) > MAX_LABEL_CHARS:
        raise ValueError(f"{shown} has {len(label)} characters; {MAX_LABEL_CHARS} are allowed")
    kinds = {unicodedata.category(character) for character in label}
    # They could forge lines of a log, as Unicode's line and paragraph separators can.
    if kinds & {"Cc", "Zl", "Zp"}:
        raise ValueError(f"{shown} has a control character in it")
    if "Cs" in kinds:
        raise ValueError(f"{shown} has a lone surrogate in it, which cannot be sent as UTF-8")
    return label


def _check_unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("labels are distinct")
    return labels


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, AfterValidator(check_label)]
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
