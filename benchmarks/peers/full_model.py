"""What every peer serves for a tenant: an encoder of its own with a classifier of its own.

It runs in the peers' environments: NumPy, ONNX Runtime and tokenizers are all that is there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from backbone.cores import cores

MODEL, TOKENIZER, HEAD = "model.onnx", "tokenizer.json", "head.npz"
# Headstock's own way, and the faster one: single-threaded runs, as many at once as there are cores.
RUNS = cores()


class FullModel:
    """One tenant's model, from a folder with the three files. Safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(folder / MODEL), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()
        with np.load(folder / HEAD) as head:
            self._weight, self._labels = head["weight"], head["labels"]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text; the texts are one batch."""
        encoded = self._tokenizer.encode_batch(list(texts))
        feeds = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
        }
        (pooled,) = self._session.run(["pooled"], feeds)
        labels: list[str] = self._labels[(pooled @ self._weight.T).argmax(axis=1)].tolist()
        return labels
