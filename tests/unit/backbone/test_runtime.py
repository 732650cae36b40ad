"""What ONNX Runtime says of a run that fails."""

from pathlib import Path

import numpy as np
import pytest

from backbone.kernels import open_session
from backbone.manifest import MODEL_FILE
from tests.tiny import make_tiny_backbone


def test_a_run_that_fails_raises_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = make_tiny_backbone(tmp_path).name
    session = open_session(tmp_path / name / MODEL_FILE)
    no_such_token = np.full((1, 2), 10**6, np.int64)
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {node.name: no_such_token for node in session.get_inputs()})
    assert capfd.readouterr() == ("", "")
