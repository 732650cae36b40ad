"""A PEFT folder with a head of its own to an adapter file: nothing is fitted or measured."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from adapters.adapter import build_adapter
from adapters.errors import InvalidAdapter
from adapters.manifest import Calibration, Manifest, TaskName
from backbone import Backbone
from backbone.samples import SAMPLE_TEXTS
from training.errors import InvalidPeft
from training.features import POOLED, TOKENS, FeatureCache, compute_features, encode_texts
from training.peft.head import CarriedHead, read_head
from training.peft.labels import saved_labels
from training.peft.lora import PeftLora, read_peft
from training.train import Trained, golden_rows
from training.workshop import Stage


def import_adapter(
    folder: Path,
    backbone: Backbone,
    cache: FeatureCache,
    stage: Stage,
    labels: Sequence[str] | None = None,
    task: TaskName | None = None,
    any_base: bool = False,
) -> Trained:
    """An adapter of the LoRA and the head that the folder has.

    Labels are those of the folder's `config.json` where none are given. There is no calibration
    to take over: the temperature is 1, thresholds are 0.5.

    Raises:
        InvalidPeft, InvalidAdapter: the folder cannot be taken, or does not fit the backbone.
        TrainingError, BackboneError: its features cannot be computed.
    """
    peft = read_peft(folder, backbone.manifest, any_base)
    head = read_head(peft, task)
    for feature in {_feature(head), *((TOKENS,) if head.of_first_token else ())}:
        if feature not in backbone.manifest.features:
            raise InvalidPeft(f"the head takes {feature}, which backbone {backbone.name} lacks")
    names = _labels(peft, head.outputs, labels)
    manifest = _manifest(peft, head, names, backbone)
    encoded = encode_texts(
        backbone, SAMPLE_TEXTS, _feature(head), cache, stage("features"), peft.lora
    )
    if head.of_first_token:
        _check_pooling(backbone, cache, stage, peft, np.stack(encoded.features))
    # Of tags each row is a token's.
    golden = golden_rows(np.concatenate([np.atleast_2d(each) for each in encoded.features]))
    tensors = {**head.tensors, **peft.lora.tensors()}
    manifest = manifest.model_copy(update={"findings": peft.findings})
    content = build_adapter(manifest, tensors, golden)
    return Trained(content, hashlib.sha256(content).hexdigest(), manifest)


def _feature(head: CarriedHead) -> str:
    return TOKENS if head.task == "tagging" else POOLED


def _manifest(
    peft: PeftLora, head: CarriedHead, labels: tuple[str, ...], backbone: Backbone
) -> Manifest:
    try:
        return Manifest(
            task=head.task,
            head=head.head,
            backbone=backbone.digest,
            feature=_feature(head),
            labels=labels,
            calibration=None if head.task == "regression" else Calibration(temperature=1.0),
            thresholds=(0.5,) * len(labels) if head.task == "multilabel" else None,
            lora=peft.lora.settings,
        )
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise InvalidAdapter(reason.removeprefix("Value error, ")) from error


def _labels(peft: PeftLora, outputs: int, given: Sequence[str] | None) -> tuple[str, ...]:
    labels = saved_labels(peft.folder.path) if given is None else tuple(given)
    if labels is None:
        raise InvalidPeft(
            f"{peft.folder.path} does not say what its {outputs} outputs mean: name them in their "
            "order with --labels a,b,c or --labels FILE, a label a line"
        )
    if len(labels) != outputs:
        raise InvalidPeft(
            f"the head of {peft.folder.path} has {outputs} outputs, and "
            f"{len(labels)} labels are named"
        )
    return labels


def _check_pooling(
    backbone: Backbone,
    cache: FeatureCache,
    stage: Stage,
    peft: PeftLora,
    pooled: NDArray[np.float32],
) -> None:
    """Refuse a backbone that does not pool by the first token, which its manifest does not say."""
    tokens = compute_features(backbone, SAMPLE_TEXTS, TOKENS, cache, stage("tokens"), peft.lora)
    if not np.array_equal(pooled, np.stack([each[0] for each in tokens])):
        raise InvalidPeft(
            f"the head of {peft.folder.path} takes the first token's vector, and backbone "
            f"{backbone.name} pools otherwise: add the base model as a backbone whose folder "
            'pools by the first token: pooling_mode "cls" in 1_Pooling/config.json'
        )
