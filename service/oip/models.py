"""What the protocol tells of the server and its models, with Triton's extensions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from adapters.manifest import Manifest
from adapters.registry import ActiveRelease
from service import VERSION
from service.aside import aside
from service.bounds import INLINE_MODELS
from service.oip.inference import INPUT, OUTPUTS
from service.oip.names import ModelName
from service.oip.schemas import (
    ConfigInput,
    ConfigOutput,
    ConfigParameter,
    DataType,
    InferStatistics,
    ModelConfig,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    StatisticDuration,
    StatisticsList,
    TensorMetadata,
)
from service.routing import Router
from service.statistics import Duration, Statistics

PLATFORM = "headstock"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository(index)",
    "statistics",
)
_TYPES: Mapping[str, DataType] = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}


def server_metadata() -> ServerMetadata:
    """Of this server."""
    return ServerMetadata(name="headstock", version=VERSION, extensions=list(EXTENSIONS))


def model_metadata(model: ModelName, versions: list[int], manifest: Manifest) -> ModelMetadata:
    """Of an adapter with these versions; `manifest` is that of the one that is asked about."""
    n_labels = len(manifest.labels)
    outputs = [
        TensorMetadata(
            name=name,
            datatype=output.datatype,
            shape=[-1, *(n_labels if each < 0 else each for each in output.inner)],
        )
        for name, output in OUTPUTS[manifest.task].items()
    ]
    return ModelMetadata(
        name=str(model),
        versions=[str(number) for number in versions],
        platform=PLATFORM,
        inputs=[TensorMetadata(name=INPUT, datatype="BYTES", shape=[-1])],
        outputs=outputs,
        properties={
            "task": manifest.task,
            "labels": json.dumps(manifest.labels, ensure_ascii=False),
            "backbone": manifest.backbone,
        },
    )


def model_config(metadata: ModelMetadata, most_inputs: int) -> ModelConfig:
    """The configuration that says the same as the metadata, the axis of rows left out."""
    return ModelConfig(
        name=metadata.name,
        platform=metadata.platform,
        backend=metadata.platform,
        max_batch_size=most_inputs,
        input=[
            ConfigInput(name=each.name, data_type=_TYPES[each.datatype], dims=each.shape[1:])
            for each in metadata.inputs
        ],
        output=[
            ConfigOutput(name=each.name, data_type=_TYPES[each.datatype], dims=each.shape[1:])
            for each in metadata.outputs
        ],
        parameters={
            name: ConfigParameter(string_value=value) for name, value in metadata.properties.items()
        },
    )


async def list_statistics(
    router: Router, statistics: Statistics, tenant: str | None
) -> StatisticsList:
    """Those of a tenant's released adapters, of all where None, and of what else was asked."""
    released = router.released_adapters(tenant, ready_only=False)
    return await aside(len(released) > INLINE_MODELS, _listed, released, statistics)


async def find_statistics(
    router: Router, statistics: Statistics, model: ModelName, version: int | None
) -> StatisticsList:
    """Those of one version; without one, as in the list. Raises NotFound, AdapterUnavailable."""
    await router.check(*model, version)
    if version is not None:
        return StatisticsList(model_stats=[_described(model, version, statistics)])
    release, _ = router.released(*model)
    return _listed([(model.tenant, release)], statistics)


def _listed(
    released: Sequence[tuple[str, ActiveRelease]], statistics: Statistics
) -> StatisticsList:
    found = []
    for tenant, release in released:
        asked = statistics.numbers(tenant, release.adapter)
        model = ModelName(tenant, release.adapter)
        found += [
            _described(model, number, statistics) for number in sorted({release.number, *asked})
        ]
    return StatisticsList(model_stats=found)


def _described(model: ModelName, version: int, statistics: Statistics) -> ModelStatistics:
    counts = statistics.of(*model, version)
    return ModelStatistics(
        name=str(model),
        version=str(version),
        last_inference=counts.last_ms,
        inference_count=counts.rows,
        execution_count=counts.runs,
        inference_stats=InferStatistics(
            success=_duration(counts.success),
            fail=_duration(counts.fail),
            queue=_duration(counts.queue),
            compute_input=_duration(counts.prepare),
            compute_infer=_duration(counts.compute),
            compute_output=_duration(counts.conclude),
        ),
    )


def _duration(duration: Duration) -> StatisticDuration:
    return StatisticDuration(**asdict(duration))
