"""No library may report to its maker: each is told so before any of them is imported.

`backbone/__init__.py` calls this, and the first import of every other package of the project is
`backbone`: so no process can forget it. Processes that ours start inherit the variables.
"""

import os
from typing import Final

OPT_OUTS: Final = {
    # ONNX Runtime writes a device id under the user's home and looks its collector up, both on
    # import; its own call to turn that off comes too late.
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",  # exactly that
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # what several others look for
}


def disable_telemetry() -> None:
    """Set the variables, for this process and those that it starts."""
    os.environ.update(OPT_OUTS)
