"""Where a result goes."""

import os
import stat
from pathlib import Path

from training.errors import TrainingError


def check_output(path: Path, *inputs: Path) -> None:
    """Say before the work that a result cannot be written, or would replace one of the inputs.

    Raises TrainingError.
    """
    if path.exists() and any(each.exists() and path.samefile(each) for each in inputs):
        raise TrainingError(f"{path} is the input itself; name another file for the result")
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        raise TrainingError(f"{path} is a folder; name a file")
    if not stat.S_ISREG(mode):
        # It would be replaced: a pipe's reader would wait for ever, a device would be gone.
        raise TrainingError(f"{path} is a device, pipe or socket; name a file")
    if not path.absolute().parent.is_dir():
        raise TrainingError(f"the folder {path.absolute().parent} does not exist; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise TrainingError(f"the folder {path.absolute().parent} cannot be written")


def _mode(path: Path) -> int:
    """What stands at the path, behind links; a file where nothing does yet."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from error
