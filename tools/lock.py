"""Write what is installed here into the two lock files; `make lock` calls it in a fresh venv.

`constraints.txt` pins everything; `requirements-serving.txt` pins what the serving installation
needs, for images. Both come from one resolve.
"""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = "headstock"
# pip and what it brings: each environment has its own.
_TOOLS = frozenset({"pip", "setuptools", "wheel", PROJECT})
_NOTE = "# Made by `make lock`; do not edit.\n"


def main() -> None:
    """Write both files."""
    installed = {_canonical(each.name): each for each in distributions()}
    everything = installed.keys() - _TOOLS
    _write("constraints.txt", installed, everything)
    _write("requirements-serving.txt", installed, _closure(installed, PROJECT, frozenset()))


def _closure(
    installed: dict[str, Distribution], root: str, extras: frozenset[str]
) -> frozenset[str]:
    """The names of all that `root` needs, itself not included."""
    found: set[str] = set()
    waiting = [(root, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen or name not in installed:
            continue
        seen.add((name, wanted))
        found.add(name)
        for text in installed[name].requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                waiting.append((_canonical(requirement.name), frozenset(requirement.extras)))
    return frozenset(found - _TOOLS)


def _write(file: str, installed: dict[str, Distribution], names: frozenset[str] | set[str]) -> None:
    lines = [f"{name}=={_public(installed[name].version)}\n" for name in sorted(names)]
    (ROOT / file).write_text(_NOTE + "".join(lines))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    """Without the local part: "2.13.0+cpu" is a build of 2.13.0, and indexes differ in builds."""
    return version.partition("+")[0]


if __name__ == "__main__":
    main()
