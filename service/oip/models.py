"""What the protocol tells of the server and its models."""

import json

from adapters.manifest import Manifest
from service import VERSION
from service.oip.inference import INPUT, OUTPUTS
from service.oip.names import ModelName
from service.oip.schemas import ModelMetadata, ServerMetadata, TensorMetadata

PLATFORM = "headstock"
EXTENSIONS = ("binary_tensor_data", "model_repository(index)")


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
