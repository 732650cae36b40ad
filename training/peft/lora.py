"""The tensors of a PEFT folder to LoRA at a backbone's sites, and the head that comes with it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora, check_lora, make_lora
from adapters.manifest import MAX_RANK, MAX_SITES, Finding
from backbone import Manifest
from training.errors import InvalidPeft
from training.findings import make_finding
from training.peft.base import check_base
from training.peft.config import PeftConfig
from training.peft.folder import PeftFolder, read_folder

_PREFIX = "base_model.model."  # how PEFT calls the model that it wraps
_FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_SAVED = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")
# Modules behind the tokens in the families of transformers: whatever they compute, no feature is.
_HEAD = {"classifier", "pre_classifier", "score", "pooler"}
_SHOWN = 10

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PeftLora:
    """A folder's LoRA at a backbone's sites, and what was found about it.

    `head` are tensors of modules behind the features, by their names in the model; `head_lora` the
    modules there that have LoRA, which changes no feature; `family` what transformers calls the
    encoder in the model ("bert", "distilbert"), "" where it is the model.
    """

    folder: PeftFolder
    lora: Lora
    head: Mapping[str, Matrix]
    head_lora: tuple[str, ...]
    family: str
    findings: tuple[Finding, ...]

    @property
    def settings(self) -> dict[str, str | float]:
        """Where it comes from, for a manifest."""
        base = self.folder.config.base_model_name_or_path or ""
        return {"lora": "peft", "lora_sha256": self.folder.digest, "lora_base": base[:200]}


def read_peft(path: Path, manifest: Manifest, any_base: bool = False) -> PeftLora:
    """Read a PEFT folder for a backbone. With `any_base` the base model's name is not compared.

    Raises:
        InvalidPeft: the folder cannot be taken as it is.
        InvalidAdapter: its LoRA has other widths than the backbone's sites.
    """
    folder = read_folder(path)
    findings = () if any_base else check_base(folder.config, manifest)
    factors, head, unknown = _sort(folder.tensors)
    sites, head_lora, family = _places(factors, tuple(manifest.sites), unknown)
    if manifest.source.kind == "onnx":
        unknown += head_lora  # features may be tapped behind a pooler, which is no site
    if unknown:
        raise InvalidPeft(
            f"{path} has weights that LoRA of backbone {manifest.name} cannot have: "
            f"{_listed(unknown)}; there can be some at the sites that headstock backbone show lists"
        )
    if not sites:
        raise InvalidPeft(f"{path} has no LoRA at any site of backbone {manifest.name}")
    if len(sites) > MAX_SITES:
        raise InvalidPeft(f"{path} has LoRA at {len(sites)} sites; {MAX_SITES} are allowed")
    ready = {
        site: _scaled(module, *_pair(module, factors[module]), folder.config)
        for site, module in sites.items()
    }
    rank = max(len(a) for a, _ in ready.values())
    lora = make_lora({site: (_padded(a, rank), _padded(b, rank)) for site, (a, b) in ready.items()})
    check_lora(lora, {name: (each.inputs, each.outputs) for name, each in manifest.sites.items()})
    if head_lora:
        left_out = make_finding(
            "lora-head-left-out",
            f"LoRA behind the features is left out: {_listed(head_lora)}",
            modules=len(head_lora),
        )
        findings = (*findings, left_out)
    return PeftLora(folder, lora, head, head_lora, family, findings)


def _sort(
    tensors: Mapping[str, Matrix],
) -> tuple[dict[str, dict[str, Matrix]], dict[str, Matrix], list[str]]:
    """Factors "A", "B" by module, tensors of the head, and names of all others."""
    factors: dict[str, dict[str, Matrix]] = {}
    head: dict[str, Matrix] = {}
    unknown = []
    for name in sorted(tensors):
        inside = _SAVED.sub("", name.removeprefix(_PREFIX))
        found = _FACTOR.fullmatch(inside)
        if not name.startswith(_PREFIX) or inside in head:
            unknown.append(name)
        elif found and found[2] not in factors.get(found[1], {}):
            factors.setdefault(found[1], {})[found[2]] = tensors[name]
        elif _is_head(inside) and ".lora_" not in inside:
            head[inside] = tensors[name]
        else:
            unknown.append(name)
    return factors, head, unknown


def _places(
    modules: Iterable[str], sites: Sequence[str], unknown: list[str]
) -> tuple[dict[str, str], tuple[str, ...], str]:
    """Module by site, modules of the head, the family; all others are appended to `unknown`."""
    found: dict[str, str] = {}
    head, families = [], set()
    for module in modules:
        match = _match(module, sites)
        if match is not None and match[0] not in found:
            found[match[0]] = module
            families.add(match[1])
        elif match is None and _is_head(module):
            head.append(module)
        else:
            unknown.append(module)
    if len(families) > 1:
        raise InvalidPeft(
            f"its modules stand under several models: {_listed(sorted(families))}; the LoRA of one "
            "encoder can be taken"
        )
    return found, tuple(head), next(iter(families), "")


def _match(module: str, sites: Sequence[str]) -> tuple[str, str] | None:
    """The one site that a module is, and what stands before it in the module's name.

    A graph that somebody else exported may have the family's name before its sites instead.
    """
    known = frozenset(sites)
    parts = module.split(".")
    for start in range(len(parts)):
        if (inside := ".".join(parts[start:])) in known:
            return inside, ".".join(parts[:start])
    longer = [site for site in sites if site.endswith(f".{module}")]
    return (longer[0], "") if len(longer) == 1 else None


def _is_head(name: str) -> bool:
    return not _HEAD.isdisjoint(name.split("."))


def _pair(module: str, factors: Mapping[str, Matrix]) -> tuple[Matrix, Matrix]:
    if missing := {"A", "B"} - set(factors):
        raise InvalidPeft(f"module {module[:120]!a} has no lora_{missing.pop()}; both are needed")
    return factors["A"], factors["B"]


def _scaled(module: str, a: Matrix, b: Matrix, config: PeftConfig) -> tuple[Matrix, Matrix]:
    """A [r, in] as it stands, and B [out, r] transposed and scaled."""
    rank = config.rank(module)
    shown = ascii(module[:120])
    if a.ndim != 2 or b.ndim != 2 or not len(a) == b.shape[1] == rank:
        raise InvalidPeft(
            f"module {shown} has lora_A {list(a.shape)} and lora_B {list(b.shape)}; with the rank "
            f"{rank} of its configuration they are [{rank}, width in] and [width out, {rank}]"
        )
    if rank > MAX_RANK:
        raise InvalidPeft(f"module {shown} has rank {rank}; an adapter has at most {MAX_RANK}")
    with np.errstate(over="ignore"):  # said below
        scaled = (b.T.astype(np.float64) * config.scale(module)).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise InvalidPeft(f"module {shown}: lora_B is too large once it is scaled by alpha / rank")
    return a, scaled


def _padded(values: Matrix, rank: int) -> Matrix:
    """Rows of zeros below: they add nothing, and an adapter has one rank at all sites."""
    padded = np.zeros((rank, values.shape[1]), np.float32)
    padded[: len(values)] = values
    return padded


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(ascii(name[:120]) for name in names[:_SHOWN]) + more
