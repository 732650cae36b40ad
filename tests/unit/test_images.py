"""What the images promise before they are built: who runs in them, what they listen on."""

import re
from pathlib import Path

import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instruction(name: str) -> str:
    """The last instruction of this name."""
    *_, last = re.finditer(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)
    return last[1]


def test_the_user_is_a_number_that_is_not_roots() -> None:
    """Kubernetes refuses `runAsNonRoot` with a name, which could be root's."""
    assert instruction("USER") == "10001"


def test_any_user_of_group_0_may_write_the_state() -> None:
    """As OpenShift runs images: with a user that nobody has heard of."""
    (install,) = re.findall(r"install -d (.*) /state", DOCKERFILE)
    assert re.fullmatch(r"-o 10001 -g 0 -m 2(\d)\1\d", install)


def test_signals_reach_the_server_from_the_first_moment() -> None:
    assert instruction("ENTRYPOINT") == '["env", "--block-signal=TERM", "headstock"]'


def test_images_listen_on_all_interfaces_and_laptops_do_not() -> None:
    assert "HEADSTOCK_HOST=0.0.0.0" in DOCKERFILE
    envs = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["envs"]
    assert {each["name"]: each["value"] for each in envs} == {"HEADSTOCK_HOST": "0.0.0.0"}
    assert Settings.model_fields["host"].default == "127.0.0.1"
