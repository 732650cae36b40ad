"""Nothing is sent anywhere; nothing is written beside Headstock's home and temporary files.

Every kind of process runs in a network of its own, as a new user, where `tests/namespace.py` sees
what native code sends, too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backbone.telemetry import OPT_OUTS
from tests.curves import write_curves
from tests.encoders import save_model
from tests.fleet import job, write_manifest, write_rows
from tests.integration.server import ADMIN_KEY, ROOT
from tests.tiny import make_tiny_backbone

# First with a user namespace, which needs no rights; containers may forbid either.
UNSHARE = (["unshare", "--user", "--map-root-user", "--net"], ["unshare", "--net"])
LIFE = """
headstock() { "$PYTHON" -m headstock "$@"; }
headstock backbone add "$INPUTS/bert" --name added & adding=$!
headstock train --manifest "$INPUTS/jobs.jsonl" --output files --ray local
wait $adding
headstock curves "$INPUTS/run" --image curves.png
"$PYTHON" -m headstock serve & serving=$!
until "$PYTHON" -m service.ready; do sleep 0.5; done
headstock tenant create tenant-0
headstock push files/tenant-0/intents.safetensors --tenant tenant-0 --name intents --activate
headstock predict tenant-0/intents hello
kill $serving
wait $serving
"""
# What ONNX Runtime does where nobody stops it: writes files at once, and asks its server later.
REPORTS = """
import os
for name in OPT_OUTS: os.environ.pop(name, None)
os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # nobody answers
import onnxruntime, socket
socket.create_connection(("collector.example.org", 443))
"""


@dataclass(frozen=True)
class User:
    """Somebody new on a machine, with folders that are empty."""

    folder: Path
    temporary: Path

    def run(self, *command: str) -> tuple[int, list[str], str]:
        """Exit status, where packets went, standard error."""
        kept = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}  # no CI, no settings of ours
        variables = {
            "PYTHONPATH": str(ROOT),
            "PYTHON": sys.executable,
            "INPUTS": str(self.folder / "inputs"),
            "HOME": str(self.folder / "user"),
            "TMPDIR": str(self.temporary),
            "HEADSTOCK_HOME": str(self.folder / "headstock home"),
            "HEADSTOCK_ADMIN_KEY": ADMIN_KEY,
            "HEADSTOCK_KEY": ADMIN_KEY,
            # As in a pod beside a Service of the same name; empty ones are unset.
            "HEADSTOCK_PORT": "tcp://10.0.0.1:8000",
            "HEADSTOCK_SERVICE_HOST": "10.0.0.1",
            "HEADSTOCK_PORT_8000_TCP": "tcp://10.0.0.1:8000",
            "HEADSTOCK_GRPC_PORT": "",
            "HEADSTOCK_HOST": "localhost",
            "HEADSTOCK_RUNS": "",
            "HEADSTOCK_SERVER": "",
        }
        done = subprocess.run(
            [*unshare(), sys.executable, "-m", "tests.namespace", *command],
            cwd=self.folder / "work",
            env=kept | variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, json.loads(done.stdout or "[]"), done.stderr

    def written(self) -> list[str]:
        """Files and folders in the user's home."""
        return [str(each.relative_to(self.folder)) for each in self.folder.glob("user/**/*")]


def unshare() -> list[str]:
    """The way to a network of one's own on this machine; skips the test where there is none."""
    for command in UNSHARE:
        if shutil.which("unshare") and not subprocess.call([*command, "true"], stderr=-3):
            return command
    pytest.skip("this machine lets nobody have a network namespace")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    for name in ("user", "work", "inputs/run"):
        (tmp_path / name).mkdir(parents=True)
    # Ray has sockets there, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="hs", dir="/tmp") as temporary:
        yield User(tmp_path, Path(temporary))


def test_the_life_of_a_user_sends_nothing_and_writes_nothing_elsewhere(user: User) -> None:
    inputs = user.folder / "inputs"
    save_model(inputs / "bert", "bert")
    write_rows(inputs / "0.csv")
    write_manifest(inputs, [job(0)])
    write_curves(inputs / "run" / "probe.jsonl", [0.9, 0.5, 0.7])
    make_tiny_backbone(user.folder / "headstock home" / "backbones")
    status, sent, said = user.run("sh", "-ec", LIFE)
    assert status == 0, said
    assert sent == [], said
    assert said.count("HEADSTOCK_PORT=tcp://10.0.0.1:8000 is a link to a Service") == 1
    assert user.written() == []
    assert sorted(each.name for each in user.folder.glob("work/*")) == ["curves.png", "files"]


def test_what_is_sent_and_written_would_be_seen(user: User) -> None:
    """As the test above sees it: the libraries do it, in native code."""
    code = f"OPT_OUTS = {list(OPT_OUTS)}\n{REPORTS}"
    _, sent, _ = user.run(sys.executable, "-c", code)
    assert any(each.endswith(" port 53") for each in sent)
    assert any("onnxruntime" in each for each in user.written())


def test_bentomls_own_command_forgets_that_it_was_not_told(user: User) -> None:
    """`bentoml serve` asks whether it may report before it imports the service."""
    code = (
        "from bentoml._internal.utils.analytics import usage_stats\n"
        "before = usage_stats.do_not_track()\n"
        "import service.app\n"
        "print([before, usage_stats.do_not_track()])\n"
    )
    bare = {name: value for name, value in os.environ.items() if name not in OPT_OUTS}
    home = {"HEADSTOCK_HOME": str(user.folder / "home"), "HOME": str(user.folder / "user")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=bare | home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[False, True]"
