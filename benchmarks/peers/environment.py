"""A virtual environment for each peer, made once and kept until its requirements change."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.peer import Unavailable
from headstock.commands.common import settings
from headstock.output import note

_INSTALL_S = 900
_REASON_LINES = 4


def programs(folder: str) -> Path:
    """The `bin` folder of the environment for `benchmarks/peers/FOLDER`. Raises Unavailable."""
    requirements = Path(__file__).parent / folder / "requirements.txt"
    return make_environment(requirements, settings().home.absolute() / "bench" / "peers" / folder)


def make_environment(requirements: Path, home: Path) -> Path:
    """The `bin` folder of the environment in `home`, made if its requirements are others.

    The requirements name every package, so pip is told to add none by itself: an open dependency
    on torch would bring gigabytes of CUDA.

    Raises:
        Unavailable: pip failed, with the end of what it said.
    """
    stamp = home / "installed.txt"
    wanted = requirements.read_text()
    if not stamp.is_file() or stamp.read_text() != wanted:
        note(f"installing {home.name} ...")
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        pip = str(home / "bin" / "pip")
        _run(pip, "install", "--quiet", "--no-deps", "--requirement", str(requirements))
        _run(pip, "check")
        stamp.write_text(wanted)
    return home / "bin"


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not installed after {_INSTALL_S} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-_REASON_LINES:]
        raise Unavailable(f"will not install: {' '.join(said)}")
