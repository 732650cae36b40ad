"""A model of MLServer's: one tenant's full model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.full_model import RUNS, FullModel

# One pool for all tenants of a process: more runs than cores would only get in each other's way.
_pool = ThreadPoolExecutor(RUNS)


class Tenant(MLModel):  # type: ignore[misc]  # mlserver is not installed where mypy runs
    """Texts in, labels out, as strings of the Open Inference Protocol."""

    async def load(self) -> bool:
        """Read the tenant's folder."""
        self.model = FullModel(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The label of each text, off the event loop."""
        texts = StringCodec.decode_input(payload.inputs[0])
        loop = asyncio.get_running_loop()
        labels = await loop.run_in_executor(_pool, self.model.predict, texts)
        output = StringCodec.encode_output("labels", labels)
        return InferenceResponse(model_name=self.name, outputs=[output])
