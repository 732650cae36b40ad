"""Triton's client over HTTP, blocking and asynchronous: all that a model tells of itself."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

address, key, model, texts = json.loads(sys.argv[1])
headers = {"Authorization": f"Bearer {key}"}
given = triton.InferInput("text", [len(texts)], "BYTES")
given.set_data_from_numpy(np.array(texts, dtype=object))
refused = {}
with triton.InferenceServerClient(address) as client:
    extensions = client.get_server_metadata(headers)["extensions"]
    config = client.get_model_config(model, headers=headers)
    for compression in (None, "gzip", "deflate"):
        found = client.infer(
            model,
            [given],
            headers={**headers},  # the client adds its own to them, which stay there
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
    stats = client.get_inference_statistics(model, "1", headers=headers)
    every = client.get_inference_statistics(headers=headers)
    for name, call in {
        "shared memory": lambda: client.get_system_shared_memory_status(headers=headers),
        "cuda": lambda: client.unregister_cuda_shared_memory(headers=headers),
        "trace": lambda: client.get_trace_settings(headers=headers),
        "trace of a model": lambda: client.update_trace_settings(model, {}, headers=headers),
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
        assert await client.get_model_config(model, headers=headers) == config
        found = await client.infer(model, [given], headers=headers)
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
