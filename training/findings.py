"""What the checks of a training may find: each kind with its severity. TRAINING.md explains all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from adapters.manifest import Evidence, Finding, Severity

KINDS: Final[Mapping[str, Severity]] = {
    "conflicting-labels": "warning",
    "held-out-rows": "info",
    "inputs-truncated": "info",
    "leaked-test-rows": "warning",
    "lora-base-unknown": "warning",
    "lora-diverged": "warning",
    "lora-head-left-out": "info",
    "lora-left-out": "info",
    "lora-not-searched": "info",
    "mix-left-out": "info",
    "not-converged": "info",
    "not-logged": "warning",
    "repeated-rows": "info",
    "similar-labels": "warning",
    "unlabelled-drawn": "info",
    "unlabelled-left-out": "info",
    "unlabelled-measured": "info",
    "unsearched": "warning",
    "unused-rows": "info",
    "weak-adapter": "warning",
}
_OFTEN = 0.05  # of the rows are truncated: what the adapter misses is no exception any more
_SHOWN = 5


def make_finding(
    code: str, text: str, *, severity: Severity | None = None, **evidence: Evidence
) -> Finding:
    """Make a finding of a kind; `severity` stands in place of the kind's own.

    The text and the evidence are kept in adapter files, so neither quotes training rows.
    """
    return Finding(code=code, severity=severity or KINDS[code], text=text, evidence=evidence)


def find_truncated(
    truncated: Mapping[str, Sequence[bool]], max_length: int | None
) -> tuple[Finding, ...]:
    """Report inputs that are longer than the backbone reads, by what they are used for."""
    counts = {name: (sum(flags), len(flags)) for name, flags in truncated.items() if any(flags)}
    if not counts:
        return ()
    shown = " and ".join(f"{cut:,} of {rows:,} {name} rows" for name, (cut, rows) in counts.items())
    is_often = any(cut > _OFTEN * rows for cut, rows in counts.values())
    evidence: dict[str, Evidence] = {f"{name}_rows": cut for name, (cut, _) in counts.items()}
    return (
        make_finding(
            "inputs-truncated",
            f"{shown} are longer than the {max_length} tokens that the backbone reads and were "
            "cut: what stands beyond has no part in the adapter",
            severity="warning" if is_often else None,
            **evidence,
            max_length=max_length or 0,
        ),
    )


def number_rows(places: Iterable[int]) -> str:
    """Name the first few rows by their numbers in the data, which begin with 1."""
    numbers = [place + 1 for place in places]
    first = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN:,} more" if len(numbers) > _SHOWN else ""
    return f"row{'s' if len(numbers) > 1 else ''} {first}{more}"
