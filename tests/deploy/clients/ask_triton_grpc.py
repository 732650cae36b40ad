"""The same over gRPC, with the messages that the client was made with."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

address, key, model, texts = json.loads(sys.argv[1])
headers = {"authorization": f"Bearer {key}"}
given = triton.InferInput("text", [len(texts)], "BYTES")
given.set_data_from_numpy(np.array(texts, dtype=object))
refused = {}
with triton.InferenceServerClient(address) as client:
    extensions = list(client.get_server_metadata(headers).extensions)
    config = client.get_model_config(model, headers=headers, as_json=True)["config"]
    for compression in (None, "gzip", "deflate"):
        found = client.infer(model, [given], headers=headers, compression_algorithm=compression)
    stats = client.get_inference_statistics(model, "1", headers=headers, as_json=True)
    every = client.get_inference_statistics(headers=headers, as_json=True)
    for name, call in {
        "shared memory": lambda: client.get_system_shared_memory_status(headers=headers),
        "cuda": lambda: client.unregister_cuda_shared_memory(headers=headers),
        "trace": lambda: client.get_trace_settings(headers=headers),
        "log": lambda: client.get_log_settings(headers=headers),
        "load": lambda: client.load_model(model, headers=headers),
        "other": lambda: client.get_inference_statistics("other.intents", headers=headers),
    }.items():
        try:
            call()  # type: ignore[no-untyped-call]  # tritonclient has no types
        except InferenceServerException as error:
            refused[name] = f"{error.status()} {error.message()}"


async def ask() -> list[str]:
    async with triton_aio.InferenceServerClient(address) as client:
        found = await client.infer(model, [given], headers=headers)
        stats = await client.get_inference_statistics(model, headers=headers)
        assert stats.model_stats[0].execution_count >= 2
        return [each.decode() for each in found.as_numpy("label")]


labels = [each.decode() for each in found.as_numpy("label")]
assert asyncio.run(ask()) == labels
print(
    json.dumps(
        {
            "extensions": extensions,
            "config": config,
            "stats": stats["model_stats"],
            "every": every["model_stats"],
            "labels": labels,
            "refused": refused,
        }
    )
)
