"""The adapter manifest: what a file says of itself. `adapters/FORMAT.md` is the specification."""

import json
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adapters.json_size import JsonLimits, find_excess
from adapters.strict_json import strict_json

TaskName = Literal["classification", "multilabel", "regression", "tagging"]
HeadName = Literal["linear", "mlp", "centroid", "knn"]
Metric = Literal["cosine", "euclidean"]
# Centroids and neighbours give votes for one label of a whole row, and nothing else.
HEADS_OF: dict[TaskName, tuple[HeadName, ...]] = {
    "classification": ("linear", "mlp", "centroid", "knn"),
    "multilabel": ("linear", "mlp"),
    "regression": ("linear", "mlp"),
    "tagging": ("linear", "mlp"),
}
OUTSIDE = "O"  # the tag of a token that belongs to no entity
MAX_TAGS = 256  # a tagging head is computed for every token
MAX_LAYERS = 256
MAX_RANK = 64
MAX_SITES = 254  # two tensors each, beside the smallest head's and the golden rows' within 512
MAX_SITE_CHARS = 200
MAX_LABELS = 10_000
MAX_LABEL_CHARS = 200
MAX_FINDINGS = 64
MAX_EVIDENCE = 16  # values of one finding, and elements of a list among them
MAX_ELEMENTS = 100_000  # values and keys: 3 for each of 10,000 labels, 8 for each of 8,000 metrics
MANIFEST_LIMITS = JsonLimits(elements=MAX_ELEMENTS, text_bytes=10_000, other_bytes=4 * 2**20)
_FEW_KEYS = 30


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


def _check_distinct_sites(sites: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(sites)) != len(sites):
        raise ValueError("sites are distinct")
    return sites


def check_site(site: str) -> str:
    """The site's name as it is. Raises ValueError."""
    if not 1 <= len(site) <= MAX_SITE_CHARS or not site.isprintable():
        raise ValueError(f"a site's name has 1 to {MAX_SITE_CHARS} printable characters")
    return site


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, AfterValidator(check_label)]
# Sequences stop at their first fault: to list those of all elements takes seconds.
Labels = Annotated[
    tuple[Label, ...],
    Field(min_length=1, max_length=MAX_LABELS, fail_fast=True),
    AfterValidator(_check_unique),
]
Site = Annotated[str, AfterValidator(check_site)]
Sites = Annotated[
    tuple[Site, ...],
    Field(min_length=1, max_length=MAX_SITES, fail_fast=True),
    AfterValidator(_check_distinct_sites),
]
Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# Weights of layers, which float32 holds with room for a sum of them.
Mix = Annotated[
    tuple[Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)], ...],
    Field(min_length=2, max_length=MAX_LAYERS, fail_fast=True),
]
Scale = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=200)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Calibration(_Part):
    """Raw outputs are divided by the temperature before they become probabilities."""

    temperature: Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]


class CentroidSettings(_Part):
    """Of a centroid head: raw outputs are scale times similarity."""

    metric: Metric
    scale: Annotated[Scale, Field(gt=0)]


class KnnSettings(_Part):
    """Of a knn head: a neighbour's vote falls as exp(-scale times what it is less near)."""

    metric: Metric
    k: Annotated[int, Field(ge=1, le=10_000)]
    scale: Scale = 0.0


class LoraSettings(_Part):
    """The sites inside the backbone where a product of low rank is added."""

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)]
    sites: Sites


class Training(_Part):
    """What the adapter was trained on, enough to tell whether two runs are the same."""

    rows: Count
    rows_per_label: Annotated[tuple[Count, ...], Field(fail_fast=True)]
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


Severity = Literal["info", "warning"]
_Fact = Text | Annotated[int, Field(ge=-(2**53), le=2**53)] | Real
Evidence = _Fact | Annotated[tuple[_Fact, ...], Field(max_length=MAX_EVIDENCE)]


class Finding(_Part):
    """One result of a check of the training: `code` is stable, `evidence` is for programs."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    severity: Severity
    text: Annotated[str, Field(min_length=1, max_length=2000)]
    evidence: Annotated[dict[Text, Evidence], Field(max_length=MAX_EVIDENCE)] = {}


class Manifest(_Part):
    """One adapter version, less its tensors."""

    format: Literal[1] = 1
    task: TaskName = "classification"
    head: HeadName = "linear"
    backbone: Digest
    feature: Text
    mix: Mix | None = None
    labels: Labels
    calibration: Calibration | None = None
    thresholds: Annotated[tuple[Threshold, ...], Field(fail_fast=True)] | None = None
    centroid: CentroidSettings | None = None
    knn: KnnSettings | None = None
    lora: LoraSettings | None = None
    training: Training | None = None
    measured: Measured | None = None
    findings: Annotated[tuple[Finding, ...], Field(max_length=MAX_FINDINGS, fail_fast=True)] = ()

    @property
    def temperature(self) -> float:
        """The calibration's, of a task that has one."""
        assert self.calibration is not None, f"{self.task} is calibrated"
        return self.calibration.temperature

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.head not in HEADS_OF[self.task]:
            raise ValueError(
                f"a {self.head} head cannot do {self.task}; its heads are "
                f"{', '.join(HEADS_OF[self.task])}"
            )
        _check_belongs("calibration", self.calibration, self.task != "regression", self.task)
        _check_belongs("thresholds", self.thresholds, self.task == "multilabel", self.task)
        for head, section in (("centroid", self.centroid), ("knn", self.knn)):
            _check_belongs(head, section, self.head == head, f"a {self.head} head")
        if self.task == "tagging":
            _check_belongs("mix", self.mix, False, self.task)
        self._check_labels()
        return self

    def _check_labels(self) -> None:
        n_labels = len(self.labels)
        if self.task in ("classification", "tagging") and n_labels < 2:
            raise ValueError(f"labels: {self.task} needs at least 2, not {n_labels}")
        if self.task == "tagging":
            _check_tags(self.labels)
        if self.thresholds is not None and len(self.thresholds) != n_labels:
            raise ValueError(f"thresholds: {len(self.thresholds)} for {n_labels} labels")
        if self.training is not None and len(self.training.rows_per_label) != n_labels:
            raise ValueError(
                f"training.rows_per_label: {len(self.training.rows_per_label)} for {n_labels} "
                "labels"
            )

    def to_json(self) -> str:
        """Canonical JSON: the same manifest is always the same bytes."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )


def _check_belongs(key: str, value: object, belongs: bool, to: str) -> None:
    if belongs and value is None:
        raise ValueError(f"{key}: {to} needs it")
    if not belongs and value is not None:
        raise ValueError(f"{key}: {to} has none; leave it out or null")


def _check_tags(labels: tuple[str, ...]) -> None:
    if len(labels) > MAX_TAGS:
        raise ValueError(f"labels: tagging has at most {MAX_TAGS}, not {len(labels)}")
    if OUTSIDE not in labels:
        raise ValueError(f"labels: tagging needs {OUTSIDE!r}, for tokens of no entity")
    for label in labels:
        if label != OUTSIDE and not (label[:2] in ("B-", "I-") and check_label(label[2:])):
            raise ValueError(
                f"labels: {label[:40]!a} is no tag: tags are {OUTSIDE!r}, 'B-…' and 'I-…'"
            )


def parse_manifest(text: str) -> Manifest:
    """Strictly parse a manifest.

    Raises:
        ValueError: not JSON, doubled keys, or not a manifest (pydantic's ValidationError is one).
    """
    excess = find_excess(text.encode(), MANIFEST_LIMITS)
    if excess is not None:
        raise ValueError(f"it has {excess}")
    content: Any = strict_json(text)
    labels = content.get("labels") if isinstance(content, dict) else None
    # Said before validation, which would first walk a list of any length.
    if isinstance(labels, list) and len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels are more than the limit of {MAX_LABELS}")
    if isinstance(content, dict):
        _check_objects(content)
    return Manifest.model_validate_json(text)


def _check_objects(content: dict[str, Any]) -> None:
    """Raise ValueError for objects whose faults pydantic would list key by key, for seconds."""
    training, measured = (_object(content.get(name)) for name in ("training", "measured"))
    baselines = _object(measured.get("baselines"))
    for name, value in {"manifest": content, **content, "measured.baselines": baselines}.items():
        if isinstance(value, dict) and len(value) > _FEW_KEYS:
            raise ValueError(f"{name[:80]}: {len(value)} keys are more than it can have")
    findings = content.get("findings")
    for finding in map(_object, findings if isinstance(findings, list) else ()):
        if len(finding) > _FEW_KEYS or len(_object(finding.get("evidence"))) > MAX_EVIDENCE:
            raise ValueError(f"findings: one has more keys, or more evidence than {MAX_EVIDENCE}")
    settings = _object(training.get("settings"))
    if len(settings) > _FEW_KEYS and not all(map(_is_setting, settings.values())):
        raise ValueError("training.settings: each is a text or a number")
    for metrics in (measured.get("adapter"), *baselines.values()):
        metrics = _object(metrics)
        if len(metrics) > _FEW_KEYS and not all(map(_is_estimate, metrics.values())):
            raise ValueError("measured: each metric has the numbers value, low and high")


def _object(value: Any) -> dict[str, Any]:
    """An object, or none where there is something else, which pydantic tells."""
    return value if isinstance(value, dict) else {}


def _is_setting(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_estimate(value: Any) -> bool:
    return _object(value).keys() == Estimate.model_fields.keys() and all(
        isinstance(each, int | float) for each in value.values()
    )
