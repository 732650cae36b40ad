"""One BentoML service that holds all tenants' models in one process."""

import os
from pathlib import Path

import bentoml

from benchmarks.peers.full_model import RUNS, FullModel


@bentoml.service(
    workers=1,
    threads=RUNS,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Tenants:
    """All tenants' models, loaded at start."""

    def __init__(self) -> None:
        folders = [Path(folder) for folder in os.environ["PEER_FOLDERS"].split(os.pathsep)]
        self.models = {folder.name: FullModel(folder) for folder in folders}

    @bentoml.api  # type: ignore[untyped-decorator]  # bentoml types it so
    def predict(self, tenant: str, texts: list[str]) -> list[str]:
        """The label of each text, from the tenant's own model."""
        return self.models[tenant].predict(texts)
